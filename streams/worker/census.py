"""For policies whose thresholds depend on all customers: each partition counts its own customers, and the owner of
partition 0 computes the thresholds.

A count is the values at POINTS evenly spaced ranks, in the topic `census`, one per partition. A partition knows all of
its values, so no rank is off by more than half a point, 0.05 % of the customers, in it or in all together. When all
counts are newer than the thresholds in force, new thresholds are sent to every partition of `commands` as the next
edition: an event like any other, journaled and replayed. The edition is recorded in `census` first, so that a later
owner sends the same one again. Customers are counted between batches, a few at a time.
"""

from __future__ import annotations

import itertools
import logging
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

import models
from models import units
from models.bodies import Breakpoints, Command
from models.policy import Policy, RelativeRules
from models.policy.census import Census, ValueAt, breakpoints
from models.policy.editions import Editions
from streams.broker.aiokafka_readers import read_all_to_end
from streams.engine.partition import Partition
from streams.engine.policy_on_wire import EDITION, edition_body
from streams.settings import Settings
from streams.topics import CENSUS
from streams.worker.context import PartitionDelivery

log = logging.getLogger(__name__)

POINTS: Final = 1000
CUSTOMERS_A_TURN: Final = 100
LOOK_SECONDS: Final = (1.0, 60.0)
"""How often the owner of partition 0 looks for missing counts of other partitions: at first, and after many looks."""
NO_CUSTOMERS_MS: Final = units.LATEST_MS - 1
"""The `as_of_ms` of a partition without customers: later than any other, so that it delays no edition."""
COUNT: Final = b"points"
"""Key, in the topic `census`, of a partition's count. Another key there is EDITION; `count` had sketches instead."""


class Count(Struct, frozen=True):
    """A partition's customers at an instant: how many there are, and points of their measures, in ascending order."""

    as_of_ms: int
    customers: int
    spend: list[int]
    orders: list[int]
    recency: list[int]


def count_of(census: Census) -> Count:
    """A census as it is written to the topic `census`."""
    return Count(
        census.as_of_ms,
        len(census),
        *map(_points_of, (census.spend_minor, census.orders, census.recency_ms)),
    )


def thresholds_of(counts: Iterable[Count], relative: RelativeRules) -> Breakpoints | None:
    """The thresholds from the counts of all partitions; None if there are no customers."""
    counts = list(counts)
    customers = sum(one.customers for one in counts)
    if not customers:
        return None
    as_of_ms = min(one.as_of_ms for one in counts if one.customers)
    spend, orders, recency = (
        _value_at((one.customers, getattr(one, name)) for one in counts) for name in ("spend", "orders", "recency")
    )
    return breakpoints(relative, as_of_ms, customers, spend, orders, recency)


class PartitionCensus:
    """Counts the customers of one partition; for partition 0 it also computes the thresholds."""

    def __init__(self, settings: Settings, number: int, delivery: PartitionDelivery, relative: RelativeRules) -> None:
        self._settings = settings
        self._number = number
        self._delivery = delivery
        self._relative = relative
        self._census: Census | None = None
        self._left: Iterator[bytes] = iter(())
        self._counted_ms = -1
        self._look_from = 0.0
        self._look_seconds = LOOK_SECONDS[0]
        self._sent = 0
        """The latest edition that this worker has sent."""

    async def take_turn(self, partition: Partition, now_ms: int) -> bool:
        """Count some customers of a partition that has caught up, or compute thresholds, if it is time.

        Returns False if there was nothing to do.
        """
        customers, editions = partition.customers, partition.editions
        if self._census is None:
            as_of_ms = self._due(now_ms, editions, customers)
            if as_of_ms is not None:
                self._census, self._left = Census(as_of_ms), iter(list(customers))
        if self._census is not None:
            return await self._count(self._census, customers, editions.current)
        if self._number == 0:
            return await self._send_thresholds(editions, self._boundary(now_ms))
        return False

    def _boundary(self, now_ms: int) -> int:
        """The latest instant as of which customers are to be counted."""
        return now_ms - now_ms % self._relative.every_ms

    def _due(self, now_ms: int, editions: Editions, customers: Mapping[bytes, bytes]) -> int | None:
        """The instant as of which customers are to be counted now; None if they have been."""
        if not customers:
            return NO_CUSTOMERS_MS if self._counted_ms != NO_CUSTOMERS_MS else None
        counted_ms = -1 if self._counted_ms == NO_CUSTOMERS_MS else self._counted_ms
        as_of_ms = self._boundary(now_ms)
        return as_of_ms if as_of_ms > max(counted_ms, _as_of(editions)) and now_ms >= 0 else None

    async def _count(self, census: Census, customers: Mapping[bytes, bytes], policy: Policy) -> bool:
        turn = list(itertools.islice(self._left, CUSTOMERS_A_TURN))
        for key in turn:
            census.add(models.decode(customers[key]), policy)
        if not turn:
            value = msgspec.json.encode(count_of(census))
            await self._delivery.publish(CENSUS, [(COUNT, value, [])])
            self._counted_ms, self._census = census.as_of_ms, None
        return True

    async def _send_thresholds(self, editions: Editions, boundary_ms: int) -> bool:
        """If the counts of all partitions are newer than the thresholds in force, send the next edition to every
        partition.
        """
        now, last_ms = time.monotonic(), _as_of(editions)
        if boundary_ms <= last_ms or now < self._look_from or self._sent > editions.number:
            return False
        self._look_from = now + self._look_seconds
        self._look_seconds = min(2 * self._look_seconds, LOOK_SECONDS[1])
        counts, recorded = await self._read()
        if recorded is None or (recorded.edition or 0) <= editions.number:
            if len(counts) < self._settings.partitions or any(one.as_of_ms <= last_ms for one in counts):
                return False
            thresholds = thresholds_of(counts, self._relative)
            if thresholds is None:
                return False
            body = edition_body(editions.number + 1, thresholds.as_of_ms, thresholds)
            await self._delivery.publish(CENSUS, [(EDITION, body, [])])
            log.info("edition %d: thresholds of %d customers", editions.number + 1, thresholds.customers)
        else:
            body = msgspec.json.encode(recorded)
        await self._delivery.publish_everywhere("commands", body)
        self._sent, self._look_seconds = editions.number + 1, LOOK_SECONDS[0]
        return True

    async def _read(self) -> tuple[list[Count], Command | None]:
        """The latest count of each partition, and the latest edition that was recorded."""
        recorded = None
        counts: dict[int, Count] = {}
        async for number, records in read_all_to_end(
            self._settings, self._settings.topic(CENSUS), range(self._settings.partitions)
        ):
            for record in records:
                if record.key == COUNT:
                    counts[number] = msgspec.json.decode(record.value, type=Count)
                elif record.key == EDITION:
                    recorded = msgspec.json.decode(record.value, type=Command)
        return list(counts.values()), recorded


def _as_of(editions: Editions) -> int:
    """The instant of the census that the thresholds in force are from; -1 before the first."""
    thresholds = editions.latest.breakpoints
    return -1 if thresholds is None else thresholds.as_of_ms


def _points_of(values: array[int]) -> list[int]:
    """The values in the middle of equal parts of the ranks; all values if they are few."""
    ascending = sorted(values)
    count, parts = len(ascending), min(len(ascending), POINTS)
    return [ascending[(2 * part + 1) * count // (2 * parts)] for part in range(parts)]


def _value_at(counted: Iterable[tuple[int, Sequence[int]]]) -> ValueAt:
    """A function that gives the value at a rank, from the numbers of customers and points of all partitions."""
    ascending = sorted((value, customers / len(points)) for customers, points in counted for value in points)
    ends = list(itertools.accumulate(weight for _, weight in ascending))
    return lambda rank: ascending[bisect_right(ends, rank + 0.5)][0]
