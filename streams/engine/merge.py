"""Merges the records of a partition's input topics into one order, by `occurred_at`.

Each topic keeps its own order; between topics the earlier event comes first. A topic without buffered records that has
more on the broker holds up the others, for a bounded time, so that a worker that catches up on a year of purchases
folds the complaints of that year in between.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mypy_extensions import mypyc_attr

from models.customer import NEVER_MS
from models.events import Decoder, Event, Rejected
from models.placement import Placement

BEFORE_ALL_MS: Final = -1
"""The time of a record that has none: before all events, so that it is taken at once and holds up nothing."""


class Origin(NamedTuple):
    """Where a carried record was first."""

    topic: str
    partition: int
    offset: int


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Record:
    """A record of an input topic, decoded, with what a dead letter needs."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    decoded: Event | Rejected
    occurred_at_ms: int
    """The event's time; BEFORE_ALL_MS for a rejected record and for a stray."""
    home: int
    """The partition where its customer lives. In another partition than that the record is a stray."""
    origin: Origin | None
    """For a record that was carried to its customer's home, where it was first."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None,
        decoded: Event | Rejected,
        home: int = -1,
        origin: Origin | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.value = value
        self.timestamp_ms = timestamp_ms
        self.decoded = decoded
        self.home = home if home >= 0 else partition
        self.origin = origin
        self.occurred_at_ms = BEFORE_ALL_MS
        if isinstance(decoded, Event) and self.home == partition:
            self.occurred_at_ms = decoded.occurred_at_ms

    @property
    def is_stray(self) -> bool:
        """Whether it is in another partition than its customer's home."""
        return self.home != self.partition


def records_of(
    found: Sequence[Any], topic: str, partition: int, decoder: Decoder, placement: Placement
) -> list[Record]:
    """Kafka's records (with offset, key, value, timestamp) of an input topic, decoded."""
    records = []
    for one in found:
        timestamp_ms: int = one.timestamp
        key: bytes | None = one.key
        value: bytes | None = one.value
        # A record without a key may be in any partition, which is as wrong as a false key.
        decoded = decoder.decode(topic, value, key or b"", timestamp_ms if timestamp_ms >= 0 else None)
        home = placement.home_of(decoded.key, partition) if isinstance(decoded, Event) else partition
        records.append(Record(topic, partition, one.offset, key, value, timestamp_ms, decoded, home))
    return records


def carried_records_of(
    found: Sequence[Any], topic: str, partition: int, decoder: Decoder, placement: Placement
) -> list[Record]:
    """Kafka's records (with offset, key, value, headers) of the topic of carried strays, decoded."""
    return [_carried(one, topic, partition, decoder, placement) for one in found]


def _carried(one: Any, topic: str, partition: int, decoder: Decoder, placement: Placement) -> Record:
    headers = {name: value.decode(errors="replace") for name, value in one.headers or () if value is not None}
    key: bytes | None = one.key
    value: bytes | None = one.value
    try:
        origin = Origin(headers["topic"], int(headers["partition"]), int(headers["offset"]))
        timestamp_ms = int(headers["timestamp"]) if "timestamp" in headers else None
        decoded = decoder.decode(origin.topic, value, key or b"", timestamp_ms)
    except (KeyError, ValueError):
        rejected = Rejected("wrong_partition", f"only workers write to {topic}, and they say whence a record comes")
        return Record(
            topic, partition, one.offset, key, value, None, rejected, partition, Origin(topic, partition, one.offset)
        )
    if isinstance(decoded, Event) and placement.home_of(decoded.key, partition) != partition:
        decoded = Rejected("wrong_partition", "it was carried here by a worker with another TIERSTREAM_PARTITIONER")
    return Record(topic, partition, one.offset, key, value, timestamp_ms, decoded, partition, origin)


def records_of_lines(
    lines: Sequence[bytes],
    number: int,
    topic: str,
    partition: int,
    decode: Callable[[str, bytes], Event | Rejected],
) -> list[Record]:
    """Lines of a file as records of a topic, decoded; empty lines are skipped. `number` is that of the first line."""
    records = []
    for line in lines:
        value = line.rstrip(b"\r\n")
        if value and not value.isspace():
            records.append(Record(topic, partition, number, None, value, None, decode(topic, value)))
        number += 1
    return records


def merged(streams: Sequence[Iterator[Record]], topics: Sequence[str]) -> Iterator[Record]:
    """Streams merged by time, each in its own order; at equal times the order of topics decides, then that of the
    streams.
    """
    return streams[0] if len(streams) == 1 else _merged(streams, {topic: rank for rank, topic in enumerate(topics)})


def _merged(streams: Sequence[Iterator[Record]], ranks: dict[str, int]) -> Iterator[Record]:
    firsts: list[tuple[int, int, int, Record]] = []
    for number, stream in enumerate(streams):
        first = next(stream, None)
        if first is not None:
            firsts.append((first.occurred_at_ms, ranks.get(first.topic, 0), number, first))
    heapq.heapify(firsts)
    while firsts:
        _, _, number, record = firsts[0]
        yield record
        following = next(streams[number], None)
        if following is None:
            heapq.heappop(firsts)
        else:
            rank = ranks.get(following.topic, 0)
            heapq.heapreplace(firsts, (following.occurred_at_ms, rank, number, following))


class Merge:
    """The buffers of one partition's inputs."""

    def __init__(self, topics: Sequence[str], is_at_end: Callable[[str], bool], max_idle_seconds: float) -> None:
        self._queues: dict[str, deque[Record]] = {topic: deque() for topic in topics}
        self._is_at_end = is_at_end
        self._max_idle_seconds = max_idle_seconds
        self._held_up_since: float | None = None

    def offer(self, topic: str, records: Iterable[Record]) -> int:
        """Add records to the end of a topic's buffer; returns how many are in it now."""
        queue = self._queues[topic]
        queue.extend(records)
        return len(queue)

    def size(self, topic: str) -> int:
        """How many records of a topic are buffered."""
        return len(self._queues[topic])

    def sizes(self) -> dict[str, int]:
        """How many records of each topic are buffered."""
        return {topic: len(queue) for topic, queue in self._queues.items()}

    def is_drained(self) -> bool:
        """Whether every topic has been read to its end and no record is buffered."""
        return all(not queue and self._is_at_end(topic) for topic, queue in self._queues.items())

    def topics_behind(self) -> list[str]:
        """The topics that have no buffered records, but more on the broker."""
        return [topic for topic, queue in self._queues.items() if not queue and not self._is_at_end(topic)]

    def seconds_held_up(self, now: float) -> float:
        """How many more seconds the merge waits for a topic that is behind; 0 when it does not wait."""
        if not any(self._queues.values()) or not self.topics_behind():
            self._held_up_since = None
            return 0.0
        if self._held_up_since is None:
            self._held_up_since = now
        return max(0.0, self._held_up_since + self._max_idle_seconds - now)

    def take(self, now: float) -> Iterator[Record]:
        """The records that come next, removed one by one as they are asked for. `now` is a monotonic time in
        seconds.
        """
        if self.seconds_held_up(now) > 0:
            return
        # Once the merge has waited long enough for a topic that is behind, it no longer waits for it.
        patience_over = self._held_up_since is not None
        while True:
            earliest: deque[Record] | None = None
            earliest_ms = following_ms = NEVER_MS
            for queue in self._queues.values():
                if not queue:
                    continue
                next_ms = queue[0].occurred_at_ms
                # At equal times the record of the first topic comes first.
                if earliest is None or next_ms < earliest_ms:
                    following_ms, earliest, earliest_ms = earliest_ms, queue, next_ms
                elif next_ms < following_ms:
                    following_ms = next_ms
            if earliest is None:
                return
            yield earliest.popleft()
            while earliest and earliest[0].occurred_at_ms < following_ms:
                yield earliest.popleft()
            if not earliest and not patience_over and self.topics_behind():
                return

    def take_up_to(self, topic: str, last_offset: int) -> Iterator[Record]:
        """The records of a topic up to an offset, removed, whatever other topics have."""
        queue = self._queues[topic]
        while queue and queue[0].offset <= last_offset:
            yield queue.popleft()

    def next_event_ms(self) -> int | None:
        """The time of the earliest buffered event; None if there is none."""
        times = [queue[0].occurred_at_ms for queue in self._queues.values() if queue]
        return min(times) if times else None
