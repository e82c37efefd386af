"""Editions: judging lazily equals judging eagerly, thresholds follow the customers, and an edition that does not fit is
refused.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import load
from models.bodies import Breakpoints, Command
from models.policy import RelativeRules
from models.policy.census import Census
from models.policy.editions import Edition, EditionError, Editions
from models.tiers import THRESHOLD_UNKNOWN_MINOR
from streams.engine.merge import Record
from streams.engine.policy_on_wire import edition_body
from streams.worker.census import Count, count_of, thresholds_of
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.results import profiles_of
from tests.builders import DAY, Wire, ms, policy_text, purchase
from tests.models.test_parameters import FITTED
from tests.running import policy_of
from tests.strategies import logs

PYRAMID = policy_of(
    policy_text(
        window={"kind": "trailing", "length": "90d", "bucket": "1d"},
        tiers=[{"name": "iron", "top_share": 0.5}, {"name": "gold", "top_share": 0.2}],
        relative={"every": "1d"},
        rates={"JPY": "0.0071", "KWD": "3.25", "EUR": "1.1"},
        downgrade={"grace": "14d", "step": "direct", "min_hold": "10d"},
    )
)


def begin(number: int, at: str | int, iron: int, gold: int) -> Wire:
    thresholds = Breakpoints(as_of_ms=ms(at), customers=9, top_spend_minor=[iron, gold])
    return {"topic": "commands", **json.loads(edition_body(number, ms(at), thresholds))}


def records(policy: Any, log: list[Wire]) -> list[Record]:
    decoder = policy.decoder()
    found = []
    for offset, wire in enumerate(log):
        body = json.dumps({name: value for name, value in wire.items() if name != "topic"}).encode()
        decoded = decoder.decode(wire["topic"], body)
        found.append(Record(wire["topic"], 0, offset, None, body, None, decoded))
    return found


def fold_in_batches(
    policy: Any, log: list[Wire], batch: int, until_ms: int
) -> tuple[dict[str, list[bytes]], dict[bytes, bytes]]:
    """The announcements by customer, and the customers, folded in batches of a size."""
    replay, found = Replay(policy, with_recorded_thresholds=True), defaultdict(list)
    every = records(policy, log)
    for begin in range(0, len(every), batch):
        for done in replay.fold(every[begin : begin + batch]):
            for output in done.outputs:
                found[output.customer_id].append(output.body)
    for done in (*replay.finish(until_ms), *replay.finish(until_ms)):
        for output in done.outputs:
            found[output.customer_id].append(output.body)
    return dict(found), replay.partition.customers


@st.composite
def logs_with_editions(draw: st.DrawFn) -> list[Wire]:
    """In the order of time."""
    found = [wire for wire in draw(logs()) if wire.get("command") != "lock_tier"]
    log = sorted(found, key=lambda wire: ms(wire["occurred_at"])) or [purchase("ada", "1", on="2024-01-01")]
    at = sorted(draw(st.lists(st.integers(0, len(log)), min_size=1, max_size=3)))
    for number, place in reversed(list(enumerate(at, 1))):
        times = [ms(wire["occurred_at"]) for wire in log[:place]] or [ms(log[0]["occurred_at"])]
        iron, gold = sorted(draw(st.tuples(st.sampled_from([0, 1000, 5000, 20_000]), st.sampled_from([2500, 10_000]))))
        log.insert(place, begin(number, max(times) + draw(st.sampled_from([0, 1])), iron, gold))
    return log


@settings(max_examples=60)
@given(logs_with_editions())
def test_judging_customers_at_once_or_in_turn_gives_the_same_bytes(log: list[Wire]) -> None:
    until_ms = max(ms(wire["occurred_at"]) for wire in log) + 400 * DAY
    at_once = fold_in_batches(PYRAMID, log, 1, until_ms)
    assert fold_in_batches(PYRAMID, log, len(log), until_ms) == at_once
    assert fold_in_batches(PYRAMID, log, 3, until_ms) == at_once


def test_a_tier_change_by_new_thresholds_names_the_edition_and_its_instant() -> None:
    log = [
        purchase("ada", "100", on="2024-01-01"),
        purchase("bob", "10", on="2024-01-01"),
        begin(1, "2024-01-02", 1000, 5000),
        purchase("bob", "1", on="2024-01-05"),
        begin(2, "2024-01-06", 1000, 1100),
    ]
    found, _ = fold_in_batches(PYRAMID, log, 10, ms("2024-01-07"))
    upgrades = [
        (body["customer_id"], body["occurred_at"], body["cause"], body["policy"], body["after"]["tier"])
        for bodies in found.values()
        for body in map(json.loads, bodies)
        if body["change"] == "upgrade"
    ]
    assert upgrades == [
        ("bob", "2024-01-02T00:00:00Z", "edition-1", "small@1/1", "iron"),
        ("bob", "2024-01-06T00:00:00Z", "edition-2", "small@1/2", "gold"),
        ("ada", "2024-01-02T00:00:00Z", "edition-1", "small@1/1", "gold"),
    ]


def test_a_new_edition_replaces_the_profile_even_if_nothing_is_announced() -> None:
    replay = Replay(PYRAMID, with_recorded_thresholds=True)
    log = [purchase("ada", "10", on="2024-01-01"), begin(1, "2024-01-02", 5000, 6000)]
    revisions = []
    for number in range(2):
        outputs = [
            output for batch in replay.fold(records(PYRAMID, log[number : number + 1])) for output in batch.outputs
        ]
        outputs += [output for batch in replay.finish(ms("2024-01-03")) for output in batch.outputs]
        assert not outputs
        revisions += [json.loads(one)["revision"] for one in profiles_of(replay.partition)]
    assert revisions == [1, 2]


def test_before_the_first_census_no_tier_by_share_is_reached_and_profiles_say_why() -> None:
    from models import decode, profile

    replay = Replay(PYRAMID, with_recorded_thresholds=True)
    list(replay.fold(records(PYRAMID, [purchase("ada", "1000000", on="2024-01-01")])))
    written = profile(decode(replay.partition.customers[b"ada"]), "ada", PYRAMID)
    assert written is not None
    body = json.loads(written)
    assert body["tier"] == "member"
    assert body["reaches"]["text"] == "spend among the highest, once a census has drawn the line reaches iron"


def test_parameters_change_scores_and_keep_thresholds_and_thresholds_keep_parameters() -> None:
    editions = Editions.of(PYRAMID)
    editions = editions.extended_by(command(1, parameters=FITTED), 10)
    editions = editions.extended_by(command(2, thresholds=[5, 6]), 20)
    assert editions.number == 2
    assert editions.current.risk.card.silence == 1.2
    assert [tier.min_spend_minor for tier in editions.current.ladder.tiers] == [None, 5, 6]
    editions = editions.extended_by(command(3, parameters=FITTED), 5)
    assert [tier.min_spend_minor for tier in editions.current.ladder.tiers] == [None, 5, 6]
    # One that comes late is in force from where the one before is.
    assert editions.latest.effective_ms == 20
    assert editions.current.label == "small@1/3"
    assert editions.current.ref == "small@1"


def test_editions_survive_a_marker() -> None:
    editions = Editions.of(PYRAMID)
    for number in range(1, 4):
        made = command(number, thresholds=[number, 10]) if number != 2 else command(2, parameters=FITTED)
        editions = editions.extended_by(made, number * 100)
    for kept in (editions, editions.latest_only(), Editions.of(PYRAMID)):
        again = Editions.from_wire(PYRAMID, msgspec.json.decode(msgspec.json.encode(kept.as_wire())))
        assert again.number == kept.number
        assert again.current.ladder == kept.current.ladder
        assert again.current.risk.card == kept.current.risk.card
        assert again.as_wire() == kept.as_wire()
        steps = [(before.edition, one.number, one.effective_ms) for before, one in kept.steps_from(0)]
        assert [(before.edition, one.number, one.effective_ms) for before, one in again.steps_from(0)] == steps


def command(number: int, thresholds: list[int] | None = None, parameters: Any = None) -> Command:
    made = None if thresholds is None else Breakpoints(as_of_ms=0, customers=1, top_spend_minor=thresholds)
    body = edition_body(number, 1000, made, parameters)
    return msgspec.json.decode(body, type=Command)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (command(3, thresholds=[1, 2]), "edition 3 does not follow edition 0"),
        (command(1, thresholds=[1, 2, 3]), "asks for 2 lines of spend"),
        (command(1, thresholds=[2, 1]), "breakpoints have to ascend"),
    ],
)
def test_an_edition_that_does_not_fit_is_refused(made: Command, said: str) -> None:
    with pytest.raises(EditionError, match=said):
        Editions.of(PYRAMID).extended_by(made, 0)


def test_an_edition_that_does_not_fit_is_a_dead_letter_and_a_repeated_one_nothing() -> None:
    log = [
        purchase("ada", "100", on="2024-01-01"),
        begin(7, "2024-01-02", 1, 2),
        begin(1, "2024-01-02", 1, 2),
        begin(1, "2024-01-03", 500, 600),
    ]
    replay = Replay(PYRAMID, with_recorded_thresholds=True)
    (batch,) = replay.fold(records(PYRAMID, log))
    assert [(one.code, one.record.offset) for one in batch.dead_letters] == [("bad_edition", 1)]
    assert replay.partition.editions.number == 1
    assert batch.events == 2


@pytest.mark.parametrize("name", ["pyramid", "rfm-quintiles"])
def test_a_replays_own_thresholds_and_those_of_a_worker_give_the_same_bytes(name: str) -> None:
    policy = load(name)
    log = [
        purchase(
            f"c{number}",
            str(number + 1),
            on=ms("2024-01-01") + (number * 7 % 11) * DAY + number,
            id=f"p{number}-{time}",
        )
        for time in range(2)
        for number in range(60)
    ]
    log.sort(key=lambda wire: ms(wire["occurred_at"]))
    until_ms = ms("2024-02-01")
    own, found, found_editions = Replay(policy), defaultdict(list), []
    for done in (*own.fold(records(policy, log)), *own.finish(until_ms)):
        for output in done.outputs:
            found[output.customer_id].append(output.body)
        found_editions += [one for one in done.editions.as_wire() if one["edition"] and one not in found_editions]
    assert own.partition.editions.number > 5
    # The same events, with the recorded thresholds among them.
    recorded = list(log)
    for one in found_editions:
        thresholds = msgspec.convert(one["breakpoints"], Breakpoints)
        recorded.append(
            {"topic": "commands", **json.loads(edition_body(one["edition"], thresholds.as_of_ms, thresholds))}
        )
    # At the same instant a command comes after a purchase; the census was taken before it.
    recorded.sort(key=lambda wire: (ms(wire["occurred_at"]), wire["topic"] != "commands"))
    again, customers = fold_in_batches(policy, recorded, 7, until_ms)
    assert again == dict(found)
    assert customers == own.partition.customers


# ---------------------------------------------------------------- the thresholds
SHARES = RelativeRules(DAY, ((1, 0.2), (2, 0.05), (3, 0.01)), ("recency", "frequency", "monetary"))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=300))
def test_a_tier_by_share_holds_at_least_its_share_and_no_more_but_for_ties(spend: list[int]) -> None:
    census = Census(0)
    for one in spend:
        census.spend_minor.append(one)
        census.orders.append(one % 7 + 1)
        census.recency_ms.append(50 - one)
    found = census.breakpoints(SHARES)
    for (_, share), threshold in zip(SHARES.top_shares, found.top_spend_minor, strict=True):
        wanted = max(round(share * len(spend)), 1)
        assert sum(one >= threshold for one in spend) >= wanted
        assert sum(one > threshold for one in spend) < wanted
    assert found.top_spend_minor == sorted(found.top_spend_minor)
    for part, threshold in enumerate(found.monetary_minor, 1):
        assert sum(one < threshold for one in spend) <= len(spend) * part // 5


def test_a_million_customers_in_eight_partitions_give_thresholds_within_one_percent() -> None:
    random = np.random.default_rng(7)
    spend = random.lognormal(8, 1.5, 1_000_000).astype(np.int64)
    orders = random.poisson(3, 1_000_000) + 1
    recency = random.integers(0, 365 * DAY, 1_000_000)
    counts: list[Count] = []
    for number in range(8):
        census = Census(DAY * 20_000)
        census.spend_minor.frombytes(spend[number::8].tobytes())
        census.orders.frombytes(orders[number::8].tobytes())
        census.recency_ms.frombytes(recency[number::8].tobytes())
        counts.append(msgspec.json.decode(msgspec.json.encode(count_of(census)), type=Count))
    found = thresholds_of(counts, SHARES)
    assert found is not None
    assert found.customers == 1_000_000
    for (_, share), threshold in zip(SHARES.top_shares, found.top_spend_minor, strict=True):
        assert (spend >= threshold).mean() == pytest.approx(share, abs=0.005)
    for thresholds, values in ((found.monetary_minor, spend), (found.recency_ms, recency)):
        for part, threshold in enumerate(thresholds, 1):
            assert (values < threshold).mean() == pytest.approx(part / 5, abs=0.01)
    # Orders are few different numbers: each threshold is one that an exact count might have drawn a hair above or below.
    for part, threshold in enumerate(found.frequency, 1):
        assert (orders < threshold).mean() <= part / 5 + 0.01
        assert (orders <= threshold).mean() >= part / 5 - 0.01


def test_a_census_skips_empty_partitions_and_needs_at_least_one_customer() -> None:
    empty, one = Census(ms("2090-01-01")), Census(5)
    one.spend_minor.append(300)
    one.orders.append(1)
    one.recency_ms.append(1)
    found = thresholds_of([count_of(empty), count_of(one)], SHARES)
    assert found is not None
    assert (found.as_of_ms, found.customers, found.top_spend_minor) == (5, 1, [300, 300, 300])
    assert thresholds_of([count_of(empty)], SHARES) is None


# ---------------------------------------------------------------- segments
def test_every_cell_of_five_by_five_by_five_has_one_of_ten_segments() -> None:
    policy = load("rfm-quintiles")
    thresholds = Breakpoints(
        as_of_ms=0, customers=100, recency_ms=[10, 20, 30, 40], frequency=[2, 3, 4, 5], monetary_minor=[20, 30, 40, 50]
    )
    drawn = Editions([Edition(-1, policy)]).extended_by(
        Command(event_id="e", customer_id="*", command="use_edition", occurred_at=0, edition=1, breakpoints=thresholds),
        0,
    )
    from models.facts import Measures

    found = {
        (r, f, m): drawn.current.segment_of(Measures(10 * m, f, None, 55 - 10 * r, None))
        for r in range(1, 6)
        for f in range(1, 6)
        for m in range(1, 6)
    }
    assert None not in found.values()
    assert len(set(found.values())) == 10
    assert found[5, 5, 5] == "champions"
    assert found[1, 5, 5] == "can't lose"
    assert found[5, 1, 1] == "new"
    assert found[1, 1, 1] == "lost"


def test_without_thresholds_there_is_no_tier_to_reach() -> None:
    assert [tier.min_spend_minor for tier in load("pyramid").ladder.tiers[1:]] == [THRESHOLD_UNKNOWN_MINOR] * 3
