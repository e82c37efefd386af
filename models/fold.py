"""The fold: what time does to a customer, and what an event does.

    advance(customer, until_ms) -> customer, outputs
    apply(customer, event)      -> customer, outputs     # advance to the event's instant, then the event

Both are pure. `advance_in_place` and `apply_in_place` change the customer that they are given, which saves the copy. A
customer's clock moves only when something happens to them: an event, or a change by time alone. So the result does not
depend on when, or how often, a caller advanced the customer.

Each customer carries a lower bound of the next change by time alone (`due_at_ms`), from a cache. The exact instant
takes a search, which is made only when the bound is reached: most customers have bought again by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from librt.strings import read_i64_le
from mypy_extensions import i64, mypyc_attr

from models import alerts, explain
from models.alerts import Change, Situation
from models.bodies import SEVERITIES, STATUSES, Command, Complaint, Feedback, Prospect
from models.customer import BASE_LEVEL, NEVER_MS, RECENT_EVENTS, Customer, Facts, Standing, copied
from models.customer_parts import Alert, ComplaintStep, Lock, Prospecting, Region, Satisfaction
from models.events import MAX_AMOUNT_MINOR, Event, Rejected
from models.facts import (
    MAX_SUM_MINOR,
    Measures,
    View,
    book_complaint,
    book_prospecting,
    book_purchase,
    book_refund,
    book_region,
    book_satisfaction,
    forget_complaints,
    only_shrinks,
    slide,
    would_overflow,
)
from models.life import PROSPECT, LifeCycle
from models.outputs import ALERTS, CHURN_RISK, CLOCK_CAUSE, LIFE_CYCLE, TIER_CHANGES, Output, emit, emit_without_body
from models.policy import Policy
from models.tiers import Tier
from models.units import format_time

HASH_BYTES: Final = 8
RECENT_BYTES: Final = HASH_BYTES * RECENT_EVENTS
EVENTS_THAT_ADD_UP: Final = MAX_SUM_MINOR // MAX_AMOUNT_MINOR - 1
"""So many events or fewer can't exceed the largest sum."""
NOTHING: Final[tuple[Output, ...]] = ()


def new_customer(policy: Policy, at_ms: int) -> Customer:
    """A customer about whom nothing is known yet."""
    standing = Standing(policy.base_tier, at_ms)
    return Customer(NEVER_MS, at_ms, 0, 0, b"", Facts(), standing, edition=policy.edition)


def advance(customer: Customer, until_ms: int, policy: Policy, customer_id: str) -> tuple[Customer, Sequence[Output]]:
    """What time alone does to a customer up to and including `until_ms`, each change at its exact instant.

    >>> from models.policy import load
    >>> policy = load("annual-spend")
    >>> event = policy.decoder().decode("purchases", b'''{"event_id": "e1", "customer_id": "ada", "kind": "purchase",
    ...     "order_id": "o1", "amount": "300.00", "currency": "USD", "occurred_at": "2026-03-01T10:00:00Z"}''')
    >>> ada, _ = apply(None, event, policy)
    >>> ada, outputs = advance(ada, next_change_ms(ada, policy), policy, "ada")
    >>> format_time(ada.clock_ms)[:10], [(output.topic, output.change) for output in outputs]
    ('2026-03-30', [('churn-risk', 'raised'), ('alerts', 'opened')])
    """
    if customer.due_at_ms > until_ms:
        return customer, NOTHING
    customer = copied(customer)
    return customer, advance_in_place(customer, until_ms, policy, customer_id)


def advance_in_place(
    customer: Customer, until_ms: int, policy: Policy, customer_id: str, without_bodies: bool = False
) -> Sequence[Output]:
    """`advance`, but changes the customer in place; with `without_bodies` the outputs have neither bodies nor ids."""
    if customer.due_at_ms > until_ms:
        return NOTHING
    return _step(customer, policy, customer_id, without_bodies).advance(until_ms)


def apply(
    customer: Customer | None, event: Event, policy: Policy
) -> tuple[Customer | None, Sequence[Output] | Rejected]:
    """What an event does to a customer (None: not known yet), after what time did until then.

    A repeat changes nothing. An event older than the allowed lateness is rejected and changes nothing either. A
    late event is booked where it belongs in time and judged at the customer's clock.

    >>> from models.policy import load
    >>> policy = load("annual-spend")
    >>> event = policy.decoder().decode("purchases", b'''{"event_id": "e1", "customer_id": "ada", "kind": "purchase",
    ...     "order_id": "o1", "amount": "300.00", "currency": "USD", "occurred_at": "2026-03-01T10:00:00Z"}''')
    >>> ada, outputs = apply(None, event, policy)
    >>> ada.standing.tier, [(output.topic, output.change) for output in outputs]
    ('gold', [('tier-changes', 'upgrade')])
    """
    changed = new_customer(policy, event.occurred_at_ms) if customer is None else copied(customer)
    result = apply_in_place(changed, event, policy)
    return (customer if result is NOTHING or isinstance(result, Rejected) else changed), result


def apply_in_place(
    customer: Customer, event: Event, policy: Policy, without_bodies: bool = False
) -> Sequence[Output] | Rejected:
    """`apply`, but changes the customer in place; a customer who is not known yet is a `new_customer`.

    With `without_bodies` the outputs have neither bodies nor ids, for callers that only count them: to compute the
    explanations costs more than everything else.
    """
    at_ms = event.occurred_at_ms
    if customer.events:
        if _is_repeat(customer.recent, event.event_hash) or at_ms <= customer.erased_at_ms:
            return NOTHING
        if at_ms < customer.clock_ms - policy.window.lateness_ms:
            return Rejected(
                "too_late",
                f"occurred_at {format_time(at_ms)} is more than the allowed lateness before "
                f"the customer's clock {format_time(customer.clock_ms)}",
            )
        if customer.events > EVENTS_THAT_ADD_UP:
            rejected = _overflow(customer, event, policy)
            if rejected is not None:
                return rejected
    if event.body is not None:
        rejected = _unknown_tier(event.body, policy)
        if rejected is not None:
            return rejected
    return _step(customer, policy, event.customer_id, without_bodies).apply(event)


def switch_in_place(
    customer: Customer, before: Policy, after: Policy, effective_ms: int, customer_id: str, without_bodies: bool = False
) -> Sequence[Output]:
    """Judge a customer under a new edition, and change them in place.

    They are judged at `effective_ms`, from which the edition is in force, or at their clock if that is later. Changes
    by time before that are judged under the previous edition.
    """
    step = _step(customer, before, customer_id, without_bodies)
    step.advance(effective_ms)
    step.policy = after
    customer.edition = after.edition
    if customer.events and customer.erased_at_ms < customer.clock_ms:
        step.move_clock(max(customer.clock_ms, effective_ms))
        step.settle(f"edition-{after.edition}")
    return step.outputs


def next_change_ms(customer: Customer, policy: Policy) -> int:
    """The first instant after the customer's clock at which time alone changes something that is announced; NEVER_MS if
    none.

    This is a search; `due_at_ms` is a lower bound of it without one.
    """
    facts, standing, now_ms = customer.facts, customer.standing, customer.clock_ms
    if customer.due_at_ms == NEVER_MS:
        return NEVER_MS
    found = policy.ladder.next_change_ms(policy.view(facts, now_ms), standing, now_ms)
    found = min(found, alerts.due_ms(standing.alert))
    if facts.first_purchase_ms >= 0:
        found = min(found, policy.risk.next_change_ms(facts, policy.risk.rank_of(standing.risk_level), now_ms))
        if policy.life is not None:
            found = min(found, policy.life.next_change_ms(facts, now_ms))
    return found


def _overflow(customer: Customer, event: Event, policy: Policy) -> Rejected | None:
    if event.body is None and would_overflow(customer.facts, policy.window, event.booked_at_ms, event.amount_minor):
        return Rejected(
            "amount_out_of_range", "with this amount the customer's sums would be larger than what can be kept"
        )
    return None


def _unknown_tier(body: object, policy: Policy) -> Rejected | None:
    """A rejection if a command locks a tier that the policy in force does not have."""
    if isinstance(body, Command) and body.command == "lock_tier" and body.tier not in policy.ladder.tier_names:
        return Rejected("unknown_tier", f"tier {body.tier!r} is not among {', '.join(policy.ladder.tier_names)}")
    return None


def _is_repeat(recent: bytes, event_hash: bytes) -> bool:
    """Whether a hash is among those of earlier events; compiled code compares machine words."""
    wanted = read_i64_le(event_hash, 0)
    at: i64 = 0
    end: i64 = len(recent)
    while at < end:
        if read_i64_le(recent, at) == wanted:
            return True
        at += HASH_BYTES
    return False


@mypyc_attr(acyclic=True, free_list_len=1)
class _Step:
    """One call of the fold on a customer."""

    def __init__(self, customer: Customer, policy: Policy, customer_id: str) -> None:
        self.customer = customer
        self.facts = customer.facts
        self.standing = customer.standing
        self.policy = policy
        self.customer_id = customer_id
        self.outputs: list[Output] = []
        self.is_raised = False
        """Whether the risk level has just risen."""

    # ------------------------------------------------------------ time
    def advance(self, until_ms: int) -> list[Output]:
        customer = self.customer
        while customer.due_at_ms <= until_ms:
            due_at_ms = customer.due_at_ms
            if not self.crosses_at(due_at_ms):
                customer.due_at_ms = next_change_ms(customer, self.policy)
            elif due_at_ms == self.standing.downgrade_at_ms:
                # Judged at the last moment of the grace period, before any bucket leaves the window at this instant.
                measures = self.view(due_at_ms - 1).at(due_at_ms - 1)
                self.move_clock(due_at_ms)
                self.downgrade(measures, CLOCK_CAUSE)
                self.settle(CLOCK_CAUSE)
            else:
                self.move_clock(due_at_ms)
                self.settle(CLOCK_CAUSE)
        return self.outputs

    def crosses_at(self, due_at_ms: int) -> bool:
        """Whether something changes exactly at the bound."""
        standing, facts, now_ms = self.standing, self.facts, self.customer.clock_ms
        if due_at_ms in (standing.downgrade_at_ms, alerts.due_ms(standing.alert)):
            return True
        if due_at_ms >= self.customer.tier_due_ms:
            rank = self.policy.ladder.rank_of(standing.tier)
            qualified = self.policy.ladder.qualified_rank(self.view(now_ms).at(due_at_ms))
            if qualified > rank or (qualified < rank) == (standing.downgrade_at_ms == NEVER_MS):
                return True
        risk = self.policy.risk
        if facts.first_purchase_ms < 0:
            return False
        life = self.policy.life
        if life is not None and life.stage(facts, standing, due_at_ms) != standing.stage:
            return True
        level = risk.rank_of(standing.risk_level)
        return risk.next_rank(level, risk.log_odds(facts, due_at_ms)) != level

    def move_clock(self, at_ms: int) -> None:
        self.customer.clock_ms = at_ms
        slide(self.facts, self.policy.window, at_ms)
        if self.facts.complaints:
            forget_complaints(self.facts, self.policy.risk.complaint_risk.forget_after_ms, at_ms)

    # ------------------------------------------------------------ events
    def apply(self, event: Event) -> Sequence[Output]:
        customer = self.customer
        at_ms = event.occurred_at_ms
        if customer.due_at_ms <= at_ms:
            self.advance(at_ms)
        is_in_order = at_ms >= customer.clock_ms
        self.move_clock(at_ms if is_in_order else customer.clock_ms)
        customer.events += 1
        recent = customer.recent + event.event_hash
        customer.recent = recent if len(recent) <= RECENT_BYTES else recent[-RECENT_BYTES:]
        body = event.body
        only_adds = False
        if body is None:
            only_adds = is_in_order and not event.is_refund
            self.purchase(event)
        elif isinstance(body, Complaint):
            self.complaint(event, body)
        elif isinstance(body, Prospect):
            book_prospecting(self.facts, Prospecting(at_ms, body.money + body.authority + body.need))
        elif isinstance(body, Feedback):
            book_satisfaction(self.facts, Satisfaction(at_ms, body.score, body.kind))
        elif body.command == "erase":
            return self.erase(event)
        else:
            self.command(event, body)
        if event.region:
            book_region(self.facts, Region(at_ms, event.region))
        self.settle(event.event_id, only_adds)
        return self.outputs

    def purchase(self, event: Event) -> None:
        window, clock_ms = self.policy.window, self.customer.clock_ms
        if event.is_refund:
            book_refund(self.facts, window, event.booked_at_ms, event.amount_minor, event.is_full, clock_ms)
        else:
            book_purchase(self.facts, window, event.booked_at_ms, event.amount_minor, clock_ms)

    def complaint(self, event: Event, body: Complaint) -> None:
        at_ms = event.occurred_at_ms
        status, severity = STATUSES.index(body.status), SEVERITIES.index(body.severity)
        book_complaint(self.facts, ComplaintStep(at_ms, body.complaint_id, status, severity, body.category or ""))
        forget_complaints(self.facts, self.policy.risk.complaint_risk.forget_after_ms, self.customer.clock_ms)
        if body.satisfaction is not None:
            book_satisfaction(self.facts, Satisfaction(at_ms, body.satisfaction, "complaint"))

    def command(self, event: Event, body: Command) -> None:
        standing, now_ms = self.standing, self.customer.clock_ms
        before = self.tier_now()
        if body.command == "lock_tier":
            if body.tier != standing.tier:
                standing.tier, standing.tier_since_ms = body.tier or standing.tier, now_ms
            standing.downgrade_at_ms = NEVER_MS
            standing.lock = Lock(now_ms, body.reason or "", body.actor or "")
            self.announce_kept("lock", before, event.event_id, self.view(now_ms))
        elif body.command == "unlock_tier":
            if standing.lock is not None:
                standing.lock = None
                self.announce_kept("unlock", before, event.event_id, self.view(now_ms))
        elif standing.alert is not None and alerts.is_open(standing.alert):
            done = alerts.act(standing.alert, body, event.until_ms, self.alert_situation())
            if done is not None:
                self.change_alert(done, event.event_id)

    def erase(self, event: Event) -> list[Output]:
        """Erase the customer's data; what is kept continues the numbering of outputs, and keeps repeats of older events
        out.
        """
        customer, now_ms = self.customer, self.customer.clock_ms
        before = self.tier_now()
        customer.facts = self.facts = Facts()
        customer.standing = self.standing = Standing(self.policy.base_tier, now_ms)
        customer.recent = event.event_hash
        customer.due_at_ms = customer.tier_due_ms = NEVER_MS
        customer.erased_at_ms = now_ms
        self.announce(TIER_CHANGES, "erase", event.event_id, {"before": {"tier": before["tier"]}, "after": None})
        return self.outputs

    # ------------------------------------------------------------ judgement
    def settle(self, cause: str, only_adds: bool = False) -> None:
        """Judge the customer at their clock, announce what changed, and compute when to judge again.

        `only_adds`: the event was a purchase at the clock, which never makes the loss of a tier come sooner.
        """
        customer, facts, standing = self.customer, self.facts, self.standing
        now_ms = customer.clock_ms
        ladder = self.policy.ladder
        view = self.settle_tier(cause) if standing.lock is None else None
        if view is None and (
            not only_adds
            or customer.tier_due_ms <= now_ms
            or (
                not only_shrinks(facts, self.policy.satisfaction_assumed)
                and ladder.can_rise(self.view(now_ms), standing)
            )
        ):
            view = self.view(now_ms)
        if view is not None:
            customer.tier_due_ms = ladder.next_change_ms(view, standing, now_ms)
        due_at_ms = customer.tier_due_ms
        if facts.first_purchase_ms >= 0:
            due_at_ms = min(due_at_ms, self.settle_risk(cause))
            if self.is_raised or standing.alert is not None:
                due_at_ms = min(due_at_ms, self.settle_alert(cause))
        life = self.policy.life
        if life is not None:
            if facts.prospecting is not None:
                self.settle_prospect(life, cause)
            if facts.first_purchase_ms >= 0:
                self.settle_life(life, cause)
                due_at_ms = min(due_at_ms, life.next_change_ms(facts, now_ms))
        customer.due_at_ms = due_at_ms

    def settle_tier(self, cause: str) -> View | None:
        """Returns the view under which something about the tier changed; None if nothing changed."""
        standing, ladder = self.standing, self.policy.ladder
        now_ms = self.customer.clock_ms
        measures = self.policy.measures_now(self.facts, now_ms)
        qualified = ladder.qualified_rank(measures)
        rank = ladder.rank_of(standing.tier)
        is_pending = standing.downgrade_at_ms != NEVER_MS
        if qualified < rank if is_pending else qualified == rank:
            return None
        view = self.view(now_ms)
        if qualified > rank:
            before = self.tier_now()
            standing.tier, standing.tier_since_ms = ladder.tiers[qualified].name, now_ms
            standing.downgrade_at_ms = NEVER_MS
            self.announce_kept("upgrade", before, cause, view)
        elif qualified == rank:
            before = self.tier_now()
            standing.downgrade_at_ms = NEVER_MS
            self.announce_kept("downgrade_averted", before, cause, view)
        else:
            before = self.tier_now()
            downgrade_at_ms = self.policy.downgrade_at_ms(view, standing.tier_since_ms, now_ms)
            if downgrade_at_ms > now_ms:
                standing.downgrade_at_ms = downgrade_at_ms
                self.announce_kept("downgrade_scheduled", before, cause, view)
            else:
                self.downgrade(measures, cause)
                # Without a grace period or a minimum hold, the next step down may follow at once.
                self.settle_tier(cause)
        return view

    def downgrade(self, measures: Measures, cause: str) -> None:
        """Lose the tier: one step, or straight down to what the measures qualify for."""
        standing, ladder = self.standing, self.policy.ladder
        before = self.tier_now()
        lost = ladder.tier_named(standing.tier)
        kept = ladder.tiers[lost.rank - 1 if self.policy.one_step else ladder.qualified_rank(measures)]
        standing.tier, standing.tier_since_ms = kept.name, self.customer.clock_ms
        standing.downgrade_at_ms = NEVER_MS
        self.announce_downgrade(before, cause, lost, measures)

    def settle_risk(self, cause: str) -> int:
        """Returns a lower bound of when time alone changes the level."""
        risk, now_ms = self.policy.risk, self.customer.clock_ms
        rank = risk.rank_of(self.standing.risk_level)
        if rank == 0:
            until_ms = risk.unchanged_until_ms(self.facts, 0, now_ms)
            if until_ms > now_ms:
                return until_ms  # and it has not changed up to now
        reached = risk.next_rank(rank, risk.log_odds(self.facts, now_ms))
        if reached != rank:
            self.change_level(rank, reached, cause)
        until_ms = risk.unchanged_until_ms(self.facts, reached, now_ms)
        return until_ms if until_ms > now_ms else risk.next_change_ms(self.facts, reached, now_ms)

    def settle_alert(self, cause: str) -> int:
        """Returns when time alone changes the customer's alert next."""
        rules, standing = self.policy.alerts, self.standing
        is_raised, self.is_raised = self.is_raised, False
        if rules is None:
            return NEVER_MS
        if standing.alert is not None and alerts.is_open(standing.alert):
            for change in rules.follow(standing.alert, self.alert_situation()):
                self.change_alert(change, cause)
        elif is_raised and self.policy.risk.rank_of(standing.risk_level) >= rules.rank:
            self.change_alert(rules.raise_alert(standing.alert, self.alert_situation()), cause)
        return alerts.due_ms(standing.alert)

    def alert_situation(self) -> Situation:
        policy, facts, standing, now_ms = self.policy, self.facts, self.standing, self.customer.clock_ms
        cause = explain.main_cause(policy.risk.score(facts, now_ms))
        action = policy.action_for(standing.tier, cause, standing.risk_level)
        within_ms = (
            action.within_ms if action is not None else 0 if policy.alerts is None else policy.alerts.deadline_ms
        )
        return Situation(
            now_ms,
            policy.risk.rank_of(standing.risk_level),
            cause,
            policy.risk.complaints_open_until_ms(facts, now_ms),
            facts.last_purchase_ms,
            within_ms,
        )

    def change_alert(self, change: Change, cause: str) -> None:
        """Take over the changed alert, and announce the change if it has a name."""
        name, alert = change
        before, self.standing.alert = self.standing.alert, alert
        if name:
            self.announce_alert(name, cause, before, alert)

    def settle_prospect(self, life: LifeCycle, cause: str) -> None:
        standing, now = self.standing, format_time(self.customer.clock_ms)
        found, before = life.qualification(self.facts), standing.qualification
        if found and found != before:
            standing.qualification = found
            after = {"qualification": found, "since": now}
            self.announce(
                LIFE_CYCLE, "qualification", cause, {"before": {"qualification": before or None}, "after": after}
            )
            if not standing.stage:
                standing.stage, standing.stage_since_ms = PROSPECT, self.customer.clock_ms

    def settle_life(self, life: LifeCycle, cause: str) -> None:
        facts, standing, now_ms = self.facts, self.standing, self.customer.clock_ms
        behaviour, stage = life.behaviour(facts), life.stage(facts, standing, now_ms)
        if behaviour != standing.behaviour:
            before, standing.behaviour = standing.behaviour, behaviour
            if before:
                self.announce(
                    LIFE_CYCLE, "behaviour", cause, {"before": {"behaviour": before}, "after": {"behaviour": behaviour}}
                )
        if stage != standing.stage:
            since = format_time(standing.stage_since_ms) if standing.stage else None
            detail = {"stage": standing.stage or None, "since": since}
            standing.stage, standing.stage_since_ms = stage, now_ms
            self.announce(
                LIFE_CYCLE,
                "stage",
                cause,
                {"before": detail, "after": {"stage": stage, "since": format_time(now_ms)}, "tier": standing.tier},
            )

    def change_level(self, rank: int, reached: int, cause: str) -> None:
        policy, standing, now_ms = self.policy, self.standing, self.customer.clock_ms
        before_level, before_ms = standing.risk_level, standing.risk_since_ms
        standing.risk_level = policy.risk.levels[reached - 1].name if reached else BASE_LEVEL
        standing.risk_since_ms = now_ms
        if reached > rank:
            change = "escalated" if rank else "raised"
            standing.last_alert_ms, self.is_raised = now_ms, True
        else:
            change = "eased" if reached else "cleared"
        self.announce_level(change, cause, before_level, before_ms, rank, reached)

    # ------------------------------------------------------------ announcements
    def announce_level(
        self, change: str, cause: str, before_level: str, before_ms: int, rank: int, reached: int
    ) -> None:
        policy, standing, now_ms = self.policy, self.standing, self.customer.clock_ms
        before = {"level": before_level, "since": format_time(before_ms) if rank else None}
        score = policy.risk.score(self.facts, now_ms)
        cause_of_alert = explain.main_cause(score)
        action = policy.action_for(standing.tier, cause_of_alert, standing.risk_level) if reached > rank else None
        self.announce(
            CHURN_RISK,
            change,
            cause,
            {
                "before": before,
                "after": {
                    "level": standing.risk_level,
                    "since": format_time(now_ms),
                    "probability": score.probability,
                    "log_odds": score.log_odds,
                },
                "tier": standing.tier,
                "main_cause": cause_of_alert,
                "contributions": explain.contributions(policy, self.facts, score, now_ms),
                **explain.worth(policy, self.facts, standing.tier, now_ms),
                "currency": policy.currency,
                "action": None if action is None else explain.recommendation(action, now_ms + action.within_ms),
            },
        )

    def announce_alert(self, change: str, cause: str, before: Alert | None, alert: Alert) -> None:
        was = None
        if before is not None and before.number == alert.number:
            was = {"state": before.state, "owner": before.owner or None}
        self.announce(ALERTS, change, cause, {"before": was, "after": explain.alert(self.policy, self.customer)})

    def announce_downgrade(self, before: dict[str, Any], cause: str, lost: Tier, measures: Measures) -> None:
        regains = explain.what_regains(self.policy, self.customer, lost, self.view(self.customer.clock_ms))
        self.announce_tier("downgrade", before, cause, lost, measures, regains)

    def announce_kept(self, change: str, before: dict[str, Any], cause: str, view: View) -> None:
        """Announce a change of the tier, with what keeps the tier that the customer has now."""
        tier = self.policy.ladder.tier_named(self.standing.tier)
        keeps = explain.what_keeps(self.policy, self.customer, view)
        self.announce_tier(change, before, cause, tier, view.at(self.customer.clock_ms), keeps)

    def announce_tier(
        self,
        change: str,
        before: dict[str, Any],
        cause: str,
        decided_by: Tier,
        measures: Measures,
        needs: dict[str, Any] | None,
    ) -> None:
        rule = explain.rule(self.policy, decided_by, measures)
        detail = {"before": before, "after": self.tier_now(), "rule": rule, "needs": needs}
        self.announce(TIER_CHANGES, change, cause, detail)

    def announce(self, topic: str, change: str, cause: str, detail: dict[str, Any]) -> None:
        self.outputs.append(emit(self.customer, self.customer_id, self.policy, topic, change, cause, detail))

    def tier_now(self) -> dict[str, Any]:
        return describe_tier(self.standing)

    def view(self, at_ms: int) -> View:
        return self.policy.view(self.facts, at_ms)


@mypyc_attr(acyclic=True, free_list_len=1)
class _StepWithoutBodies(_Step):
    """A step whose outputs say what happened, but not why."""

    def announce_kept(self, change: str, before: dict[str, Any], cause: str, view: View) -> None:
        self.emit_without_body(TIER_CHANGES, change)

    def announce_downgrade(self, before: dict[str, Any], cause: str, lost: Tier, measures: Measures) -> None:
        self.emit_without_body(TIER_CHANGES, "downgrade")

    def announce_level(
        self, change: str, cause: str, before_level: str, before_ms: int, rank: int, reached: int
    ) -> None:
        self.emit_without_body(CHURN_RISK, change)

    def announce_alert(self, change: str, cause: str, before: Alert | None, alert: Alert) -> None:
        self.emit_without_body(ALERTS, change)

    def announce(self, topic: str, change: str, cause: str, detail: dict[str, Any]) -> None:
        self.emit_without_body(topic, change)

    def tier_now(self) -> dict[str, Any]:
        return {"tier": self.standing.tier}

    def emit_without_body(self, topic: str, change: str) -> None:
        self.outputs.append(emit_without_body(self.customer, self.customer_id, topic, change))


def _step(customer: Customer, policy: Policy, customer_id: str, without_bodies: bool) -> _Step:
    return _StepWithoutBodies(customer, policy, customer_id) if without_bodies else _Step(customer, policy, customer_id)


def describe_tier(standing: Standing) -> dict[str, Any]:
    """The tier part of a standing, as outputs and profiles have it."""
    lock, downgrade_at_ms = standing.lock, standing.downgrade_at_ms
    return {
        "tier": standing.tier,
        "since": format_time(standing.tier_since_ms),
        "downgrade_at": None if downgrade_at_ms == NEVER_MS else format_time(downgrade_at_ms),
        "lock": None
        if lock is None
        else {"since": format_time(lock.since_ms), "reason": lock.reason, "actor": lock.actor or None},
    }
