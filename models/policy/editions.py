"""Editions: the numbered periods during which a policy, with its parameters and thresholds, is in force.

Edition 0 is the policy as its file has it. A command for all customers, `use_edition`, begins the next one: with
thresholds that a census computed (models.policy.census), with newly fitted parameters, with a whole policy that can
follow the one in force (models.policy.compatibility), or with several of these. What the command leaves out stays as it
was, but a whole policy comes with its own parameters. So every change of a tier or a score has one of three causes: an
event, time, or an edition. Customers are judged under a new edition one by one (`models.fold.switch_in_place`), each
exactly once and as of the same instant, no matter when.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from models.bodies import Breakpoints, Command
from models.parameters import Parameters
from models.policy.compatibility import obstacles
from models.policy.file import parse_with, with_parameters
from models.policy.policy import Policy
from models.policy.problems import PolicyError
from models.tiers import ScoreCard, ScoreTerm

TERMS: Final = ("recency", "frequency", "monetary")


class EditionError(ValueError):
    """An edition that this policy can't have, with the reason."""


@dataclass(frozen=True)
class Edition:
    """A policy that is in force from an instant on."""

    effective_ms: int
    policy: Policy
    breakpoints: Breakpoints | None = None
    parameters: Parameters | None = None
    text: str | None = None
    """The text of the policy file that was activated last; None while the table's own policy is in force."""

    @property
    def number(self) -> int:
        """The edition's number; 0 for the policy as its file has it."""
        return self.policy.edition


class Editions:
    """The editions under which some customer may still be, the oldest first; the last one is in force."""

    def __init__(self, kept: Sequence[Edition], is_last: bool = False) -> None:
        self._kept = tuple(kept)
        self._is_last = is_last
        """Whether later commands begin no further edition."""

    @classmethod
    def of(cls, policy: Policy) -> Editions:
        """Edition 0 of a policy alone."""
        return cls([Edition(-1, policy)])

    @property
    def kept(self) -> tuple[Edition, ...]:
        """All editions, the oldest first."""
        return self._kept

    @property
    def current(self) -> Policy:
        """The policy in force."""
        return self._kept[-1].policy

    @property
    def number(self) -> int:
        """The number of the edition in force."""
        return self.current.edition

    @property
    def latest(self) -> Edition:
        """The edition in force."""
        return self._kept[-1]

    def extended_by(self, command: Command, at_ms: int) -> Editions:
        """These editions and the one that a command begins. Raises EditionError if it can't follow."""
        if self._is_last:
            return self
        last, number = self._kept[-1], command.edition or 0
        if number != last.number + 1:
            raise EditionError(f"edition {number} does not follow edition {last.number}, which is in force")
        breakpoints, text = command.breakpoints or last.breakpoints, last.text
        parameters, base = last.parameters, last.policy
        if command.policy is not None and command.follows not in (None, last.policy.ref):
            pass  # the command is for tables under another policy; its number is used up all the same
        elif command.policy is not None:
            text, parameters = command.policy, command.parameters
            base = _activated(command.policy, parameters, last.policy.window.keep_ms)
            found = obstacles(last.policy, base)
            if found:
                raise EditionError(f"{base.ref} can't follow {last.policy.ref}: {'; '.join(found)}")
        elif command.parameters is not None:
            parameters = command.parameters
            base = _refitted(last.policy, text, parameters)
        effective_ms = max(at_ms, last.effective_ms)
        begun = Edition(effective_ms, _with_thresholds(base, number, breakpoints), breakpoints, parameters, text)
        return Editions([*self._kept, begun])

    def with_trial(self, policy: Policy, at_ms: int) -> Editions:
        """These editions, and one with a policy as if it had been activated; it stays in force, whatever later commands
        say.

        Raises EditionError if the policy can't follow the one in force.
        """
        last = self._kept[-1]
        base = _activated(policy.text, policy.fitted, last.policy.window.keep_ms)
        found = obstacles(last.policy, base)
        if (base.id, base.version) == (last.policy.id, last.policy.version):
            found = ["it is in force; give another version"]
        elif base.relative is not None:
            found.append("its lines depend on all customers, and a census draws those of the policy in force only")
        if found:
            raise EditionError(f"{base.ref} can't follow {last.policy.ref}: {'; '.join(found)}")
        effective_ms = max(at_ms, last.effective_ms)
        tried = Edition(effective_ms, _with_thresholds(base, last.number + 1, None), None, policy.fitted, policy.text)
        return Editions([*self._kept, tried], is_last=True)

    def steps_from(self, number: int) -> Iterable[tuple[Policy, Edition]]:
        """The later editions under which a customer of edition `number` has to be judged, each with the policy before
        it.
        """
        for before, edition in zip(self._kept, self._kept[1:], strict=False):
            if edition.number > number:
                yield before.policy, edition

    def latest_only(self) -> Editions:
        """Only the edition in force, for when all customers are under it."""
        return Editions(self._kept[-1:], self._is_last)

    @property
    def needs_table_policy(self) -> bool:
        """Whether the table's own policy is still needed: because customers are under it, or because a later edition is
        based on it.
        """
        return any(one.text is None for one in self._kept)

    def as_wire(self) -> list[dict[str, Any]]:
        """The JSON form for a marker; it leaves out the text of the table's own policy."""
        if self.number == 0:
            return []
        return [
            {
                "edition": one.number,
                "effective_ms": one.effective_ms,
                "breakpoints": msgspec.to_builtins(one.breakpoints),
                "parameters": msgspec.to_builtins(one.parameters),
                "policy": None if one.text is None else _packed(one.text),
                "keep_ms": one.policy.window.keep_ms,
            }
            for one in self._kept
        ]

    @classmethod
    def from_wire(cls, policy: Policy, wire: Sequence[dict[str, Any]], is_last: bool = False) -> Editions:
        """The editions in a marker; `policy` is the table's own. Raises EditionError."""
        kept = []
        for one in wire:
            breakpoints = msgspec.convert(one["breakpoints"], Breakpoints | None)
            parameters = msgspec.convert(one["parameters"], Parameters | None)
            packed, text = one.get("policy"), None
            if packed is not None:
                text = _unpacked(packed)
                base = _activated(text, parameters, one["keep_ms"])
            else:
                base = policy if parameters is None else with_parameters(policy, parameters)
            in_force = _with_thresholds(base, one["edition"], breakpoints)
            kept.append(Edition(one["effective_ms"], in_force, breakpoints, parameters, text))
        if not kept or (kept[0].number == 1 and "keep_ms" not in wire[0]):
            # Markers of version 0.2 leave edition 0 out.
            kept.insert(0, Edition(-1, policy))
        return cls(kept, is_last)


def _activated(text: str, parameters: Parameters | None, keep_ms: int) -> Policy:
    """An activated policy. Its name has no digest of parameters, since it has an edition's number; and it keeps
    purchases for as long as the previous policy did, so that that one can be restored. Raises EditionError.
    """
    try:
        policy = parse_with(text, parameters, "the policy")
    except PolicyError as error:
        raise EditionError(str(error)) from None
    return replace(policy, parameters="", window=replace(policy.window, remember_ms=keep_ms))


def _refitted(policy: Policy, text: str | None, parameters: Parameters) -> Policy:
    """The policy in force with other parameters. Raises EditionError."""
    if text is not None:
        return _activated(text, parameters, policy.window.keep_ms)
    try:
        return with_parameters(policy, parameters)
    except PolicyError as error:
        raise EditionError(str(error)) from None


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _unpacked(packed: str) -> str:
    return zlib.decompress(base64.b64decode(packed)).decode()


def _with_thresholds(policy: Policy, number: int, breakpoints: Breakpoints | None) -> Policy:
    """The policy with the thresholds of a census. Raises EditionError if they are not those that it asks for."""
    if breakpoints is None:
        return replace(policy, edition=number)
    relative, ladder = policy.relative, policy.ladder
    shares = () if relative is None else relative.top_shares
    quintiles = () if relative is None else relative.by_quintiles
    of_terms = {
        "recency": breakpoints.recency_ms,
        "frequency": breakpoints.frequency,
        "monetary": breakpoints.monetary_minor,
    }
    wrong = [name for name in TERMS if len(of_terms[name]) != (4 if name in quintiles else 0)]
    if len(breakpoints.top_spend_minor) != len(shares) or wrong:
        raise EditionError(
            f"the policy {policy.ref} asks for {len(shares)} lines of spend and for quintiles of "
            f"{', '.join(quintiles) or 'nothing'}; these breakpoints have {len(breakpoints.top_spend_minor)} and others"
        )
    if any(list(values) != sorted(values) for values in (*of_terms.values(), breakpoints.top_spend_minor)):
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
            terms[name] = replace(terms[name], breakpoints=tuple(of_terms[name]))
        card = ScoreCard(**terms)
    ladder = replace(ladder, tiers=tiers, score_card=card, recency_limits_ms=tuple(sorted(limits_ms)))
    return replace(policy, ladder=ladder, edition=number)
