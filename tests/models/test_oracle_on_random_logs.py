"""The fold agrees with the oracle, on random logs under random policies."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from tests.builders import DAY, Wire, ms
from tests.models.agreement import assert_agrees
from tests.oracle import replay
from tests.running import Fold, Step, policy_of
from tests.strategies import LEDGERS, alert_logs, customer_logs, logs, policy_texts


@given(policy_texts(), logs())
def test_the_fold_agrees_with_the_oracle_at_every_prefix(text: str, log: list[Wire]) -> None:
    agrees(text, log, until_ms=max(ms(wire["occurred_at"]) for wire in log))


@given(policy_texts(), customer_logs(), st.integers(0, 900))
def test_the_fold_agrees_with_the_oracle_after_long_silence(text: str, log: list[Wire], days: int) -> None:
    agrees(text, log, until_ms=max(ms(wire["occurred_at"]) for wire in log) + days * DAY)


@given(policy_texts(ledgers=LEDGERS[1:]), alert_logs(), st.integers(0, 90))
def test_the_fold_agrees_with_the_oracle_on_what_is_done_about_alerts(text: str, log: list[Wire], days: int) -> None:
    agrees(text, log, until_ms=ms(log[-1]["occurred_at"]) + days * DAY)


def agrees(text: str, log: list[Wire], until_ms: int) -> None:
    """Fold and oracle say the same after every event, and after the silence that follows."""
    fold = Fold(policy_of(text))
    pictures = replay(text, log, until_ms)
    for wire, picture in zip(log, pictures, strict=False):
        step = fold.apply(wire)
        if picture.close_call:
            event("too close to call")
            return
        assert_agrees(step, picture, fold.policy, wire["event_id"])
        for change in step.changes:
            event(change)
        event(picture.verdict)
    for customer_id, picture in zip(list(fold.customers), pictures[len(log) :], strict=True):
        outputs = fold.advance(until_ms, customer_id)
        if not picture.close_call:
            assert_agrees(Step(customer_id, fold.customers[customer_id], outputs), picture, fold.policy, "at the end")
        for output in outputs:
            event(f"{output.change} by the clock")
