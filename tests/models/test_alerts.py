"""The life of an alert, worked out by hand from docs/semantics.md."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models import Rejected, load
from models.policy import Policy
from tests.builders import DAY, HOUR, act_on_alert, complaint, ms, policy_text, purchase, shipped
from tests.running import Fold, Step, event_of, policy_of

START_MS = ms("2024-01-01")
POLICY = load("annual-spend")
LATER = "2024-01-04T00:00:00Z"


def policy(**alerts: Any) -> Policy:
    return policy_of(policy_text(shipped("annual-spend"), alerts=alerts))


def said(outputs: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in outputs if one.topic == "alerts"]


def changes(step: Step) -> list[str]:
    return [body["change"] for body in said(step.outputs)]


@pytest.fixture
def fold() -> Fold:
    """A customer who bought once, and had a critical complaint at noon on the first of January."""
    return complaining(POLICY)


def complaining(policy: Policy) -> Fold:
    fold = Fold(policy)
    fold.apply(purchase("ada", "250", on=START_MS))
    fold.apply(complaint("ada", on=START_MS, severity="critical", category="delivery", id="the-complaint"))
    return fold


def test_a_risen_level_opens_an_alert_with_what_its_handler_needs_to_know(fold: Fold) -> None:
    (body,) = said(fold.outputs)
    after = body["after"]
    assert (body["change"], body["before"], body["cause"]) == ("opened", None, "the-complaint")
    assert {name: after[name] for name in ("number", "kind", "state", "owner", "main_cause", "category", "tier", "breached")} == {
        "number": 1, "kind": "churn", "state": "open", "owner": None, "main_cause": "complaints", "category": "delivery",
        "tier": "gold", "breached": False,
    }  # fmt: skip
    assert after["action"] == {
        "do": "Call from service: resolve the complaint first, then compensate",
        "do_zh": "客服致电：先解决投诉，再给予补偿",
        "before": after["deadline"],
    }
    assert after["deadline"] == "2024-01-02T00:00:00Z"
    assert after["contributions"]


def test_the_first_to_acknowledge_owns_the_alert_until_it_is_reassigned(fold: Fold) -> None:
    assert changes(fold.apply(act_on_alert("ada", "acknowledged", on=START_MS + 1, actor="mia", id="a1"))) == [
        "acknowledged"
    ]
    assert changes(fold.apply(act_on_alert("ada", "acknowledged", on=START_MS + 2, actor="kim", id="a2"))) == []
    assigned = fold.apply(act_on_alert("ada", "acknowledged", on=START_MS + 3, actor="boss", owner="kim", id="a3"))
    (body,) = said(assigned.outputs)
    assert (body["before"]["owner"], body["after"]["owner"]) == ("mia", "kim")


def test_a_worse_level_changes_the_alert_that_is_there_and_makes_no_other(fold: Fold) -> None:
    worse = complaining(POLICY)
    step = worse.apply(complaint("ada", "c2", on=START_MS + HOUR, severity="critical"))
    assert "escalated" in step.changes
    (body,) = said(step.outputs)
    assert (body["change"], body["after"]["number"]) == ("updated", 1)


def test_a_deadline_that_passes_is_announced_once_at_its_very_instant(fold: Fold) -> None:
    outputs = fold.advance(START_MS + 10 * DAY)
    assert [(body["change"], body["occurred_at"], body["cause"]) for body in said(outputs)] == [
        ("breached", "2024-01-02T00:00:00Z", "clock")
    ]


def test_a_contact_before_the_deadline_is_no_breach(fold: Fold) -> None:
    fold.apply(act_on_alert("ada", "contacted", on=START_MS + HOUR, actor="mia"))
    assert said(fold.advance(START_MS + 3 * DAY)) == []


def test_a_snoozed_alert_wakes_at_its_instant_with_its_owner_and_a_new_deadline(fold: Fold) -> None:
    fold.apply(act_on_alert("ada", "acknowledged", on=START_MS + 1, actor="mia", id="a1"))
    fold.apply(act_on_alert("ada", "snoozed", on=START_MS + 2, actor="mia", until=LATER, id="a2"))
    (woke,) = said(fold.advance(START_MS + 3 * DAY + HOUR))
    assert (woke["change"], woke["occurred_at"]) == ("woke", LATER)
    after = woke["after"]
    assert (after["state"], after["owner"], after["deadline"]) == ("acknowledged", "mia", "2024-01-05T00:00:00Z")


def test_a_snoozed_alert_wakes_when_it_gets_worse(fold: Fold) -> None:
    fold.apply(act_on_alert("ada", "snoozed", on=START_MS + 2, actor="mia", until=LATER))
    assert changes(fold.apply(complaint("ada", "c2", on=START_MS + HOUR, severity="critical")))[0] == "woke"


def test_after_a_closed_alert_the_next_is_held_until_the_cool_down_ends() -> None:
    fold = complaining(policy(cool_down="2d"))
    fold.apply(act_on_alert("ada", "saved", on=START_MS + HOUR, actor="mia"))
    fold.apply(purchase("ada", "10", on=START_MS + 2 * HOUR))
    resolved = fold.apply(complaint("ada", on=START_MS + 3 * HOUR, status="resolved", severity="low"))
    assert resolved.changes[-1] in ("eased", "cleared")
    again = fold.apply(complaint("ada", "c2", on=START_MS + 4 * HOUR, severity="high"))
    (held,) = said(again.outputs)
    assert (held["change"], held["after"]["hold"], held["after"]["number"]) == ("held", "cool-down", 2)
    (opened, *_) = said(fold.advance(START_MS + 3 * DAY))
    assert (opened["change"], opened["occurred_at"]) == ("opened", "2024-01-03T01:00:00Z")


def test_an_alert_about_silence_waits_until_the_open_complaint_is_resolved() -> None:
    fold = Fold(POLICY)
    for week in range(5):
        fold.apply(purchase("ada", "10", on=START_MS + 7 * week * DAY))
    fold.apply(complaint("ada", on=START_MS + 29 * DAY, severity="low"))
    silent = said(fold.advance(START_MS + 200 * DAY))
    assert [(body["change"], body["after"]["hold"], body["after"]["main_cause"]) for body in silent] == [
        ("held", "complaint-open", "silence")
    ]
    resolved = fold.apply(complaint("ada", on=START_MS + 201 * DAY, status="resolved", severity="low"))
    assert changes(resolved) == ["opened"]


def test_an_alert_about_silence_closes_itself_when_the_customer_buys_again() -> None:
    fold = Fold(POLICY)
    for week in range(5):
        fold.apply(purchase("ada", "10", on=START_MS + 7 * week * DAY))
    fold.advance(START_MS + 200 * DAY)
    fold.apply(act_on_alert("ada", "contacted", on=START_MS + 201 * DAY, actor="mia"))
    (body,) = said(fold.apply(purchase("ada", "10", on=START_MS + 203 * DAY)).outputs)
    assert (body["change"], body["before"], body["after"]["bought_again"]) == (
        "recovered", {"state": "contacted", "owner": "mia"}, True,
    )  # fmt: skip


def test_an_action_meant_for_another_alert_does_nothing(fold: Fold) -> None:
    assert changes(fold.apply(act_on_alert("ada", "lost", on=START_MS + 1, number=2))) == []
    assert changes(fold.apply(act_on_alert("ada", "lost", on=START_MS + 1, number=1, id="a2"))) == ["lost"]
    assert changes(fold.apply(act_on_alert("ada", "saved", on=START_MS + 2, id="a3"))) == []


def test_a_policy_without_a_ledger_announces_no_alerts() -> None:
    fold = complaining(policy_of(policy_text()))
    assert "raised" in [output.change for output in fold.outputs]
    assert said(fold.outputs) == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, "missing_field"),
        ({"until": "soon"}, "bad_time"),
        ({"until": 10**15}, "bad_time"),
        ({"until": "2024-01-01"}, "bad_time"),
    ],
)
def test_a_snooze_needs_its_end(more: dict[str, Any], code: str) -> None:
    wire = act_on_alert("ada", "snoozed", on=START_MS, **more)
    body = {name: value for name, value in wire.items() if name != "topic"}
    rejected = POLICY.decoder().decode("commands", json.dumps(body).encode())
    assert isinstance(rejected, Rejected)
    assert (rejected.code, "until" in rejected.detail) == (code, True)


def test_each_output_names_the_one_before_it_on_its_topic(fold: Fold) -> None:
    fold.apply(complaint("ada", "c2", on=START_MS + HOUR, severity="critical"))
    fold.advance(START_MS + 400 * DAY)
    latest: dict[str, int] = {}
    for output in fold.outputs:
        assert json.loads(output.body)["previous_seq"] == latest.get(output.topic, 0)
        latest[output.topic] = output.seq
    assert len(latest) >= 3


def test_the_event_of_a_snooze_says_until_when() -> None:
    wire = act_on_alert("ada", "snoozed", on=START_MS, until=LATER)
    assert event_of(POLICY.decoder(), wire).until_ms == ms(LATER)
