"""Several inputs are merged into one order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.events import Event, Rejected
from streams.engine.merge import Merge, Record

TOPICS = ("purchases", "complaints")


def record(topic: str, offset: int, at_ms: int | None) -> Record:
    decoded = Rejected("not_json", "") if at_ms is None else Event(topic, "c", b"c", "e", at_ms, b"")
    return Record(topic, 0, offset, b"c", b"", 0, decoded)


def records(topic: str, *times: int | None) -> list[Record]:
    return [record(topic, offset, at_ms) for offset, at_ms in enumerate(times)]


def merge_of(*, at_end: set[str], max_idle: float = 5.0) -> Merge:
    return Merge(TOPICS, at_end.__contains__, max_idle)


def taken(merge: Merge, now: float = 0.0) -> list[tuple[str, int]]:
    return [(one.topic, one.offset) for one in merge.take(now)]


def test_the_earlier_event_comes_first_and_at_equal_times_the_first_topic() -> None:
    merge = merge_of(at_end=set(TOPICS))
    merge.offer("purchases", records("purchases", 10, 20, 30))
    merge.offer("complaints", records("complaints", 5, 20, 40))
    assert taken(merge) == [
        ("complaints", 0), ("purchases", 0), ("purchases", 1), ("complaints", 1), ("purchases", 2), ("complaints", 2),
    ]  # fmt: skip


def test_a_topic_keeps_its_own_order_even_when_its_times_go_back() -> None:
    merge = merge_of(at_end=set(TOPICS))
    merge.offer("purchases", records("purchases", 10, 3))
    merge.offer("complaints", records("complaints", 5))
    assert taken(merge) == [("complaints", 0), ("purchases", 0), ("purchases", 1)]


def test_a_record_without_a_time_holds_up_no_topic() -> None:
    merge = merge_of(at_end=set(TOPICS))
    merge.offer("purchases", records("purchases", None, 10))
    merge.offer("complaints", records("complaints", 5))
    assert taken(merge) == [("purchases", 0), ("complaints", 0), ("purchases", 1)]


def test_an_input_that_is_behind_holds_up_the_others_for_a_bounded_time() -> None:
    merge = merge_of(at_end={"purchases"}, max_idle=5.0)
    merge.offer("purchases", records("purchases", 10, 20))
    assert taken(merge, now=100.0) == []
    assert merge.seconds_held_up(103.0) == 2.0
    assert taken(merge, now=104.9) == []
    assert taken(merge, now=105.0) == [("purchases", 0), ("purchases", 1)]


def test_an_input_at_its_end_holds_up_no_other() -> None:
    merge = merge_of(at_end={"complaints"})
    merge.offer("purchases", records("purchases", 10))
    assert taken(merge) == [("purchases", 0)]


def test_taking_stops_where_an_input_that_has_more_runs_dry() -> None:
    merge = merge_of(at_end={"purchases"})
    merge.offer("purchases", records("purchases", 10, 30))
    merge.offer("complaints", records("complaints", 20))
    assert taken(merge) == [("purchases", 0), ("complaints", 0)]
    merge.offer("complaints", [record("complaints", 1, 25)])
    assert taken(merge) == [("complaints", 1)]


def test_it_is_drained_only_when_every_input_is_at_its_end_and_taken() -> None:
    at_end: set[str] = set()
    merge = Merge(TOPICS, at_end.__contains__, 5.0)
    assert not merge.is_drained()
    at_end |= set(TOPICS)
    assert merge.is_drained()
    merge.offer("purchases", records("purchases", 10))
    assert not merge.is_drained()


times = st.lists(st.integers(0, 50))


@given(times, times, st.lists(st.integers(1, 5)))
def test_batches_of_any_size_give_the_same_order(bought: list[int], complained: list[int], sizes: list[int]) -> None:
    whole = merge_of(at_end=set(TOPICS))
    whole.offer("purchases", records("purchases", *sorted(bought)))
    whole.offer("complaints", records("complaints", *sorted(complained)))
    expected = taken(whole)

    # Fed piece by piece, with both inputs behind until all records are buffered.
    at_end: set[str] = set()
    merge = Merge(TOPICS, at_end.__contains__, 5.0)
    got: list[tuple[str, int]] = []
    waiting = {
        "purchases": records("purchases", *sorted(bought)),
        "complaints": records("complaints", *sorted(complained)),
    }
    for number, size in enumerate(sizes):
        topic = TOPICS[number % 2]
        piece, waiting[topic] = waiting[topic][:size], waiting[topic][size:]
        merge.offer(topic, piece)
        got += taken(merge)
    for topic, rest in waiting.items():
        merge.offer(topic, rest)
    at_end |= set(TOPICS)
    got += taken(merge)
    assert got == expected
