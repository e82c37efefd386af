"""Changes by time have exact instants, and it does not matter when, or how often, the fold advances a customer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models import Output, advance, apply, encode, next_change_ms
from models.customer import NEVER_MS
from tests.builders import DAY, Wire, ms
from tests.running import Fold, events_of, policy_of
from tests.strategies import customer_logs, policy_texts

INSTANTS_FOLLOWED = 12


@given(policy_texts(), customer_logs())
def test_nothing_changes_before_the_next_change_and_due_at_is_a_bound_of_it(text: str, log: list[Wire]) -> None:
    policy = policy_of(text)
    fold = Fold(policy)
    for wire in log:
        fold.apply(wire)
    customer = fold.customers["ada"]
    for _ in range(INSTANTS_FOLLOWED):
        change_ms = next_change_ms(customer, policy)
        assert customer.clock_ms < customer.due_at_ms <= change_ms
        assert advance(customer, customer.due_at_ms - 1, policy, "ada") == (customer, ())
        if change_ms == NEVER_MS:
            break
        waiting, outputs = advance(customer, change_ms - 1, policy, "ada")
        assert not outputs
        assert (waiting.clock_ms, waiting.facts, waiting.standing) == (
            customer.clock_ms,
            customer.facts,
            customer.standing,
        )
        later, outputs = advance(customer, change_ms, policy, "ada")
        assert outputs
        assert {output.occurred_at_ms for output in outputs} == {change_ms}
        assert later.clock_ms == change_ms
        customer = later


@given(policy_texts(), customer_logs(), st.integers(0, 900 * DAY))
def test_a_change_by_time_has_its_exact_instant_however_late_it_is_computed(
    text: str, log: list[Wire], late_ms: int
) -> None:
    policy = policy_of(text)
    fold = Fold(policy)
    for wire in log:
        fold.apply(wire)
    customer = fold.customers["ada"]
    change_ms = next_change_ms(customer, policy)
    if change_ms == NEVER_MS:
        return
    _, found_on_time = advance(customer, change_ms, policy, "ada")
    _, found_late = advance(customer, change_ms + late_ms, policy, "ada")
    assert list(found_late[: len(found_on_time)]) == list(found_on_time)


@given(policy_texts(), customer_logs(), st.data())
def test_advancing_in_many_steps_or_none_gives_the_same_bytes_and_the_same_outputs(
    text: str, log: list[Wire], data: st.DataObject
) -> None:
    policy = policy_of(text)
    end_ms = max(ms(wire["occurred_at"]) for wire in log) + data.draw(st.integers(0, 800 * DAY), "silence at the end")
    lazy, once, often = Fold(policy), Fold(policy), Fold(policy)
    for event in events_of(policy, log):
        if once.customers:
            # No tick runs ahead of an event that is not late: time stops short of it, or at it.
            from_ms = often.customers["ada"].clock_ms
            to_ms = max(event.occurred_at_ms, from_ms)
            once.advance(to_ms)
            for tick_ms in sorted(data.draw(st.lists(st.integers(from_ms, to_ms), max_size=4), "ticks")):
                often.advance(tick_ms)
        lazy.apply_event(event)
        once.apply_event(event)
        often.apply_event(event)
        assert encode(lazy.customers["ada"]) == encode(once.customers["ada"]) == encode(often.customers["ada"])
    lazy.advance(end_ms)
    while often.customers["ada"].due_at_ms <= end_ms:
        often.advance(often.customers["ada"].due_at_ms)
    assert encode(lazy.customers["ada"]) == encode(often.customers["ada"])
    assert lazy.outputs[: len(once.outputs)] == once.outputs
    assert lazy.outputs == often.outputs


@given(policy_texts(), customer_logs())
def test_apply_and_advance_leave_their_argument_unchanged(text: str, log: list[Wire]) -> None:
    policy = policy_of(text)
    customer = None
    for event in events_of(policy, log):
        before, bytes_before = repr(customer), customer and encode(customer)
        event_before = repr(event)
        following, _ = apply(customer, event, policy)
        assert repr(customer) == before
        assert (customer and encode(customer)) == bytes_before
        assert repr(event) == event_before
        customer = following
        assert customer is not None
        before = repr(customer)
        advance(customer, event.occurred_at_ms + 500 * DAY, policy, "ada")
        assert repr(customer) == before


@given(policy_texts(), customer_logs(), st.integers(0, 500 * DAY))
def test_seq_is_gapless_and_occurred_at_never_goes_back(text: str, log: list[Wire], silence_ms: int) -> None:
    fold = Fold(policy_of(text))
    clocks = []
    for wire in log:
        fold.apply(wire)
        clocks.append(fold.customers["ada"].clock_ms)
    fold.advance(clocks[-1] + silence_ms)
    assert clocks == sorted(clocks)
    assert [output.seq for output in fold.outputs] == list(range(1, len(fold.outputs) + 1))
    assert fold.customers["ada"].seq == len(fold.outputs)
    instants = [output.occurred_at_ms for output in fold.outputs]
    assert instants == sorted(instants)
    assert len({output.id for output in fold.outputs}) == len(fold.outputs)


@given(policy_texts(), customer_logs())
def test_the_same_log_gives_the_same_bytes(text: str, log: list[Wire]) -> None:
    def bytes_of_a_run() -> tuple[bytes, list[Output]]:
        fold = Fold(policy_of(text))
        for wire in log:
            fold.apply(wire)
        return encode(fold.customers["ada"]), fold.outputs

    assert bytes_of_a_run() == bytes_of_a_run()
