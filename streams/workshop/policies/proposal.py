"""A policy proposed for a log: its lines, what they would hold, and its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from models import units
from models.facts import Window, WindowKind
from models.fitting.fit import FEWEST_OUTCOMES, origins
from models.fitting.maximum_likelihood import FitError
from models.policy import Policy
from models.policy_file import parse
from streams.workshop.policies.round_thresholds import Sharing, SpendDistribution
from streams.workshop.policies.sentences import duration
from streams.workshop.policies.simulated_year import Year, simulate_year
from streams.workshop.policies.spend_history import YEAR_MS, Spend

HORIZON_MS: Final = 90 * units.DAY_MS
Step = Literal["one", "direct"]


@dataclass(frozen=True)
class Wishes:
    """What was answered, but for the lines."""

    id: str
    title: str
    currency: str
    names: tuple[str, ...]
    """Lowest tier first; the first is everybody else's."""
    window: WindowKind
    utc_offset: str
    grace: str
    step: Step
    sharing: Sharing
    shares: tuple[float, ...]
    """Per tier that has a line, lowest first: what it and those above shall hold."""

    @property
    def decimals(self) -> int:
        """Of the currency."""
        return units.currency_decimals(self.currency)


@dataclass(frozen=True)
class Proposal:
    """Lines, and what they would have held."""

    wishes: Wishes
    thresholds_minor: tuple[int, ...]
    spread: SpendDistribution
    year: Year
    text: str
    policy: Policy

    def rows(self) -> list[dict[str, Any]]:
        """Per tier, highest first: its line, and its customers, their share and that of what they spent; on average over the
        year, the share of all customers who would have been in it.
        """
        lines = (None, *self.thresholds_minor)
        found = []
        customers_above = spend_above = 0
        whole = max(self.spread.spend_from(-(2**62)), 1)
        for name, line in reversed(list(zip(self.wishes.names, lines, strict=True))):
            from_minor = -(2**62) if line is None else line
            customers, spend = self.spread.customers_from(from_minor), self.spread.spend_from(from_minor)
            found.append(
                {
                    "tier": name,
                    "min_spend": None if line is None else units.format_minor(line, self.wishes.decimals),
                    "customers": customers - customers_above,
                    "share": round((customers - customers_above) / len(self.spread), 6),
                    "share_of_spend": round((spend - spend_above) / whole, 6),
                    "share_over_the_year": round(self.year.share(name), 6),
                }
            )
            customers_above, spend_above = customers, spend
        return found


def window_of(wishes: Wishes) -> Window:
    """The window of the policy to be."""
    length_ms = YEAR_MS if wishes.window == "trailing" else 366 * units.DAY_MS
    return Window(wishes.window, length_ms, units.HOUR_MS, units.parse_utc_offset(wishes.utc_offset), length_ms)


def propose(
    wishes: Wishes,
    thresholds_minor: Sequence[int],
    spend: Spend,
    spread: SpendDistribution,
    log: str,
    others: Sequence[str],
) -> Proposal:
    """The policy with these lines, and what it would have done. Raises PolicyError if something in it can't be."""
    text = written(wishes, thresholds_minor, spend, spread, log, others)
    policy = parse(text, "the proposal")
    return Proposal(wishes, tuple(thresholds_minor), spread, simulate_year(policy, spend), text, policy)


def written(
    wishes: Wishes,
    thresholds_minor: Sequence[int],
    spend: Spend,
    spread: SpendDistribution,
    log: str,
    others: Sequence[str],
    parameters: Path | None = None,
) -> str:
    """The text of the policy, with fitted parameters if there are any."""
    tiers = [
        {
            "name": name,
            "min_spend": units.format_minor(line, wishes.decimals).removesuffix("." + "0" * wishes.decimals),
            "about": f"{spread.share_from(line, 'customers'):.1%} of the customers, with {spread.share_from(line, 'spend'):.1%} "
            "of the spend, are here or above",
        }
        for name, line in zip(wishes.names[1:], thresholds_minor, strict=True)
    ]
    as_of = units.format_time(spend.as_of_ms(window_of(wishes)))[:10]
    drawn_from = f"what {len(spread):,} customers had spent within a year, as of {as_of}"
    return _TEMPLATES.get_template("policy.toml").render(
        wishes=wishes,
        tiers=tiers,
        log=" ".join(log.split()),
        others=others,
        drawn_from=drawn_from,
        parameters=None if parameters is None else parameters.name,
    )


def reason_not_to_fit(spend: Spend) -> str:
    """Why the log is not enough to fit the risk to; empty if it is."""
    if len(spend.customers) < 2 * FEWEST_OUTCOMES:
        return f"{len(spend.customers):,} customers are too few"
    try:
        origins(spend.begins_ms, spend.ends_ms + 1, HORIZON_MS)
    except FitError:
        return f"it is {duration((spend.ends_ms - spend.begins_ms) // units.DAY_MS * units.DAY_MS)} long, too short"
    return ""


def _toml(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's too, but for DEL, which has to be escaped as well."""
    return orjson.dumps(text).decode().replace("\x7f", "\\u007f")


_TEMPLATES: Final = Environment(
    loader=PackageLoader("streams.workshop.policies"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701
)
_TEMPLATES.filters["toml"] = _toml
