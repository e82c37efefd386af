"""States of all schema versions, as workers wrote them then: read today, they equal what today's fold computes from the
same events.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from models import Output, decode, encode, next_change_ms
from models.customer import NEVER_MS, Customer
from models.outputs import ANNOUNCEMENTS
from models.state import SCHEMA_VERSION
from tests.builders import (
    DAY,
    Wire,
    act_on_alert,
    complaint,
    erase,
    feedback,
    lock,
    ms,
    policy_text,
    purchase,
    refund,
    unlock,
)
from tests.running import Fold, policy_of

POLICY_TEXT = policy_text(window={"length": "365d", "lateness": "30d"})
POLICY = policy_of(POLICY_TEXT)

LOGS: dict[str, list[Wire]] = {
    "plain": [
        purchase("ada", "30", on="2024-01-10T09:30:00Z", id="p1"),
        purchase("ada", "45.50", on="2024-02-11T10:00:00Z", id="p2"),
        purchase("ada", "30", on="2024-02-11T18:00:00Z", id="p3"),
        purchase("ada", "5", on="2024-05-01", id="p4"),
        # Late, but not too late.
        purchase("ada", "9.99", on="2024-04-20", id="p5"),
    ],
    "troubled": [
        purchase("ada", "120", on="2024-01-10T09:30:00Z", id="p1"),
        complaint("ada", "c1", on="2024-01-15", severity="high", category="delivery", id="c1-opened"),
        purchase("ada", "80", on="2024-02-01T12:00:00Z", id="p2"),
        refund("ada", "120", on="2024-02-05", of="2024-01-10T09:30:00Z", full=True, id="r1"),
        # More than was bought on that day: a negative bucket.
        refund("ada", "15", on="2024-02-06", full=True, id="r2"),
        complaint("ada", "c1", on="2024-02-10", status="escalated", severity="critical", id="c1-escalated"),
        complaint("ada", "c2", on="2024-02-20", severity="low", satisfaction=20, id="c2-opened"),
        feedback("ada", 35, on="2024-03-01", id="f1"),
        act_on_alert("ada", "contacted", on="2024-03-02", actor="eve", id="a1"),
        lock("ada", "gold", on="2024-03-03", reason="a promise", actor="bob", id="l1"),
        purchase("ada", "25", on="2024-03-20T08:00:00Z", id="p3"),
    ],
    "erased": [
        purchase("ada", "300", on="2024-01-10", id="p1"),
        complaint("ada", on="2024-01-15", id="c1-opened"),
        feedback("ada", 80, on="2024-01-20", id="f1"),
        erase("ada", on="2024-02-01T00:00:00.001Z", id="e1"),
    ],
}

# What the program at commit f4da49e wrote of these events under this policy.
VERSION_1: dict[str, str] = {
    "plain": (
        "01000001922267b4f698cf000001922267b4f6cf0000018f317370000405c428eccc62b994f7b5f5b0ae4aab76adb9c5b9a2"
        "c46280d21d3b7f4a3b61f2ac243c303f4b42d58be8f399cf0000018cf2b509c0cf0000018f317370000405cd2f119594ce00"
        "0739e90101cd0bb894ce00073cea0101cd11c694ce00073cf20101cd0bb894ce000743580101cd03e794ce000744600101cd"
        "01f494ce00072229cd2f11050090c098a4676f6c64cf0000018d99537500cf7fffffffffffffffc0a46e6f6e65cf0000018d"
        "979c0100cf0000018d8a15067ac0ff"
    ),
    "troubled": (
        "01000001910ebe041d98cf000001910ebe041dcf0000018e5adfcc00090bc458eccc62b994f7b5f59d028879ff15bea8b0ae"
        "4aab76adb9c5b43001ecdb5a665096cf65f031857a86ff919ef18499c8ab29da3a254f7211114e3814e4f91bcf38fd8db92d"
        "8bed85a613979f1e768b64e3b9a2c46280d21d3b99cf0000018cf2b509c0cf0000018e5adfcc000301cd23289494ce000739"
        "e901000094ce00073bfc0101cd1f4094ce00073c6800ffd1fa2494ce000740780101cd09c494ce00071e41cd232801019395"
        "cf0000018d0a6afc00a263310002a864656c697665727995cf0000018d90505400a263310103a095cf0000018dc3cfec00a2"
        "63320000a093cf0000018df74f840023a46373617498a4676f6c64cf0000018e019c3c00cf7fffffffffffffff93cf000001"
        "8e019c3c00a9612070726f6d697365a3626f62a57761746368cf0000018e5adfcc00cf0000018dc3cfec0094cf0000018dfc"
        "75e000a9636f6e746163746564a3657665a0ff"
    ),
    "erased": (
        "017fffffffffffffff98cf7fffffffffffffffcf0000018d61f718010304c408d05096490600f7a199ffff00000090940000"
        "000090c098a66d656d626572cf0000018d61f71801cf7fffffffffffffffc0a46e6f6e6500ffc0cf0000018d61f71801"
    ),
}

# What the program at commit 8c447f1 wrote.
VERSION_2: dict[str, str] = {
    "plain": (
        "0200000192026dbff3dc0014cf0000018f317370000405c428eccc62b994f7b5f5b0ae4aab76adb9c5b9a2c46280d21d3b7f"
        "4a3b61f2ac243c303f4b42d58be8f3cf000001944a4abe80cf0000018cf2b509c0cf0000018f317370000405cd2f11c43d00"
        "e939070001000100b80b0000ea3c070001000100c6110000f23c070001000100b80b00005843070001000100e70300006044"
        "070001000100f4010000ce00072229cd2f1105a4676f6c64cf0000018d99537500a46e6f6e65cf0000018d979c0100cf0000"
        "018d8a15067ac0"
    ),
    "troubled": (
        "02000001910ebe041ddc0014cf0000018e5adfcc00090bc458eccc62b994f7b5f59d028879ff15bea8b0ae4aab76adb9c5b4"
        "3001ecdb5a665096cf65f031857a86ff919ef18499c8ab29da3a254f7211114e3814e4f91bcf38fd8db92d8bed85a613979f"
        "1e768b64e3b9a2c46280d21d3bffcf0000018cf2b509c0cf0000018e5adfcc000301cd2328c43100e9390700010000000000"
        "0000fc3b070001000100401f0000683c07000000ffff24faffff7840070001000100c4090000ce00071e41cd232801a4676f"
        "6c64cf0000018e019c3c00a57761746368cf0000018e5adfcc00cf0000018dc3cfec0098ff9395cf0000018d0a6afc00a263"
        "310002a864656c697665727995cf0000018d90505400a263310103a095cf0000018dc3cfec00a263320000a093cf0000018d"
        "f74f840023a463736174d1fa24ffcf3fffffffffffffff93cf0000018e019c3c00a9612070726f6d697365a3626f6294cf00"
        "00018dfc75e000a9636f6e746163746564a3657665a0"
    ),
    "erased": (
        "023fffffffffffffffdc0014cf0000018d61f718010304c408d05096490600f7a1ffffff000000c400000000a66d656d6265"
        "72cf0000018d61f71801a46e6f6e6500ff98cf0000018d61f7180190c00000cf3fffffffffffffffc0c0"
    ),
}

# And the one at commit 59d2179.
VERSION_3: dict[str, str] = {
    "plain": (
        "0300000192026dbff30000dc0016cf0000018f317370000405c428eccc62b994f7b5f5b0ae4aab76adb9c5b9a2c46280"
        "d21d3b7f4a3b61f2ac243c303f4b42d58be8f3cf000001944a4abe80cf0000018cf2b509c0cf0000018f317370000405"
        "cd2f11c43d00e939070001000100b80b0000ea3c070001000100c6110000f23c070001000100b80b0000584307000100"
        "0100e70300006044070001000100f4010000ce00072229cd2f1105a4676f6c64cf0000018d99537500a46e6f6e65cf00"
        "00018d979c0100cf0000018d8a15067acd01f4c0c0"
    ),
    "troubled": (
        "03000001910ebe041d0000dc0016cf0000018e5adfcc00090bc458eccc62b994f7b5f59d028879ff15bea8b0ae4aab76"
        "adb9c5b43001ecdb5a665096cf65f031857a86ff919ef18499c8ab29da3a254f7211114e3814e4f91bcf38fd8db92d8b"
        "ed85a613979f1e768b64e3b9a2c46280d21d3bffcf0000018cf2b509c0cf0000018e5adfcc000301cd2328c43100e939"
        "07000100000000000000fc3b070001000100401f0000683c07000000ffff24faffff7840070001000100c4090000ce00"
        "071e41cd232801a4676f6c64cf0000018e019c3c00a57761746368cf0000018e5adfcc00cf0000018dc3cfec00cd09c4"
        "c09aff9395cf0000018d0a6afc00a263310002a864656c697665727995cf0000018d90505400a263310103a095cf0000"
        "018dc3cfec00a263320000a093cf0000018df74f840023a463736174d1fa24ffcf3fffffffffffffff93cf0000018e01"
        "9c3c00a9612070726f6d697365a3626f6294cf0000018dfc75e000a9636f6e746163746564a3657665a0c0a0"
    ),
    "erased": (
        "033fffffffffffffff0000dc0016cf0000018d61f718010304c408d05096490600f7a1ffffff000000c400000000a66d"
        "656d626572cf0000018d61f71801a46e6f6e6500ff00c09acf0000018d61f7180190c00000cf3fffffffffffffffc0c0"
        "c0a0"
    ),
}

# And the one at commit e75c47c.
VERSION_4: dict[str, str] = {
    "plain": (
        "0400000192026dbff30000dc0018cf0000018f317370000405c428eccc62b994f7b5f5b0ae4aab76adb9c5b9a2c46280"
        "d21d3b7f4a3b61f2ac243c303f4b42d58be8f3cf000001944a4abe80cf0000018cf2b509c0cf0000018f317370000405"
        "cd2f11c43d00e939070001000100b80b0000ea3c070001000100c6110000f23c070001000100b80b0000584307000100"
        "0100e70300006044070001000100f4010000ce00072229cd2f1105a4676f6c64cf0000018d99537500a46e6f6e65cf00"
        "00018d979c0100cf0000018d8a15067acd01f4c09404030000c0c0"
    ),
    "troubled": (
        "04000001910ebe041d0000dc0018cf0000018e5adfcc00090bc458eccc62b994f7b5f59d028879ff15bea8b0ae4aab76"
        "adb9c5b43001ecdb5a665096cf65f031857a86ff919ef18499c8ab29da3a254f7211114e3814e4f91bcf38fd8db92d8b"
        "ed85a613979f1e768b64e3b9a2c46280d21d3bffcf0000018cf2b509c0cf0000018e5adfcc000301cd2328c43100e939"
        "07000100000000000000fc3b070001000100401f0000683c07000000ffff24faffff7840070001000100c4090000ce00"
        "071e41cd232801a4676f6c64cf0000018e019c3c00a57761746368cf0000018e5adfcc00cf0000018dc3cfec00cd09c4"
        "c09408090000c09aff9395cf0000018d0a6afc00a263310002a864656c697665727995cf0000018d90505400a2633101"
        "03a095cf0000018dc3cfec00a263320000a093cf0000018df74f840023a463736174d1fa24ffcf3fffffffffffffff93"
        "cf0000018e019c3c00a9612070726f6d697365a3626f62c0c0a0"
    ),
    "erased": (
        "043fffffffffffffff0000dc0018cf0000018d61f718010304c408d05096490600f7a1ffffff000000c400000000a66d"
        "656d626572cf0000018d61f71801a46e6f6e6500ff00c09403020000c09acf0000018d61f7180190c00000cf3fffffff"
        "ffffffffc0c0c0a0"
    ),
}

# The present one: what it writes may not change without a version of its own.
VERSION_5: dict[str, str] = {
    "plain": (
        "0500000192026dbff300000b50eccc62b994f7b5f5b0ae4aab76adb9c5b9a2c46280d21d3b7f4a3b61f2ac243c303f4b"
        "42d58be8f37a00e939070001000100b80b0000ea3c070001000100c6110000f23c070001000100b80b00005843070001"
        "000100e70300006044070001000100f401000080c09b97e663080a8099f3eb4700080aa2bc01d28839a2bc010ae80708"
        "676f6c6480ecff813380baba8da301086e6f6e658084e0f9b263f499a8a1b16308060000"
    ),
    "troubled": (
        "05000001910ebe041d00002ab001eccc62b994f7b5f59d028879ff15bea8b0ae4aab76adb9c5b43001ecdb5a665096cf"
        "65f031857a86ff919ef18499c8ab29da3a254f7211114e3814e4f91bcf38fd8db92d8bed85a613979f1e768b64e3b9a2"
        "c46280d21d3b6200e93907000100000000000000fc3b070001000100401f0000683c07000000ffff24faffff78400700"
        "01000100c409000080b0feadcb6312168089d6822d000602d08c0182f938d08c0102882708676f6c6480c09c940b0a77"
        "6174636880b0feadcb6380b0ffbcb863101200009aff9395cf0000018d0a6afc00a263310002a864656c697665727995"
        "cf0000018d90505400a263310103a095cf0000018dc3cfec00a263320000a093cf0000018df74f840023a463736174d1"
        "fa24ffcf3fffffffffffffff93cf0000018e019c3c00a9612070726f6d697365a3626f62c0c0a0"
    ),
    "erased": (
        "053fffffffffffffff00002810d05096490600f7a10082e0b89fac63060884e0b89fac6384e0b89fac63000000000000"
        "000c6d656d62657200060400009acf0000018d61f7180190c00000cf3fffffffffffffffc0c0c0a0"
    ),
}

WRITTEN = {1: VERSION_1, 2: VERSION_2, 3: VERSION_3, 4: VERSION_4, 5: VERSION_5}
CASES = [(version, name) for version in WRITTEN for name in LOGS]
BOUGHT_LAST_MINOR = {"plain": 500, "troubled": 2500, "erased": 0}
"""The fields that versions 1 and 2 do not have."""

# What happens later: crossings by time alone, purchases, a late one, a repeat, an unlocking.
LATER: list[Wire] = [
    purchase("ada", "30", on="2024-02-11T18:00:00Z", id="p3"),
    complaint("ada", "c1", on="2024-06-01", status="resolved", severity="critical", id="c1-resolved"),
    purchase("ada", "60", on="2024-06-02T10:00:00Z", id="q1"),
    refund("ada", "20", on="2024-06-03", of="2024-06-02T10:00:00Z", id="q2"),
    purchase("ada", "15", on="2024-05-20", id="q3"),
    unlock("ada", on="2024-07-01", id="q4"),
    feedback("ada", 10, on="2024-07-02", id="q5"),
    purchase("ada", "12", on="2025-03-01", id="q6"),
    purchase("ada", "500", on="2026-09-01", id="q7"),
]


def folded(log: list[Wire]) -> Fold:
    fold = Fold(POLICY)
    for wire in log:
        assert fold.apply(wire).rejected is None
    return fold


def read_today(version: int, name: str) -> Customer:
    return decode(bytes.fromhex(WRITTEN[version][name]))


@pytest.mark.parametrize(("version", "name"), CASES)
def test_an_old_state_is_read_as_todays_fold_computes_it_from_the_same_events(version: int, name: str) -> None:
    assert bytes.fromhex(WRITTEN[version][name])[0] == version
    read, made = read_today(version, name), folded(LOGS[name]).customers["ada"]
    if version < 3:
        assert (read.facts.last_day_minor, made.facts.last_day_minor) == (0, BOUGHT_LAST_MINOR[name])
        read.facts.last_day_minor = made.facts.last_day_minor
    assert read.facts == made.facts
    assert read.standing == made.standing
    assert (read.clock_ms, read.seq, read.events) == (made.clock_ms, made.seq, made.events)
    assert (read.recent, read.erased_at_ms) == (made.recent, made.erased_at_ms)
    assert next_change_ms(read, POLICY) == next_change_ms(made, POLICY)
    # A bound may be another, but it is one.
    assert read.clock_ms < read.due_at_ms <= next_change_ms(made, POLICY)
    assert read.tier_due_ms <= made.tier_due_ms


@pytest.mark.parametrize(("version", "name"), CASES)
def test_folding_on_from_an_old_state_announces_the_same_as_from_the_beginning(version: int, name: str) -> None:
    made, read = folded(LOGS[name]), Fold(POLICY, {"ada": read_today(version, name)})
    announced = len(made.outputs)
    for wire in LATER:
        made.apply(wire)
        read.apply(wire)
    until_ms = ms("2026-09-01") + 1000 * DAY
    made.advance(until_ms)
    read.advance(until_ms)
    assert bodies_of(read.outputs) == bodies_of(made.outputs[announced:])
    assert len(read.outputs) > 5
    assert [json.loads(one.body)["previous_seq"] for one in read.outputs].count(0) <= len(ANNOUNCEMENTS)
    latest = {topic: max([one.seq for one in read.outputs if one.topic == topic], default=0) for topic in ANNOUNCEMENTS}
    assert read.customers["ada"].latest_seqs == tuple(latest.values())
    read.customers["ada"].latest_seqs = made.customers["ada"].latest_seqs
    assert read.customers == made.customers


def bodies_of(outputs: list[Output]) -> list[dict[str, Any]]:
    """Outputs without what versions before 4 did not know: which was the one before."""
    return [json.loads(one.body) | {"previous_seq": None} for one in outputs]


@pytest.mark.parametrize(("version", "name"), [case for case in CASES if case[1] != "erased"])
def test_time_alone_does_to_a_state_of_an_older_version_what_it_does_to_todays(version: int, name: str) -> None:
    made, read = folded(LOGS[name]), Fold(POLICY, {"ada": read_today(version, name)})
    for months in range(1, 40):
        until_ms = ms("2024-05-01") + months * 30 * DAY
        assert bodies_of(read.advance(until_ms)) == bodies_of(made.advance(until_ms))
    assert read.outputs
    assert read.customers["ada"].due_at_ms == NEVER_MS


@pytest.mark.parametrize(("version", "name"), CASES)
def test_a_state_of_an_older_version_is_written_back_in_the_present_version(version: int, name: str) -> None:
    read = read_today(version, name)
    assert encode(read)[0] == SCHEMA_VERSION > 1
    assert decode(encode(read)) == read


@pytest.mark.parametrize("name", LOGS)
def test_the_present_version_is_written_as_ever(name: str) -> None:
    assert encode(read_today(SCHEMA_VERSION, name)).hex() == WRITTEN[SCHEMA_VERSION][name]


@pytest.mark.parametrize("version", WRITTEN)
def test_the_states_hold_what_an_upcast_may_get_wrong(version: int) -> None:
    plain, troubled, erased = (read_today(version, name) for name in LOGS)
    assert plain.facts.window_refunded_orders == 0 < plain.due_at_ms < NEVER_MS
    assert (troubled.facts.window_refunded_minor, troubled.facts.window_refunded_orders) == (-1500, -1)
    assert len(troubled.facts.complaints) == 3
    assert None not in (troubled.facts.satisfaction, troubled.standing.lock)
    assert erased.erased_at_ms == erased.clock_ms > 0
