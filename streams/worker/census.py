"""Where a policy's thresholds depend on all customers: every partition counts its own, and the owner of partition 0 draws the thresholds.

A count is a mergeable sketch of quantiles (Apache DataSketches KLL; rank error 0.1 %) in the topic `census`, partition by
partition. When all are newer than the thresholds in force, new ones go to every partition of `commands` as the next edition: an
event like any other, journaled and replayed. It is noted in `census` first, so that a successor sends the same one again.
Counting takes little turns between batches.
"""

from __future__ import annotations

import base64
import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
import numpy as np
from datasketches import kll_doubles_sketch
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

SKETCH_SIZE: Final = 3000
CUSTOMERS_A_TURN: Final = 100
LOOK_SECONDS: Final = (1.0, 60.0)
"""How often the owner of partition 0 looks for the others' counts while some are missing: at first, and at the least."""
NOBODY_MS: Final = units.LATEST_MS - 1
"""As of when a partition without customers was counted: it holds nobody up."""
COUNT: Final = b"count"
"""Key of the topic `census`; the other is that of the edition that was noted."""


class Count(Struct, frozen=True):
    """A partition's customers as of an instant: how many were counted, and sketches of their measures (base64)."""

    as_of_ms: int
    customers: int
    spend: str
    orders: str
    recency: str


def counted(census: Census) -> Count:
    """A census as it is sent."""
    return Count(
        census.as_of_ms,
        len(census),
        *(_written(np.array(one, float)) for one in (census.spend_minor, census.orders, census.recency_ms)),
    )


def thresholds_of(counts: Iterable[Count], relative: RelativeRules) -> Breakpoints | None:
    """The thresholds of all partitions together; None if nobody was counted."""
    counts = list(counts)
    customers = sum(one.customers for one in counts)
    if not customers:
        return None
    as_of_ms = min(one.as_of_ms for one in counts if one.customers)
    spend, orders, recency = (
        _value_at([getattr(one, name) for one in counts], customers) for name in ("spend", "orders", "recency")
    )
    return breakpoints(relative, as_of_ms, customers, spend, orders, recency)


class PartitionCensus:
    """The census of one partition, and for partition 0 the drawing of thresholds."""

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
        """The latest edition that was sent from here."""

    async def turn(self, partition: Partition, now_ms: int) -> bool:
        """Count some customers of a partition that has caught up, or draw thresholds, if it is time.

        Returns whether there was anything to do.
        """
        customers, editions = partition.customers, partition.editions
        if self._census is None:
            as_of_ms = self._due(now_ms, editions, customers)
            if as_of_ms is not None:
                self._census, self._left = Census(as_of_ms), iter(list(customers))
        if self._census is not None:
            return await self._count(self._census, customers, editions.current)
        if self._number == 0:
            return await self._draw(editions, self._boundary(now_ms))
        return False

    def _boundary(self, now_ms: int) -> int:
        """As of when customers are counted now."""
        return now_ms - now_ms % self._relative.every_ms

    def _due(self, now_ms: int, editions: Editions, customers: Mapping[bytes, bytes]) -> int | None:
        """As of when to count now; None if that was done."""
        if not customers:
            return NOBODY_MS if self._counted_ms != NOBODY_MS else None
        counted_ms = -1 if self._counted_ms == NOBODY_MS else self._counted_ms
        as_of_ms = self._boundary(now_ms)
        return as_of_ms if as_of_ms > max(counted_ms, _as_of(editions)) and now_ms >= 0 else None

    async def _count(self, census: Census, customers: Mapping[bytes, bytes], policy: Policy) -> bool:
        turn = list(itertools.islice(self._left, CUSTOMERS_A_TURN))
        for key in turn:
            census.add(models.decode(customers[key]), policy)
        if not turn:
            value = msgspec.json.encode(counted(census))
            await self._delivery.publish(CENSUS, [(COUNT, value, [])])
            self._counted_ms, self._census = census.as_of_ms, None
        return True

    async def _draw(self, editions: Editions, boundary_ms: int) -> bool:
        """If everybody's counts are newer than the thresholds in force, send the next edition to every partition."""
        now, last_ms = time.monotonic(), _as_of(editions)
        if boundary_ms <= last_ms or now < self._look_from or self._sent > editions.number:
            return False
        self._look_from = now + self._look_seconds
        self._look_seconds = min(2 * self._look_seconds, LOOK_SECONDS[1])
        counts, noted = await self._read()
        if noted is None or (noted.edition or 0) <= editions.number:
            if len(counts) < self._settings.partitions or any(one.as_of_ms <= last_ms for one in counts):
                return False
            thresholds = thresholds_of(counts, self._relative)
            if thresholds is None:
                return False
            body = edition_body(editions.number + 1, thresholds.as_of_ms, thresholds)
            await self._delivery.publish(CENSUS, [(EDITION, body, [])])
            log.info("edition %d: thresholds of %d customers", editions.number + 1, thresholds.customers)
        else:
            body = msgspec.json.encode(noted)
        await self._delivery.publish_everywhere("commands", body)
        self._sent, self._look_seconds = editions.number + 1, LOOK_SECONDS[0]
        return True

    async def _read(self) -> tuple[list[Count], Command | None]:
        """The latest count of each partition, and the latest edition that was noted."""
        noted = None
        counts: dict[int, Count] = {}
        async for number, records in read_all_to_end(
            self._settings, self._settings.topic(CENSUS), range(self._settings.partitions)
        ):
            for record in records:
                if record.key == COUNT:
                    counts[number] = msgspec.json.decode(record.value, type=Count)
                elif record.key == EDITION:
                    noted = msgspec.json.decode(record.value, type=Command)
        return list(counts.values()), noted


def _as_of(editions: Editions) -> int:
    """As of when the thresholds in force were drawn; -1 before the first."""
    drawn = editions.latest.breakpoints
    return -1 if drawn is None else drawn.as_of_ms


def _written(values: np.ndarray) -> str:
    sketch = kll_doubles_sketch(SKETCH_SIZE)
    if len(values):
        sketch.update(values)
    return base64.b64encode(sketch.serialize()).decode()


def _value_at(written: Iterable[str], customers: int) -> ValueAt:
    """The merged sketch's value at a rank."""
    merged = kll_doubles_sketch(SKETCH_SIZE)
    for one in written:
        merged.merge(kll_doubles_sketch.deserialize(base64.b64decode(one)))
    return lambda rank: round(merged.get_quantile((rank + 0.5) / customers))
