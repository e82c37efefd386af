"""What a client knows of each customer: repeats are told from news, and gaps are noticed, as far as its memory reaches."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.client.changes import NEWS, REPEAT, Memory, Taken, tier_changes
from streams.client.following import ClientError

Announced = tuple[str, int, int]
"""Customer, seq, previous_seq."""


@st.composite
def batches(draw: st.DrawFn) -> list[list[Announced]]:
    """What a worker announces on one topic, batch by batch; some numbers go to other topics."""
    seqs: dict[str, int] = defaultdict(int)
    latest: dict[str, int] = defaultdict(int)
    found = []
    for _ in range(draw(st.integers(1, 8))):
        batch = []
        for who in draw(st.lists(st.sampled_from("abcdefgh"), max_size=6)):
            seqs[who] += draw(st.integers(1, 3))
            batch.append((who, seqs[who], latest[who]))
            latest[who] = seqs[who]
        found.append(batch)
    return found


def with_repeats(data: st.DataObject, told: list[list[Announced]]) -> list[Announced]:
    """Batches that a crash cut off, and that were done again, and again."""
    log = []
    for batch in told:
        for _ in range(data.draw(st.integers(0, 3))):
            log += batch[: data.draw(st.integers(0, len(batch)))]
        log += batch
    return log


@given(batches(), st.data())
def test_whatever_a_worker_repeats_is_given_once_in_order_and_without_a_gap_if_the_memory_holds_a_batch(
    told: list[list[Announced]], data: st.DataObject
) -> None:
    memory = Memory(most=8, is_whole=True)
    given = []
    for one in with_repeats(data, told):
        taken = memory.take(*one)
        assert taken in (NEWS, REPEAT)
        if taken.is_new:
            given.append(one)
    assert given == [one for batch in told for one in batch]


@given(batches(), st.data())
def test_the_memory_of_one_batch_is_enough(told: list[list[Announced]], data: st.DataObject) -> None:
    most = max(len({who for who, _, _ in batch}) for batch in told) or 1
    memory = Memory(most, is_whole=True)
    given = [one for one in with_repeats(data, told) if memory.take(*one).is_new]
    assert given == [one for batch in told for one in batch]


@given(batches(), st.data())
def test_whoever_was_lost_is_noticed_at_the_customer_s_next_announcement(
    told: list[list[Announced]], data: st.DataObject
) -> None:
    log = [one for batch in told for one in batch]
    lost = set(data.draw(st.lists(st.sampled_from(log), max_size=3))) if log else set()
    memory = Memory(most=8, is_whole=True)
    seen: dict[str, int] = defaultdict(int)
    for one in log:
        if one in lost:
            continue
        who, seq, previous_seq = one
        expected = Taken(True, seen[who]) if previous_seq != seen[who] else NEWS
        assert memory.take(*one) == expected
        seen[who] = seq


def test_nothing_is_said_of_a_customer_who_is_not_remembered() -> None:
    begun_in_the_middle = Memory(most=10, is_whole=False)
    assert begun_in_the_middle.take("ada", 7, 3) == NEWS
    assert begun_in_the_middle.take("ada", 7, 3) == REPEAT
    assert begun_in_the_middle.take("ada", 12, 9) == Taken(True, 7)
    forgetful = Memory(most=1, is_whole=True)
    assert forgetful.take("ada", 1, 0) == NEWS
    assert forgetful.take("bob", 1, 0) == NEWS
    assert forgetful.take("ada", 9, 5) == NEWS


def test_who_was_announced_last_is_remembered_longest_also_by_a_repeat() -> None:
    memory = Memory(most=2, is_whole=True)
    for one in [("ada", 1, 0), ("bob", 1, 0), ("ada", 1, 0), ("eve", 1, 0)]:
        memory.take(*one)
    assert memory.take("ada", 1, 0) == REPEAT
    assert memory.take("bob", 1, 0) == NEWS  # forgotten: a repeat from so far back does not happen


@pytest.mark.parametrize("options", [{"from_position": {0: 1}}, {"partitions": [0]}])
def test_a_group_and_positions_of_one_s_own_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="leave out group"):
        tier_changes(broker="127.0.0.1:9", group="app", **options)


def test_a_broker_that_is_not_there_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.client.following.PATIENCE_SECONDS", 0.5)
    with pytest.raises(ClientError, match=r"no Kafka answers at 127\.0\.0\.1:9 .*is the address right"):
        tier_changes(broker="127.0.0.1:9", group="app")
