"""Activating a policy for existing customers: what changes for them, and which policies can't be activated."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from models import decode, load
from models.bodies import Command
from models.customer import Customer
from models.policy import Policy
from models.policy.compatibility import obstacles
from models.policy.editions import EditionError, Editions
from streams.engine.policy_on_wire import edition_body
from streams.workshop.compare.comparison import Comparing
from streams.workshop.replay.fold import Replay
from tests.builders import DAY, Wire, lock, ms, purchase, shipped_text
from tests.models.test_editions import fold_in_batches, records
from tests.models.test_parameters import FITTED
from tests.running import policy_of
from tests.strategies import logs, policy_texts

ANNUAL = shipped_text("annual-spend")


def trailing(text: str, length: str, bucket: str = "1d") -> str:
    """annual-spend, by a window that looks back so long."""
    text = text.replace('kind = "calendar-year"', f'kind = "trailing"\nlength = "{length}"\nbucket = "{bucket}"')
    return text.replace('grace = "period-end"', 'grace = "0d"')


def activation(number: int, at_ms: int, text: str, parameters: Any = None) -> Wire:
    return {"topic": "commands", **json.loads(edition_body(number, at_ms, parameters=parameters, policy=text))}


def command(number: int, text: str, parameters: Any = None) -> Command:
    return msgspec.json.decode(edition_body(number, 0, parameters=parameters, policy=text), type=Command)


def memoryless(text: str) -> str:
    """A policy under which where somebody is depends on what is known of them, and not on where they were: no grace, no
    hold, straight down, and levels that ease where they are raised.
    """
    lines: list[str] = []
    for line in text.splitlines():
        name = line.partition(" = ")[0]
        if name == "ease_below":
            lines.append(lines[-1].replace("raise_at", "ease_below"))
        else:
            without = {"grace": 'grace = "0d"', "min_hold": 'min_hold = "0d"'}
            lines.append('step = "direct"' if line == 'step = "one"' else without.get(name, line))
    return "\n".join(lines)


def newer(text: str) -> str:
    return text.replace("version = 1", "version = 2")


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """A policy, and one that can follow it."""
    while True:
        before, after = policy_of(memoryless(draw(policy_texts()))), policy_of(newer(memoryless(draw(policy_texts()))))
        if not obstacles(before, after):
            return before, after


@st.composite
def timely_logs(draw: st.DrawFn) -> list[Wire]:
    """In the order of time, without what depends on the tiers of then."""
    found = [wire for wire in draw(logs()) if wire["topic"] != "commands"]
    return sorted(found, key=lambda wire: ms(wire["occurred_at"])) or [purchase("ada", "90", on="2024-01-01")]


@settings(max_examples=50)
@given(pairs(), timely_logs(), st.data())
def test_customers_are_where_they_would_be_had_the_policy_been_in_force_all_along(
    pair: tuple[Policy, Policy], log: list[Wire], data: st.DataObject
) -> None:
    before, after = pair
    place = data.draw(st.integers(1, len(log)))
    at_ms = ms(log[place - 1]["occurred_at"])
    until_ms = ms(log[-1]["occurred_at"]) + data.draw(st.integers(0, 500)) * DAY
    begun = [*log[:place], activation(1, at_ms, after.text), *log[place:]]
    _, switched = fold_in_batches(before, begun, data.draw(st.sampled_from([1, 3, 100])), until_ms)
    _, all_along = fold_in_batches(after, log, 100, until_ms)
    assert switched.keys() == all_along.keys()
    for key, state in switched.items():
        one, other = decode(state), decode(all_along[key])
        assert where(one, until_ms, after) == where(other, until_ms, after)
        if levels_are_comparable(before, after):
            assert one.standing.risk_level == other.standing.risk_level
        event(f"{one.standing.tier}, {one.standing.risk_level}")


def where(customer: Customer, at_ms: int, policy: Policy) -> Any:
    """What a policy without memory says of a customer."""
    facts, seen = customer.facts, policy.view(customer.facts, at_ms).at(at_ms)
    measures = (seen.spend_minor, seen.orders, seen.active_periods, seen.recency_ms, seen.satisfaction)
    return (
        customer.standing.tier, measures, facts.first_purchase_ms, facts.last_purchase_ms, facts.purchase_days,
        facts.orders, facts.spend_minor,
    )  # fmt: skip


def levels_are_comparable(before: Policy, after: Policy) -> bool:
    """Whether levels ease where they are raised, and the policy before has forgotten nothing that the next one looks
    at.
    """
    keeps_complaints = before.risk.complaint_risk.forget_after_ms >= after.risk.complaint_risk.forget_after_ms
    return keeps_complaints and all(level.ease_below == level.raise_at for level in after.risk.levels)


@settings(max_examples=30)
@given(pairs(), timely_logs(), st.data())
def test_after_an_activation_judging_at_once_or_in_turn_gives_the_same_bytes(
    pair: tuple[Policy, Policy], log: list[Wire], data: st.DataObject
) -> None:
    before, after = pair
    until_ms = ms(log[-1]["occurred_at"]) + 400 * DAY
    place = data.draw(st.integers(1, len(log)))
    at_ms = ms(log[place - 1]["occurred_at"])
    # There, and back again.
    begun = [*log[:place], activation(1, at_ms, after.text), *log[place:], activation(2, until_ms, before.text)]
    at_once = fold_in_batches(before, begun, 1, until_ms)
    assert fold_in_batches(before, begun, 3, until_ms) == at_once
    assert fold_in_batches(before, begun, 100, until_ms) == at_once
    for bodies in at_once[0].values():
        for body in map(json.loads, bodies):
            since = ms(body["occurred_at"])
            assert body["policy"] in (
                [before.ref] if since < at_ms else [before.ref, f"{after.ref}/1"] if since == at_ms
                else [f"{after.ref}/1"] if since < until_ms else [f"{after.ref}/1", f"{before.ref}/2"]
            )  # fmt: skip


def test_a_worker_that_takes_over_has_the_same_editions() -> None:
    own = load("annual-spend")
    other = newer(ANNUAL).replace('min_spend = "200.00"', 'min_spend = "250.00"')
    editions = Editions.of(own).extended_by(command(1, other), 100)
    refitted = msgspec.json.decode(edition_body(2, 200, parameters=FITTED), type=Command)
    for kept in (editions, editions.extended_by(refitted, 200), editions.extended_by(refitted, 200).latest_only()):
        wire = msgspec.json.decode(msgspec.json.encode(kept.as_wire()))
        again = Editions.from_wire(own, wire)
        assert again.as_wire() == kept.as_wire()
        assert again.current == kept.current
        assert again.current.ref == "annual-spend@2"
        assert again.needs_table_policy == kept.needs_table_policy
    assert not editions.latest_only().needs_table_policy


def test_what_an_activated_policy_keeps_is_enough_to_go_back() -> None:
    own = policy_of(trailing(ANNUAL, "365d"))
    short = trailing(newer(ANNUAL), "30d")
    log = [
        purchase("ada", "300", on="2024-01-01"),
        activation(1, ms("2024-03-01"), short),
        purchase("ada", "1", on="2024-04-01"),
        activation(2, ms("2024-05-01"), own.text),
    ]
    _, customers = fold_in_batches(own, log, 10, ms("2024-05-02"))
    assert own.view(decode(customers[b"ada"]).facts, ms("2024-05-02")).at(ms("2024-05-02")).spend_minor == 30_100


def test_only_the_policy_in_force_knows_which_tiers_can_be_locked() -> None:
    own = load("annual-spend")
    diamond = newer(ANNUAL) + '\n[[tiers]]\nname = "diamond"\nmin_spend = "900.00"\n'
    log = [
        lock("bob", "diamond", on="2024-01-01", id="too-early"),
        activation(1, ms("2024-02-01"), diamond),
        lock("ada", "diamond", on="2024-03-01", id="in-time"),
    ]
    replay = Replay(own)
    dead_letters = [
        (one.code, one.record.offset) for batch in replay.fold(records(own, log)) for one in batch.dead_letters
    ]
    assert dead_letters == [("unknown_tier", 0)]
    assert {key: decode(state).standing.tier for key, state in replay.partition.customers.items()} == {
        b"ada": "diamond"
    }


CHANGES: list[tuple[str, Callable[[str], str]]] = [
    ("the currency", lambda text: text.replace('currency = "USD"', 'currency = "EUR"')),
    ("kept by 1h, and it asks for 1d", lambda text: trailing(text, "90d")),
    ("it looks back 401d", lambda text: trailing(text, "400d", "1h")),
    ("no tier gold", lambda text: text.replace('"gold"', '"golden"')),
    ("no risk level watch", lambda text: text.replace('"watch"', '"look"')),
    ("ledger of alerts", lambda text: text.replace('[alerts]\ncool_down = "30d"\nbudget = 40\n', "")),
    (
        "names a file that is not here",
        lambda text: (
            text.replace("r = 0.525\nalpha_weeks = 6.183\na = 0.891\nb = 1.614\n", 'parameters = "x.toml"\n')
            .replace('fitted_on = "CDNOW sample, 39 weeks of 1997"\n', "")
            .replace('horizon = "90d"\n', "", 1)
        ),
    ),
    ("not TOML", lambda text: text + "\n[["),
]


@pytest.mark.parametrize(("said", "change"), CHANGES, ids=[said for said, _ in CHANGES])
def test_a_policy_that_can_not_follow_is_a_dead_letter_that_says_why(said: str, change: Callable[[str], str]) -> None:
    own, text = load("annual-spend"), change(newer(ANNUAL))
    assert text != newer(ANNUAL)
    with pytest.raises(EditionError, match=said):
        Editions.of(own).extended_by(command(1, text), 0)
    replay = Replay(own)
    log = [purchase("ada", "90", on="2024-01-01"), activation(1, ms("2024-01-02"), text)]
    (batch,) = replay.fold(records(own, log))
    assert [one.code for one in batch.dead_letters] == ["bad_edition"]
    assert said in batch.dead_letters[0].detail
    assert replay.partition.editions.number == 0


def test_an_activation_meant_for_another_policy_changes_only_the_number() -> None:
    other = policy_of(newer(newer(ANNUAL)).replace("version = 2", "version = 3"))
    body = edition_body(1, 0, policy=newer(ANNUAL), follows="annual-spend@1")
    meant = msgspec.json.decode(body, type=Command)
    assert Editions.of(load("annual-spend")).extended_by(meant, 0).current.ref == "annual-spend@2"
    kept = Editions.of(other).extended_by(meant, 0)
    assert (kept.current.ref, kept.number) == ("annual-spend@3", 1)


def test_a_comparison_ignores_policies_that_were_activated_in_the_log() -> None:
    first, second = load("annual-spend"), policy_of(newer(ANNUAL).replace('"200.00"', '"250.00"'))
    log = [
        purchase("ada", "220", on="2024-01-01"),
        {"topic": "commands", **json.loads(edition_body(1, ms("2024-01-02"), policy=second.text, follows=first.ref))},
    ]
    comparing = Comparing((first, second), 10)
    comparing.fold(records(first, log))
    assert list(comparing.finish(ms("2024-01-03")).flows) == [("gold", "silver")]


def test_with_its_parameters_a_policy_that_names_a_file_can_be_activated() -> None:
    named = CHANGES[6][1](newer(ANNUAL))
    editions = Editions.of(load("annual-spend")).extended_by(command(1, named, FITTED), 0)
    assert editions.current.risk.card.silence == 1.2
    assert editions.current.label == "annual-spend@2/1"
