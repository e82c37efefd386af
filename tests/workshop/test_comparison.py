"""A comparison of two policies, against the oracle under each; and the fold without bodies, against the one with them."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, event, given
from hypothesis import strategies as st
from scipy.stats import binomtest

from models import Rejected, new_customer
from models.fold import advance_in_place, apply_in_place
from streams.engine.merge import Record
from streams.workshop.compare.comparison import Comparing, Comparison, Group
from streams.workshop.compare.report import Cohort
from tests.builders import DAY, Wire, ms
from tests.oracle import Picture, replay
from tests.running import event_of, events_of, policy_of
from tests.strategies import LEDGERS, customer_logs, logs, policy_texts


@given(policy_texts(), policy_texts(), logs(), st.integers(0, 500), st.sampled_from([1, 2, 100]))
def test_both_sides_of_a_comparison_are_what_the_oracle_says(
    first: str, second: str, log: list[Wire], days: int, turn: int
) -> None:
    log = sorted(log, key=lambda wire: ms(wire["occurred_at"]))
    as_of_ms = ms(log[-1]["occurred_at"]) + days * DAY
    expected = [Expected(text, log, as_of_ms) for text in (first, second)]
    assume(not any(one.is_close_call for one in expected))
    found = compared((first, second), log, as_of_ms, turn)

    for side, one in zip(found.sides, expected, strict=True):
        assert +side.tiers == Counter(one.tiers.values())
        assert +side.moves == one.moves
        assert +side.alerts == one.alerts
    tiers = [one.tiers for one in expected]
    flows = Counter((tiers[0][customer_id], tiers[1][customer_id]) for customer_id in tiers[0])
    assert {pair: group.customers for pair, group in found.flows.items()} == flows
    assert found.all.revenue_minor == sum(expected[0].revenue.values())
    names = policy_of(first).ladder.tier_names
    ways = {
        customer_id: names.index(tiers[1][customer_id]) - names.index(tiers[0][customer_id]) for customer_id in tiers[0]
    }
    assert found.all.up == sum(way > 0 for way in ways.values())
    assert found.all.down == sum(way < 0 for way in ways.values())
    assert found.all.down_minor == sum(expected[0].revenue[customer_id] for customer_id, way in ways.items() if way < 0)
    assert {one.customer_id for one in found.movers} == {customer_id for customer_id, way in ways.items() if way}
    assert sum(group.customers for group in found.cohorts.values()) <= len(ways)
    assert sum(group.customers for group in found.regions.values()) == len(ways)
    event("somebody moves" if found.movers else "nobody moves")


@given(policy_texts(), policy_texts(), logs())
def test_the_number_of_records_folded_at_a_time_does_not_matter(first: str, second: str, log: list[Wire]) -> None:
    log = sorted(log, key=lambda wire: ms(wire["occurred_at"]))
    as_of_ms = ms(log[-1]["occurred_at"])
    assert compared((first, second), log, as_of_ms, 100) == compared((first, second), log, as_of_ms, 1)


@given(policy_texts(), policy_texts(), logs(), st.integers(0, 200))
def test_the_parts_of_a_comparison_add_up_to_the_whole(first: str, second: str, log: list[Wire], days: int) -> None:
    log = sorted(log, key=lambda wire: ms(wire["occurred_at"]))
    as_of_ms = ms(log[-1]["occurred_at"]) + days * DAY
    whole = compared((first, second), log, as_of_ms, 100)
    parts = Comparison(whole.most_movers)
    for customer_id in {wire["customer_id"] for wire in log}:
        parts.add(
            compared((first, second), [wire for wire in log if wire["customer_id"] == customer_id], as_of_ms, 100)
        )
    assert parts == whole


@given(policy_texts(ledgers=LEDGERS), customer_logs(most=12), st.integers(0, 500))
def test_the_fold_without_bodies_has_the_same_states_and_outputs(text: str, log: list[Wire], days: int) -> None:
    policy = policy_of(text)
    events = events_of(policy, log)
    loud = new_customer(policy, events[0].occurred_at_ms)
    quiet = new_customer(policy, events[0].occurred_at_ms)
    outputs: list[Any] = []
    for one in events:
        said, counted = apply_in_place(loud, one, policy), apply_in_place(quiet, one, policy, without_bodies=True)
        assert isinstance(said, Rejected) == isinstance(counted, Rejected)
        if not isinstance(said, Rejected) and not isinstance(counted, Rejected):
            outputs.extend(zip(said, counted, strict=True))
        assert loud == quiet
    until_ms = loud.clock_ms + days * DAY
    outputs.extend(
        zip(
            advance_in_place(loud, until_ms, policy, "ada"),
            advance_in_place(quiet, until_ms, policy, "ada", True),
            strict=True,
        )
    )
    assert loud == quiet
    for said, counted in outputs:
        assert (said.topic, said.customer_id, said.seq, said.change, said.occurred_at_ms) == (
            counted.topic, counted.customer_id, counted.seq, counted.change, counted.occurred_at_ms,
        )  # fmt: skip
        assert (counted.id, counted.body) == ("", b"")


class Expected:
    """The counts of the oracle for a log under one policy."""

    def __init__(self, text: str, log: list[Wire], as_of_ms: int) -> None:
        policy = policy_of(text)
        pictures = replay(text, log, as_of_ms)
        self.is_close_call = any(one.close_call for one in pictures)
        self.moves: Counter[tuple[str, str]] = Counter()
        self.alerts: Counter[int] = Counter()
        topic, changes = ("alerts", ("opened",)) if policy.alerts else ("churn-risk", ("raised", "escalated"))
        for picture in pictures:
            for one in picture.announcements:
                if one.topic == "tier-changes" and one.change in ("upgrade", "downgrade"):
                    month = datetime.fromtimestamp(one.occurred_at / 1000, UTC).strftime("%Y-%m")
                    self.moves[month, one.change] += 1
                if one.topic == topic and one.change in changes:
                    self.alerts[one.occurred_at // DAY] += 1
        erased = set()
        for wire, picture in zip(log, pictures, strict=False):
            if picture.verdict == "counted":
                erased.discard(picture.customer_id)
                if wire.get("command") == "erase":
                    erased.add(picture.customer_id)
        last: dict[str, Picture] = {one.customer_id: one for one in pictures}
        self.tiers = {
            customer_id: one.standing["tier"] for customer_id, one in last.items() if customer_id not in erased
        }
        bucket_ms = policy.window.bucket_ms
        days = min(365 * DAY, policy.window.keep_ms) // DAY
        first = (as_of_ms - days * DAY) // bucket_ms + 1
        self.revenue = {
            customer_id: sum(spend for number, _, _, spend in last[customer_id].facts["buckets"] if number >= first)
            for customer_id in self.tiers
        }


def compared(texts: tuple[str, str], log: list[Wire], as_of_ms: int, turn: int) -> Comparison:
    """A comparison over a log, which folds `turn` records at a time."""
    first, second = policy_of(texts[0]), policy_of(texts[1])
    comparing, decoder = Comparing((first, second), 100), first.decoder()
    records = []
    for number, wire in enumerate(log, 1):
        body = {name: value for name, value in wire.items() if name != "topic"}
        value = json.dumps(body).encode()
        records.append(Record(wire["topic"], 0, number, None, value, None, event_of(decoder, wire)))
    for begin in range(0, len(records), turn):
        comparing.fold(records[begin : begin + turn])
    return comparing.finish(as_of_ms)


def test_groups_add_up() -> None:
    group = Group(1, 200, 1, 200)
    group.add(Group(2, 30, 0, 0, 1, 10))
    assert group == Group(3, 230, 1, 200, 1, 10)


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_the_least_share_of_a_cohort_is_the_lower_end_of_wilsons_interval(customers: int, share: float) -> None:
    down = round(share * customers)
    expected = binomtest(down, customers).proportion_ci(0.95, "wilson").low
    found = Cohort("region", "DE", Group(customers=customers, down=down)).least_share_down
    assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
