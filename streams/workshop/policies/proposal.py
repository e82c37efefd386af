"""A policy proposed for a log: its thresholds, the customers and the spend of each tier, and its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from models import units
from models.facts import Window, WindowKind
from models.fitting.fit import FEWEST_OUTCOMES, origins
from models.fitting.maximum_likelihood import FitError
from models.policy import Policy, parse
from streams.workshop.policies.round_thresholds import Sharing, SpendDistribution
from streams.workshop.policies.sentences import duration
from streams.workshop.policies.simulated_year import Year, simulate_year
from streams.workshop.policies.spend_history import YEAR_MS, Spend

HORIZON_MS: Final = 90 * units.DAY_MS
Step = Literal["one", "direct"]


@dataclass(frozen=True)
class Wishes:
    """The answers, without the thresholds."""

    id: str
    title: str
    currency: str
    names: tuple[str, ...]
    """The names of the tiers, lowest first; the first is the base tier."""
    window: WindowKind
    utc_offset: str
    grace: str
    step: Step
    sharing: Sharing
    shares: tuple[float, ...]
    """For each tier with a threshold, lowest first: the wanted share of this tier and all above it."""

    @property
    def decimals(self) -> int:
        """The decimals of the currency."""
        return units.currency_decimals(self.currency)


@dataclass(frozen=True)
class Basis:
    """The part of a log that a proposal is based on."""

    logs: Sequence[str]
    """The names of the logs."""
    spend: Spend
    """In the currency of the policy."""
    spread: SpendDistribution
    """Of the customers in the policy's window."""
    other_currencies: Sequence[str]


@dataclass(frozen=True)
class Proposal:
    """Thresholds, and the tiers that they would have given."""

    wishes: Wishes
    thresholds_minor: tuple[int, ...]
    spread: SpendDistribution
    year: Year
    text: str
    policy: Policy

    def rows(self) -> list[dict[str, Any]]:
        """For each tier, highest first: its threshold, its customers, their share and the share of their spend; and the
        share of all customers who would have been in it, on average over the year.
        """
        thresholds = (None, *self.thresholds_minor)
        found = []
        customers_above = spend_above = 0
        whole = max(self.spread.spend_from(-(2**62)), 1)
        for name, threshold in reversed(list(zip(self.wishes.names, thresholds, strict=True))):
            from_minor = -(2**62) if threshold is None else threshold
            customers, spend = self.spread.customers_from(from_minor), self.spread.spend_from(from_minor)
            found.append(
                {
                    "tier": name,
                    "min_spend": None if threshold is None else units.format_minor(threshold, self.wishes.decimals),
                    "customers": customers - customers_above,
                    "share": round((customers - customers_above) / len(self.spread), 6),
                    "share_of_spend": round((spend - spend_above) / whole, 6),
                    "share_over_the_year": round(self.year.share(name), 6),
                }
            )
            customers_above, spend_above = customers, spend
        return found


def window_of(wishes: Wishes) -> Window:
    """The window of the proposed policy."""
    length_ms = YEAR_MS if wishes.window == "trailing" else 366 * units.DAY_MS
    return Window(wishes.window, length_ms, units.HOUR_MS, units.parse_utc_offset(wishes.utc_offset), length_ms)


def basis_of(wishes: Wishes, found: Mapping[str, Spend], logs: Sequence[str]) -> Basis:
    """What a proposal is based on, in the spend by currency that was found in some logs."""
    spend = found[wishes.currency]
    spread = SpendDistribution(spend.in_window(window_of(wishes)))
    return Basis(logs, spend, spread, [currency for currency in found if currency != wishes.currency])


def propose(wishes: Wishes, thresholds_minor: Sequence[int], basis: Basis) -> Proposal:
    """The policy with these thresholds, and what it would have done. Raises PolicyError if the policy is not valid."""
    text = render_policy(wishes, thresholds_minor, basis)
    policy = parse(text, "the proposal")
    return Proposal(wishes, tuple(thresholds_minor), basis.spread, simulate_year(policy, basis.spend), text, policy)


def render_policy(wishes: Wishes, thresholds_minor: Sequence[int], basis: Basis, parameters: Path | None = None) -> str:
    """The TOML text of the policy; `parameters` is the file of fitted parameters, if there is one."""
    spread = basis.spread
    tiers = [
        {
            "name": name,
            "min_spend": units.format_minor(threshold, wishes.decimals).removesuffix("." + "0" * wishes.decimals),
            "about": f"{spread.share_from(threshold, 'customers'):.1%} of the customers, with {spread.share_from(threshold, 'spend'):.1%} "
            "of the spend, are here or above",
        }
        for name, threshold in zip(wishes.names[1:], thresholds_minor, strict=True)
    ]
    as_of = units.format_time(basis.spend.as_of_ms(window_of(wishes)))[:10]
    based_on = f"the spend of {len(spread):,} customers within a year, as of {as_of}"
    return _TEMPLATES.get_template("policy.toml").render(
        wishes=wishes,
        tiers=tiers,
        log=" ".join(", ".join(basis.logs).split()),
        others=basis.other_currencies,
        based_on=based_on,
        parameters=None if parameters is None else parameters.name,
    )


def reason_not_to_fit(spend: Spend) -> str | None:
    """Why the risk can't be fitted to the log; None if it can."""
    if len(spend.customers) < 2 * FEWEST_OUTCOMES:
        return f"{len(spend.customers):,} customers are too few"
    try:
        origins(spend.begins_ms, spend.ends_ms + 1, HORIZON_MS)
    except FitError:
        return f"it is {duration((spend.ends_ms - spend.begins_ms) // units.DAY_MS * units.DAY_MS)} long, too short"
    return None


def _toml(text: str) -> str:
    """A TOML basic string. The escapes of JSON are those of TOML, but TOML also requires DEL to be escaped."""
    return orjson.dumps(text).decode().replace("\x7f", "\\u007f")


_TEMPLATES: Final = Environment(
    loader=PackageLoader("streams.workshop.policies"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701
)
_TEMPLATES.filters["toml"] = _toml
