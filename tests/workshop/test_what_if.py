"""The effect of hypothetical events, against the oracle, on random logs under random policies."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from streams.sources.written_event import WrittenEvent
from streams.workshop.explain.what_if import what_if
from tests.builders import DAY, Wire, ms
from tests.oracle import Customer, Picture, replay
from tests.oracle_facts import Event, Rules
from tests.running import Fold, event_of, policy_of
from tests.strategies import customer_logs, facts_about, policy_texts


@st.composite
def supposed_events(draw: st.DrawFn, at_ms: int) -> list[Wire]:
    """One or two events at or after an instant, or a little before it."""
    found: list[Wire] = []
    for number in range(draw(st.integers(1, 2))):
        on_ms = at_ms + draw(st.sampled_from([0, 0, 0, 1, DAY, 40 * DAY, -DAY]))
        found.append(draw(facts_about("ada", on_ms, [on_ms], 1000 + number)))
    return found


@given(policy_texts(), customer_logs(), st.integers(0, 400), st.data())
def test_what_events_would_do_is_what_the_oracle_says_of_the_log_with_them(
    text: str, log: list[Wire], days: int, data: st.DataObject
) -> None:
    policy, at_ms = policy_of(text), max(ms(wire["occurred_at"]) for wire in log) + days * DAY
    more = data.draw(supposed_events(at_ms))
    until_ms = max([at_ms, *(ms(wire["occurred_at"]) for wire in more)])
    fold = Fold(policy)
    for wire in log:
        fold.apply(wire)
    fold.advance(at_ms, "ada")
    events = [WrittenEvent(event_of(policy.decoder(), wire), wire, []) for wire in more]
    found = what_if(fold.customers["ada"], policy, "ada", at_ms, events)
    without = replay(text, log, until_ms)[-1]
    with_them = after_waiting(text, log, at_ms, more, until_ms)
    if without.close_call or any(picture.close_call for picture in with_them):
        event("too close to call")
        return
    agrees(found["before"], without)
    agrees(found["after"], with_them[-1])
    announced = [one for picture in with_them for one in picture.announcements]
    assert [(one["topic"], one["change"], ms(one["occurred_at"]), one["cause"]) for one in found["announcements"]] == [
        (one.topic, one.change, one.occurred_at, one.cause) for one in announced
    ]
    verdicts = {"counted": "counted", "repeat": "repeat", "too_late": "rejected"}
    assert [one["verdict"] for one in found["events"]] == [
        verdicts[picture.verdict] for picture in with_them[: len(more)]
    ]
    for one in announced:
        event(one.change)


def after_waiting(text: str, log: list[Wire], at_ms: int, more: list[Wire], until_ms: int) -> list[Picture]:
    """The oracle's pictures of further events, after it has advanced to an instant, and one at the end."""
    rules = Rules(text)
    ada = Customer(rules, "ada", ms(log[0]["occurred_at"]))
    for wire in log:
        ada.happens(Event(wire, rules))
    ada.nothing_happens_until(at_ms)
    pictures = [ada.happens(Event(wire, rules)) for wire in more]
    return [*pictures, ada.nothing_happens_until(until_ms)]


def agrees(seen: dict[str, Any] | None, picture: Picture) -> None:
    """A look at a customer, and the oracle's picture of the same."""
    if seen is None:
        assert picture.facts["orders"] == 0
        return
    standing, facts = picture.standing, picture.facts
    assert seen["tier"] == standing["tier"]
    assert seen["level"] == standing["level"]
    assert (None if seen["downgrade_at"] is None else ms(seen["downgrade_at"])) == standing["downgrade_at"]
    assert seen["locked"] == (standing["lock"] is not None)
    assert seen["lifetime_orders"] == facts["orders"]
    assert round(float(seen["lifetime_spend"]) * 100) == facts["spend"]
    alert = standing["alert"]
    assert (seen["alert"] or {}).get("state") == (alert and alert["state"])
    stage, _, behaviour, qualification = standing["life"]
    assert (seen["stage"] or "", seen["behaviour"] or "", seen["qualification"] or "") == (
        stage, behaviour, qualification,
    )  # fmt: skip
