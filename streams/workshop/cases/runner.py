"""Folds test customers under a policy, and says where they differ from what was expected, and why.

Every customer is folded alone, so that no other customer moves the clock. But if a policy's thresholds follow the base
and the file gives no thresholds, the customers of the file are the base, counted whenever the policy counts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import models
from models import explain, units
from models.customer import NEVER_MS, Customer
from models.events import Rejected
from models.facts import Measures
from models.fold import describe_tier
from models.outputs import TIER_CHANGES, Output
from models.policy import Policy
from models.tiers import Tier
from streams.engine.batch import Batch, DeadLetter
from streams.engine.merge import Record
from streams.workshop.cases.case_file import NONE, SCORE_DECIMALS, Case, Cases, Expectation, Happening
from streams.workshop.replay.fold import Replay

NOT_KNOWN: Final = "not known yet"
"""The actual value for a customer before their first event."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that is not as expected, and the figures that explain it."""

    what: str
    expected: str
    actual: str
    because: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an expectation, or of an event that was refused unexpectedly."""

    source: str
    line: int
    customer: str
    at_ms: int
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is as expected."""
        return not self.differences


def run_cases(cases: Cases, policy: Policy) -> Iterator[Outcome]:
    """The outcomes of all expectations of a file, in the order of its lines. Raises ValueError if its thresholds don't
    fit the policy.
    """
    together = policy.relative is not None and not cases.thresholds
    groups: list[Sequence[Case]] = [cases.cases] if together else [[one] for one in cases.cases]
    for group in groups:
        yield from sorted(_Run(cases, group, policy).outcomes(), key=lambda outcome: outcome.line)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A customer at an instant, under the edition of the policy that is in force."""

    policy: Policy
    customer: Customer
    at_ms: int

    @property
    def measures(self) -> Measures:
        return self.policy.view(self.customer.facts, self.at_ms).at(self.at_ms)


def _keeps(seen: _Snapshot) -> str:
    policy, customer = seen.policy, seen.customer
    needs = explain.what_keeps(policy, customer, policy.view(customer.facts, customer.clock_ms))
    return NONE if needs is None else str(needs["text"])


def _downgrade_at(seen: _Snapshot) -> str:
    at_ms = seen.customer.standing.downgrade_at_ms
    return NONE if at_ms == NEVER_MS else units.format_time(at_ms)


def _score(seen: _Snapshot) -> str:
    card = seen.policy.ladder.score_card
    return NONE if card is None else units.format_minor(card.score_milli(seen.measures), SCORE_DECIMALS)


def _probability(seen: _Snapshot) -> str:
    facts = seen.customer.facts
    return NONE if facts.first_purchase_ms < 0 else f"{seen.policy.risk.score(facts, seen.at_ms).probability:.2f}"


def _alert(seen: _Snapshot) -> str:
    alert = seen.customer.standing.alert
    return NONE if alert is None else alert.state


_ACTUAL: Final[dict[str, Callable[[_Snapshot], str]]] = {
    "tier": lambda seen: seen.customer.standing.tier,
    "downgrade_at": _downgrade_at,
    "keeps": _keeps,
    "locked": lambda seen: "no" if seen.customer.standing.lock is None else "yes",
    "spend": lambda seen: units.format_minor(seen.measures.spend_minor, seen.policy.decimals),
    "orders": lambda seen: str(seen.measures.orders),
    "score": _score,
    "satisfaction": lambda seen: NONE if seen.measures.satisfaction is None else str(seen.measures.satisfaction),
    "segment": lambda seen: seen.policy.segment_of(seen.measures) or NONE,
    "risk": lambda seen: seen.customer.standing.risk_level,
    "probability": _probability,
    "alert": _alert,
    "stage": lambda seen: seen.customer.standing.stage or NONE,
    "behaviour": lambda seen: seen.customer.standing.behaviour or NONE,
}
"""The actual values of a customer, by the keys of an expectation."""
_OF_RISK: Final = ("risk", "probability", "alert")
_OF_LIFE: Final = ("stage", "behaviour")


class _Run:
    """Some customers, folded together."""

    def __init__(self, cases: Cases, group: Sequence[Case], policy: Policy) -> None:
        self._source = cases.source
        self._thresholds = cases.thresholds
        self._group = group
        self._replay = Replay(policy, with_recorded_thresholds=bool(cases.thresholds))
        self._every_ms = 0 if policy.relative is None or cases.thresholds else policy.relative.every_ms
        self._counted_ms = -1
        """The instant up to which the base has been counted."""
        self._outputs: dict[str, list[Output]] = {one.customer_id: [] for one in group}
        self._dead_letters: list[DeadLetter] = []

    def outcomes(self) -> Iterator[Outcome]:
        """The outcomes, in the order of time."""
        compared: dict[str, int] = dict.fromkeys(self._outputs, 0)
        for at_ms, case, step in self._steps():
            self._count_up_to(at_ms)
            if isinstance(step, Record):
                self._fold(step)
                for dead_letter in self._dead_letters:
                    raise ValueError(f"{self._source}: lines[{step.offset}]: {dead_letter.detail}")
            elif isinstance(step, Happening):
                assert case is not None
                differences = self._fold_happening(step)
                if differences:
                    yield Outcome(self._source, step.line, case.name, at_ms, differences)
            else:
                assert case is not None
                self._take(self._replay.finish(at_ms))
                outputs = self._outputs[case.customer_id]
                since = outputs[compared[case.customer_id] :]
                compared[case.customer_id] = len(outputs)
                yield Outcome(self._source, step.line, case.name, at_ms, tuple(self._differences(case, step, since)))

    def _steps(self) -> list[tuple[int, Case | None, Record | Happening | Expectation]]:
        """All steps in the order of time; at the same instant thresholds are first and expectations last."""
        steps: list[tuple[int, int, Case | None, Record | Happening | Expectation]] = []
        for record in self._thresholds:
            steps.append((record.occurred_at_ms, 0, None, record))
        for case in self._group:
            steps += [(one.arrives_ms, 1, case, one) for one in case.happenings]
            steps += [(one.at_ms, 2, case, one) for one in case.expectations]
        steps.sort(key=lambda step: step[:2])
        return [(at_ms, case, step) for at_ms, _, case, step in steps]

    # ------------------------------------------------------------ folding
    def _count_up_to(self, at_ms: int) -> None:
        """Count the base at every instant at which it is due, as a worker does."""
        if not self._every_ms:
            return
        if self._counted_ms >= 0:
            for due_ms in range(self._counted_ms + self._every_ms, at_ms + 1, self._every_ms):
                self._take(self._replay.finish(due_ms))
        self._counted_ms = at_ms // self._every_ms * self._every_ms

    def _fold_happening(self, happening: Happening) -> tuple[Difference, ...]:
        refused: str | None = None
        detail = ""
        decoded = happening.record.decoded
        if isinstance(decoded, Rejected):
            refused, detail = decoded.code, decoded.detail
        else:
            self._fold(happening.record)
            for dead_letter in self._dead_letters:
                refused, detail = dead_letter.code, dead_letter.detail
            self._dead_letters.clear()
        if refused == happening.refused:
            return ()
        return (Difference("refused", happening.refused or NONE, refused or NONE, detail),)

    def _fold(self, record: Record) -> None:
        self._take(self._replay.fold([record]))

    def _take(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self._dead_letters += batch.dead_letters
            for output in batch.outputs:
                self._outputs[output.customer_id].append(output)

    # ------------------------------------------------------------ comparing
    def _differences(self, case: Case, wanted: Expectation, since: Sequence[Output]) -> Iterator[Difference]:
        state = self._replay.partition.customers.get(case.customer_id.encode())
        if state is None:
            for name, expected in wanted.wanted.items():
                yield Difference(name, expected, NOT_KNOWN, "the first event comes later")
        else:
            seen = _Snapshot(self._replay.partition.editions.current, models.decode(state), wanted.at_ms)
            for name, expected in wanted.wanted.items():
                actual = _ACTUAL[name](seen)
                if actual != expected:
                    yield Difference(name, expected, actual, self._because(case, name, expected, seen))
        for topic, changes in wanted.announced.items():
            announced = tuple(output.change for output in since if output.topic == topic)
            if announced != changes:
                at = ", ".join(
                    f"{one.change} {units.format_time(one.occurred_at_ms)}" for one in since if one.topic == topic
                )
                yield Difference(topic, ", ".join(changes) or NONE, ", ".join(announced) or NONE, at)

    def _because(self, case: Case, name: str, expected: str, seen: _Snapshot) -> str:
        if name in _OF_RISK:
            return _risk_in_figures(seen)
        if name in _OF_LIFE:
            last_ms = seen.customer.facts.last_purchase_ms
            return f"last purchase {units.format_time(last_ms)}" if last_ms >= 0 else "no purchase yet"
        ladder = seen.policy.ladder
        named = [expected, seen.customer.standing.tier] if name == "tier" else [seen.customer.standing.tier]
        rules = [_requirements_in_figures(seen, tier) for tier in ladder.tiers if tier.name in named and tier.rank]
        return "; ".join([*rules, *_standing_in_words(seen), *self._latest_change(case)])

    def _latest_change(self, case: Case) -> Iterator[str]:
        found = [output for output in self._outputs[case.customer_id] if output.topic == TIER_CHANGES]
        if found:
            yield f"the latest change was {found[-1].change}, {units.format_time(found[-1].occurred_at_ms)}"


def _requirements_in_figures(seen: _Snapshot, tier: Tier) -> str:
    """What a tier asks for, with the customer's figures."""
    asked = explain.rule(seen.policy, tier, seen.measures)["requirements"]
    parts = [
        f"{one['measure'].replace('_', ' ')} {'at most' if one['measure'] == 'recency' else 'at least'} {one['needed']} "
        f"({NONE if one['actual'] is None else one['actual']}: {'met' if one['met'] else 'not met'})"
        for one in asked
    ]
    return f"{tier.name} asks for {' and '.join(parts)}"


def _standing_in_words(seen: _Snapshot) -> Iterator[str]:
    words = describe_tier(seen.customer.standing)
    if words["lock"] is not None:
        yield f"locked since {words['lock']['since']}: {words['lock']['reason']}"
    if words["downgrade_at"] is not None:
        yield f"{words['tier']} is lost on {words['downgrade_at']} unless that changes"


def _risk_in_figures(seen: _Snapshot) -> str:
    """The score, its terms and the thresholds of the levels."""
    facts, risk = seen.customer.facts, seen.policy.risk
    if facts.first_purchase_ms < 0:
        return "no purchase yet"
    score = risk.score(facts, seen.at_ms)
    terms = explain.contributions(seen.policy, facts, score, seen.at_ms)
    parts = ", ".join(f"{one['term']} {one['log_odds']:+.2f}" for one in terms if one["log_odds"])
    levels = ", ".join(
        f"{level.name} from {_as_probability(level.raise_at)} until below {_as_probability(level.ease_below)}"
        for level in risk.levels
    )
    alert = explain.describe_alert(seen.customer)
    held = f"; the alert is held: {alert['hold']}" if alert is not None and alert["hold"] else ""
    return f"probability {score.probability:.3f} (log-odds {parts}); {levels}{held}"


def _as_probability(log_odds: float) -> str:
    return f"{1 / (1 + math.exp(-log_odds)):.2f}"
