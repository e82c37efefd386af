"""Editions of a policy: the same rules with other lines or other fitted parameters, in force from an instant on.

A policy starts with edition 0, what its file says. A command to everybody, `use_edition`, begins the next: with lines that a
census drew (models.relative), with parameters that were fitted anew, or both; what it leaves out stays as it was. So every
change of a tier or a score is put down to an event, to time, or to an edition. Customers are judged under it one by one
(`models.fold.switch_own`), each exactly once, whenever their turn comes: as of the same instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from models.bodies import Breakpoints, Command
from models.parameters import Parameters
from models.policy import Policy
from models.policy_file import with_parameters
from models.tiers import ScoreCard, ScoreTerm

TERMS: Final = ("recency", "frequency", "monetary")


class EditionError(ValueError):
    """An edition that this policy can't have; the message says why."""


@dataclass(frozen=True)
class Edition:
    """A policy as it is from an instant on."""

    effective_ms: int
    policy: Policy
    breakpoints: Breakpoints | None = None
    parameters: Parameters | None = None

    @property
    def number(self) -> int:
        """0 for the policy as its file says it."""
        return self.policy.edition


class Editions:
    """The editions that any customer may still be under, the oldest first; the last is in force."""

    def __init__(self, kept: Sequence[Edition]) -> None:
        self._kept = tuple(kept)

    @classmethod
    def of(cls, policy: Policy) -> Editions:
        """A policy as its file says it."""
        return cls([Edition(-1, policy)])

    @property
    def current(self) -> Policy:
        """The policy in force."""
        return self._kept[-1].policy

    @property
    def number(self) -> int:
        """Of the edition in force."""
        return self.current.edition

    @property
    def latest(self) -> Edition:
        """The edition in force."""
        return self._kept[-1]

    def begun_with(self, command: Command, at_ms: int) -> Editions:
        """These, and the one that a command begins. Raises EditionError."""
        last, number = self._kept[-1], command.edition or 0
        if number != last.number + 1:
            raise EditionError(f"edition {number} does not follow edition {last.number}, which is in force")
        breakpoints = command.breakpoints or last.breakpoints
        parameters = command.parameters or last.parameters
        base = last.policy if command.parameters is None else with_parameters(last.policy, command.parameters)
        effective_ms = max(at_ms, last.effective_ms)
        return Editions(
            [*self._kept, Edition(effective_ms, _drawn(base, number, breakpoints), breakpoints, parameters)]
        )

    def steps_from(self, number: int) -> Iterable[tuple[Policy, Edition]]:
        """What a customer of an older edition goes through: the policy before each later edition, and that edition."""
        for before, edition in zip(self._kept, self._kept[1:], strict=False):
            if edition.number > number:
                yield before.policy, edition

    def settled(self) -> Editions:
        """When all customers are under the last one, only that is needed."""
        return Editions(self._kept[-1:])

    def as_wire(self) -> list[dict[str, Any]]:
        """For a marker: everything but the policy's own text."""
        return [
            {
                "edition": one.number,
                "effective_ms": one.effective_ms,
                "breakpoints": msgspec.to_builtins(one.breakpoints),
                "parameters": msgspec.to_builtins(one.parameters),
            }
            for one in self._kept
            if one.number
        ]

    @classmethod
    def from_wire(cls, policy: Policy, wire: Sequence[dict[str, Any]]) -> Editions:
        """The editions of a policy as a marker has them. Raises EditionError."""
        kept = []
        for one in wire:
            breakpoints = msgspec.convert(one["breakpoints"], Breakpoints | None)
            parameters = msgspec.convert(one["parameters"], Parameters | None)
            base = policy if parameters is None else with_parameters(policy, parameters)
            kept.append(
                Edition(one["effective_ms"], _drawn(base, one["edition"], breakpoints), breakpoints, parameters)
            )
        if not kept or kept[0].number == 1:
            kept.insert(0, Edition(-1, policy))
        return cls(kept)


def _drawn(policy: Policy, number: int, breakpoints: Breakpoints | None) -> Policy:
    """A policy with the lines of a census. Raises EditionError if they are not those that it asks for."""
    if breakpoints is None:
        return replace(policy, edition=number)
    relative, ladder = policy.relative, policy.ladder
    shares = () if relative is None else relative.top_shares
    quintiles = () if relative is None else relative.by_quintiles
    given = {
        "recency": breakpoints.recency_ms,
        "frequency": breakpoints.frequency,
        "monetary": breakpoints.monetary_minor,
    }
    wrong = [name for name in TERMS if len(given[name]) != (4 if name in quintiles else 0)]
    if len(breakpoints.top_spend_minor) != len(shares) or wrong:
        raise EditionError(
            f"the policy {policy.ref} asks for {len(shares)} lines of spend and for quintiles of "
            f"{', '.join(quintiles) or 'nothing'}; these breakpoints have {len(breakpoints.top_spend_minor)} and others"
        )
    if any(list(lines) != sorted(lines) for lines in (*given.values(), breakpoints.top_spend_minor)):
        raise EditionError("breakpoints have to ascend")
    spend = {rank: minor for (rank, _), minor in zip(shares, breakpoints.top_spend_minor, strict=True)}
    tiers = tuple(
        replace(tier, min_spend_minor=spend[tier.rank]) if tier.rank in spend else tier for tier in ladder.tiers
    )
    card, limits_ms = ladder.score_card, set(ladder.recency_limits_ms)
    if card is not None and quintiles:
        terms: dict[str, ScoreTerm] = {name: getattr(card, name) for name in TERMS}
        if "recency" in quintiles:
            limits_ms.difference_update(card.recency.breakpoints)
            limits_ms.update(breakpoints.recency_ms)
        for name in quintiles:
            terms[name] = replace(terms[name], breakpoints=tuple(given[name]))
        card = ScoreCard(**terms)
    drawn = replace(ladder, tiers=tiers, score_card=card, recency_limits_ms=tuple(sorted(limits_ms)))
    return replace(policy, ladder=drawn, edition=number)
