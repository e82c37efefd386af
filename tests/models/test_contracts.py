"""The output contracts, compared with the fold's real outputs."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import contracts, load, units
from models.outputs import ALERTS
from models.policy import SHIPPED
from tests.builders import ms, some_customers
from tests.outputs import all_outputs, varied_log
from tests.running import policy_of
from tests.strategies import logs, policy_texts


def written(body: Any) -> dict[str, Any]:
    """A decoded body as JSON again: times as the fold writes them."""

    def in_words(value: Any) -> str:
        assert isinstance(value, datetime), value
        return units.format_time(units.ms_from_datetime(value))

    builtins = msgspec.to_builtins(body, builtin_types=(datetime,))
    found: dict[str, Any] = json.loads(orjson.dumps(builtins, default=in_words, option=orjson.OPT_PASSTHROUGH_DATETIME))
    return found


def assert_no_drift(topic: str, value: bytes) -> Any:
    """What is decoded is the whole body: nothing is missing, nothing unknown, nothing another type."""
    body = contracts.decode(topic, value)
    assert written(body) == json.loads(value)
    return body


@pytest.mark.parametrize("name", SHIPPED)
def test_the_contracts_cover_all_outputs_of_shipped_policies_on_cdnow(name: str) -> None:
    policy = load(name)
    seen: Counter[tuple[str, str]] = Counter()
    # All of them under one policy, under each of the others a part: of each kind there are dozens.
    log = some_customers(varied_log(policy), 1 if name == "annual-spend" else 3, SHIPPED.index(name))
    for topic, value in all_outputs(policy, log):
        body = assert_no_drift(topic, value)
        seen[topic, getattr(body, "change", "")] += 1
    expected = {
        (topic, change)
        for topic, bodies in contracts.OUTPUT_BODIES.items()
        for body in bodies
        for change in contracts.changes_of(body) or ("",)
        if topic != "life-cycle" or policy.life is not None
    }
    if policy.relative is None:  # no census computes thresholds here, so nobody rises
        assert set(seen) >= expected
    assert set(seen) <= expected


@given(policy_texts(), logs(), st.integers(0, 800))
def test_the_contracts_cover_all_outputs_of_random_logs(text: str, log: list[Any], more_days: int) -> None:
    policy = policy_of(text)
    for topic, value in all_outputs(policy, log, max(ms(one["occurred_at"]) for one in log) + more_days * units.DAY_MS):
        assert_no_drift(topic, value)


ALERT = {
    "id": "0" * 32, "seq": 7, "previous_seq": 3, "customer_id": "ada", "change": "opened",
    "occurred_at": "2026-01-31T12:00:00.001Z", "cause": "clock", "policy": "p@1", "before": None,
    "after": {
        "number": 2, "kind": "churn", "state": "open", "since": "2026-01-31T12:00:00.001Z",
        "opened_at": "2026-01-31T12:00:00.001Z", "deadline": "2026-02-07T12:00:00.001Z", "breached": False,
        "until": None, "hold": None, "owner": None, "reason": None, "bought_again": False, "level": "high",
        "main_cause": "silence", "category": "delivery", "region": None, "tier": "gold", "probability": 0.91,
        "value_at_stake": "120.50", "lifetime_value": "310.00", "currency": "USD",
        "action": {"do": "call", "before": "2026-02-07T12:00:00.001Z"}, "contributions": [],
    },
}  # fmt: skip


def test_an_alert_is_read_as_the_contract_has_it() -> None:
    change = assert_no_drift(ALERTS, json.dumps(ALERT).encode())
    assert isinstance(change, contracts.AlertChange)
    assert str(change.after.value_at_stake) == "120.50"


def test_a_field_that_came_later_is_passed_over() -> None:
    later = ALERT | {"mood": "fair"}
    assert contracts.decode(ALERTS, json.dumps(later).encode()) == contracts.decode(ALERTS, json.dumps(ALERT).encode())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"change": "sung"}, r"'sung' - at `\$\.change`; alerts has opened, held"),
        ({"change": "upgrade"}, r"'upgrade' - at `\$\.change`"),
        ({"seq": 0}, r"`\$\.seq`"),
        ({"previous_seq": None}, r"`\$\.previous_seq`"),
        ({"occurred_at": "2026-01-31T12:00:00"}, r"`\$\.occurred_at`"),
    ],
)
def test_a_body_that_breaks_the_contract_is_refused_with_where(change: dict[str, Any], error: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=error):
        contracts.decode(ALERTS, json.dumps(ALERT | change).encode())


def test_previous_seq_is_required() -> None:
    body = {name: value for name, value in ALERT.items() if name != "previous_seq"}
    with pytest.raises(msgspec.ValidationError, match="previous_seq"):
        contracts.decode(ALERTS, json.dumps(body).encode())
