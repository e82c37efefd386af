"""Fitted parameters as a TOML file: `tierstream policy fit` writes it, a policy names it (`[risk] parameters`).

It records the log that the parameters were fitted to and how good they are. The part that a policy uses has a digest,
which is part of the policy's name in every output: `annual-spend@1+3f9a01c2`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson
from msgspec import Struct
from xxhash import xxh3_64_hexdigest

from models import units

FORM: Final = 1
"""The version of this file's form."""
DIGEST_CHARACTERS: Final = 8


class Table(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A table of the file."""


class About(Table, kw_only=True):
    """`[fit]`: the log that the parameters were fitted to. It is for people; a policy uses only the horizon."""

    log: list[str]
    events: int
    customers: int
    begins: str
    ends: str
    horizon: str
    origins: list[str]
    """The instants whose outcomes the score card was fitted to."""
    calibrated_at: str
    kept_defaults: list[str] = []
    """The terms for which the log has too little data."""

    @property
    def ends_ms(self) -> int:
        """When the log ended."""
        return units.parse_time(self.ends)


class Metrics(Table, kw_only=True):
    """`[metrics]`: how good the score is on outcomes that it was not fitted to."""

    customers: int
    churned: float
    auc: float
    brier: float
    brier_of_base_rate: float


class Purchases(Table, kw_only=True):
    """`[purchases]`: MBG/NBD, time in weeks. Standard errors are in the order r, alpha_weeks, a, b."""

    r: float
    alpha_weeks: float
    a: float
    b: float
    log_likelihood: float
    standard_errors: list[float]


class Spend(Table, kw_only=True):
    """`[spend]`: Gamma-Gamma, for the spend on a day with a purchase. Standard errors are in the order p, q, v."""

    currency: str
    p: float
    q: float
    v: float
    log_likelihood: float
    standard_errors: list[float]


class CardTable(Table, kw_only=True):
    """`[card]`: the weights of the score card (models.risk.Card)."""

    intercept: float
    model: float
    silence: float
    frequency: float
    spend: float
    basket_trend: float
    typical_spend: str


class Complaints(Table, kw_only=True):
    """`[complaints]`: log-odds by severity, factors by status."""

    severity: dict[str, float]
    status: dict[str, float]


class Satisfaction(Table, kw_only=True):
    """`[satisfaction]`."""

    per_ten_points: float


class Parameters(Table, kw_only=True):
    """The whole file."""

    form: int = 0
    fit: About
    metrics: Metrics
    purchases: Purchases
    card: CardTable
    spend: Spend | None = None
    complaints: Complaints | None = None
    satisfaction: Satisfaction | None = None

    @property
    def digest(self) -> str:
        """A hash of the part that a policy uses."""
        return xxh3_64_hexdigest(orjson.dumps(self.as_policy(), option=orjson.OPT_SORT_KEYS))[:DIGEST_CHARACTERS]

    def as_policy(self) -> dict[str, dict[str, Any]]:
        """The part that a policy uses, in the form of the policy's own tables."""
        about, purchases = self.fit, self.purchases
        risk: dict[str, Any] = {
            "fitted_on": f"{', '.join(about.log)}, {about.customers} customers, {about.begins} to {about.ends}",
            "horizon": about.horizon,
            "r": purchases.r,
            "alpha_weeks": purchases.alpha_weeks,
            "a": purchases.a,
            "b": purchases.b,
            "card": msgspec.to_builtins(self.card),
        }
        if self.complaints is not None:
            risk["complaints"] = msgspec.to_builtins(self.complaints)
        if self.satisfaction is not None:
            risk["satisfaction"] = msgspec.to_builtins(self.satisfaction)
        if self.spend is None:
            return {"risk": risk}
        return {"risk": risk, "value": {"spend": {"p": self.spend.p, "q": self.spend.q, "v": self.spend.v}}}

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def in_words(self) -> list[tuple[str, str]]:
        """Rows of a table for people: the parameters, and how good they are."""
        about, judged, purchases, card = self.fit, self.metrics, self.purchases, self.card
        rows = [
            ("log", f"{', '.join(about.log)}, {about.begins[:10]} to {about.ends[:10]}"),
            ("horizon", about.horizon),
            ("outcomes after", ", ".join(one[:10] for one in about.origins)),
            ("calibrated and judged after", about.calibrated_at[:10]),
            ("churned there", f"{judged.churned:.1%} of {judged.customers:,} customers"),
            ("area under the ROC curve", f"{judged.auc:.4f}"),
            ("Brier score", f"{judged.brier:.4f} (of the churn rate alone {judged.brier_of_base_rate:.4f})"),
            ("MBG/NBD", f"r {purchases.r}, alpha {purchases.alpha_weeks} weeks, a {purchases.a}, b {purchases.b}"),
            ("  standard errors", ", ".join(map(str, purchases.standard_errors))),
            ("  log-likelihood", str(purchases.log_likelihood)),
            ("score card", f"intercept {card.intercept}, model {card.model}, silence {card.silence}"),
            ("", f"frequency {card.frequency}, spend {card.spend}, basket trend {card.basket_trend}"),
        ]
        if self.spend is not None:
            rows.append(("Gamma-Gamma", f"p {self.spend.p}, q {self.spend.q}, v {self.spend.v} {self.spend.currency}"))
        if self.complaints is not None:
            severity = ", ".join(f"{name} {value}" for name, value in self.complaints.severity.items())
            status = ", ".join(f"{name} {value}" for name, value in self.complaints.status.items())
            rows += [("complaints by severity", severity), ("  by status", status)]
        if self.satisfaction is not None:
            rows.append(("ten points below neutral", str(self.satisfaction.per_ten_points)))
        if about.kept_defaults:
            rows.append(("kept as the policy has it, for want of data", ", ".join(about.kept_defaults)))
        rows.append(("digest", self.digest))
        return rows

    def as_toml(self) -> str:
        """The file's text."""
        lines = [
            '# Made by tierstream policy fit. A policy uses it by [risk] parameters = "this file".',
            f"form = {FORM}",
        ]
        for name, table in self.as_dict().items():
            if isinstance(table, dict):
                lines += ["", f"[{name}]", *(f"{key} = {_to_toml(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"


def _to_toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, str):
        return orjson.dumps(value).decode()  # a basic string escapes as JSON does
    if isinstance(value, list):
        return f"[{', '.join(map(_to_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_to_toml(one)}' for key, one in value.items())} }}"
    return repr(value)
