"""What a client remembers of each customer: it skips repeats and notices gaps, as far back as its memory reaches."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.client.changes import NEWS, REPEAT, Memory, Taken, tier_changes
from streams.client.connection import ClientError

Announced = tuple[str, int, int]
"""Customer, seq, previous_seq."""


@st.composite
def batches(draw: st.DrawFn) -> list[list[Announced]]:
    """What a worker announces on one topic, batch by batch; some `seq` belong to other topics."""
    seqs: dict[str, int] = defaultdict(int)
    latest: dict[str, int] = defaultdict(int)
    found = []
    for _ in range(draw(st.integers(1, 8))):
        batch = []
        for customer in draw(st.lists(st.sampled_from("abcdefgh"), max_size=6)):
            seqs[customer] += draw(st.integers(1, 3))
            batch.append((customer, seqs[customer], latest[customer]))
            latest[customer] = seqs[customer]
        found.append(batch)
    return found


def with_repeats(data: st.DataObject, written: list[list[Announced]]) -> list[Announced]:
    """The batches with repeats: a crash may cut one off, several times, before it is written as a whole."""
    log = []
    for batch in written:
        for _ in range(data.draw(st.integers(0, 3))):
            log += batch[: data.draw(st.integers(0, len(batch)))]
        log += batch
    return log


@given(batches(), st.data())
def test_repeated_batches_are_given_once_in_order_and_without_a_gap(
    written: list[list[Announced]], data: st.DataObject
) -> None:
    memory = Memory(most=8, is_whole=True)
    given = []
    for one in with_repeats(data, written):
        taken = memory.take(*one)
        assert taken in (NEWS, REPEAT)
        if taken.is_new:
            given.append(one)
    assert given == [one for batch in written for one in batch]


@given(batches(), st.data())
def test_the_memory_of_one_batch_is_enough(written: list[list[Announced]], data: st.DataObject) -> None:
    most = max(len({customer for customer, _, _ in batch}) for batch in written) or 1
    memory = Memory(most, is_whole=True)
    given = [one for one in with_repeats(data, written) if memory.take(*one).is_new]
    assert given == [one for batch in written for one in batch]


@given(batches(), st.data())
def test_a_lost_announcement_is_noticed_at_the_customer_s_next_one(
    written: list[list[Announced]], data: st.DataObject
) -> None:
    log = [one for batch in written for one in batch]
    lost = set(data.draw(st.lists(st.sampled_from(log), max_size=3))) if log else set()
    memory = Memory(most=8, is_whole=True)
    seen: dict[str, int] = defaultdict(int)
    for one in log:
        if one in lost:
            continue
        customer, seq, previous_seq = one
        expected = Taken(True, seen[customer]) if previous_seq != seen[customer] else NEWS
        assert memory.take(*one) == expected
        seen[customer] = seq


def test_no_gap_is_reported_for_a_customer_that_is_not_remembered() -> None:
    begun_in_the_middle = Memory(most=10, is_whole=False)
    assert begun_in_the_middle.take("ada", 7, 3) == NEWS
    assert begun_in_the_middle.take("ada", 7, 3) == REPEAT
    assert begun_in_the_middle.take("ada", 12, 9) == Taken(True, 7)
    forgetful = Memory(most=1, is_whole=True)
    assert forgetful.take("ada", 1, 0) == NEWS
    assert forgetful.take("bob", 1, 0) == NEWS
    assert forgetful.take("ada", 9, 5) == NEWS


def test_the_customer_announced_last_is_remembered_longest_also_by_a_repeat() -> None:
    memory = Memory(most=2, is_whole=True)
    for one in [("ada", 1, 0), ("bob", 1, 0), ("ada", 1, 0), ("eve", 1, 0)]:
        memory.take(*one)
    assert memory.take("ada", 1, 0) == REPEAT
    assert memory.take("bob", 1, 0) == NEWS  # forgotten: a repeat from so far back does not happen


@pytest.mark.parametrize("options", [{"from_position": {0: 1}}, {"partitions": [0]}])
def test_a_group_and_positions_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="leave out group"):
        tier_changes(broker="127.0.0.1:9", group="app", **options)


def test_a_broker_that_does_not_answer_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.client.following.PATIENCE_SECONDS", 0.5)
    with pytest.raises(ClientError, match=r"no Kafka answers at 127\.0\.0\.1:9 .*is the address right"):
        tier_changes(broker="127.0.0.1:9", group="app")
