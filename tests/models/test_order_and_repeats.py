"""Facts do not depend on the order of arrival, and repeated events change nothing."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from models import encode
from models.customer import RECENT_EVENTS
from models.customer_parts import Satisfaction
from tests.builders import DAY, Wire, feedback, ms, policy_text, purchase
from tests.running import Fold, events_of, policy_of, run
from tests.strategies import customer_logs, policy_texts, timely_events

DAY_0 = ms("2020-01-01")


@given(policy_texts(), timely_events(), st.data())
def test_facts_are_the_same_in_whatever_order_events_arrive(text: str, log: list[Wire], data: st.DataObject) -> None:
    policy = policy_of(text)
    spread_ms = max(ms(one["occurred_at"]) for one in log) - min(ms(one["occurred_at"]) for one in log)
    assume(spread_ms <= policy.window.lateness_ms)
    in_order = run(policy, log)[-1].customer
    in_disorder = run(policy, data.draw(st.permutations(log), "order of arrival"))[-1].customer
    assert in_disorder.facts == in_order.facts
    assert in_disorder.clock_ms == in_order.clock_ms


@given(policy_texts(), customer_logs(), st.data())
def test_a_repeat_changes_nothing(text: str, log: list[Wire], data: st.DataObject) -> None:
    policy = policy_of(text)
    once, repeating = Fold(policy), Fold(policy)
    counted: list[Wire] = []
    for wire in log:
        before = once.customers.get("ada")
        step = once.apply(wire)
        repeating.apply(wire)
        if before is None or step.customer.events > before.events:
            counted = [wire] if wire.get("command") == "erase" else [*counted, wire]
        if counted:
            again = data.draw(st.sampled_from(counted), "again")
            assert repeating.apply(again).outputs == []
        assert encode(repeating.customers["ada"]) == encode(once.customers["ada"])
    assert repeating.outputs == once.outputs


@given(st.integers(0, RECENT_EVENTS - 1))
def test_a_repeat_is_recognised_until_64_other_events_have_come(others_between: int) -> None:
    fold = Fold(policy_of(policy_text()))
    first = purchase("ada", "10", on=DAY_0, id="first")
    fold.apply(first)
    for number in range(others_between):
        fold.apply(purchase("ada", "1", on=DAY_0 + number, id=f"other-{number}"))
    before = encode(fold.customers["ada"])
    assert fold.apply(first).outputs == []
    assert encode(fold.customers["ada"]) == before


def test_a_repeat_after_64_other_events_counts_again_as_documented() -> None:
    fold = Fold(policy_of(policy_text()))
    first = purchase("ada", "10", on=DAY_0, id="first")
    fold.apply(first)
    for number in range(RECENT_EVENTS):
        fold.apply(purchase("ada", "1", on=DAY_0 + number, id=f"other-{number}"))
    spend_minor = fold.customers["ada"].facts.spend_minor
    fold.apply(first)
    assert fold.customers["ada"].facts.spend_minor == spend_minor + 1000


def test_the_same_id_on_another_topic_is_another_event() -> None:
    fold = Fold(policy_of(policy_text()))
    fold.apply(purchase("ada", "10", on=DAY_0, id="one"))
    fold.apply(feedback("ada", 90, on=DAY_0 + DAY, id="one"))
    assert fold.customers["ada"].facts.satisfaction is not None


def test_the_same_id_of_another_customer_is_another_event() -> None:
    fold = Fold(policy_of(policy_text()))
    fold.apply(purchase("ada", "10", on=DAY_0, id="one"))
    fold.apply(purchase("bob", "10", on=DAY_0, id="one"))
    assert fold.customers["bob"].facts.orders == 1


@given(st.permutations([(50, "csat"), (50, "nps"), (70, "csat"), (10, "nps")]))
def test_of_simultaneous_answers_the_highest_counts_in_any_order(
    answers: list[tuple[int, str]],
) -> None:
    fold = Fold(policy_of(policy_text()))
    for score, kind in answers:
        fold.apply(feedback("ada", score, on=DAY_0, kind=kind))
    assert fold.customers["ada"].facts.satisfaction == Satisfaction(DAY_0, 70, "csat")


def test_an_id_is_not_found_across_the_border_of_two_others() -> None:
    policy = policy_of(policy_text())
    fold = Fold(policy)
    log = [purchase("ada", "1", on=DAY_0, id=id) for id in ("one", "two", "three")]
    for event, hashed in zip(events_of(policy, log), (b"AAAABBBB", b"CCCCDDDD", b"BBBBCCCC"), strict=True):
        event.event_hash = hashed
        fold.apply_event(event)
    assert fold.customers["ada"].facts.orders == 3
