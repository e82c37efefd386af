"""Where a policy's lines depend on all customers: every partition counts its own, and the owner of partition 0 draws the lines.

A count is a mergeable sketch of quantiles (Apache DataSketches KLL; rank error 0.1 %) in the topic `census`, partition by
partition. When all are newer than the lines in force, new ones go to every partition of `commands` as the next edition: an
event like any other, journaled and replayed. It is noted in `census` first, so that a successor sends the same one again.
Counting takes little turns between batches.
"""

from __future__ import annotations

import base64
import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from datasketches import kll_doubles_sketch
from msgspec import Struct

import models
from models import units
from models.bodies import Breakpoints, Command
from models.editions import Editions
from models.policy import Policy, Relative
from models.relative import Census, ValueAt, breakpoints
from streams.broker.aiokafka_readers import read_all_to_end
from streams.engine.policy_on_wire import EDITION, edition_body
from streams.topics import CENSUS

if TYPE_CHECKING:
    from streams.worker.partition import PartitionWorker

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


def lines_of(counts: Iterable[Count], relative: Relative) -> Breakpoints | None:
    """The lines of all partitions together; None if nobody was counted."""
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
    """The census of one partition, and for partition 0 the drawing of lines."""

    def __init__(self, worker: PartitionWorker, relative: Relative) -> None:
        self._worker = worker
        self._relative = relative
        self._census: Census | None = None
        self._left: Iterator[bytes] = iter(())
        self._counted_ms = -1
        self._look_from = 0.0
        self._look_seconds = LOOK_SECONDS[0]
        self._sent = 0
        """The latest edition that was sent from here."""

    async def turn(self, now_ms: int) -> bool:
        """Count some customers, or draw lines, if it is time; returns whether there was anything to do."""
        if not self._worker.caught_up:
            return False
        state = self._worker.held
        if self._census is None:
            as_of_ms = self._due(now_ms, state.editions, state.customers)
            if as_of_ms is not None:
                self._census, self._left = Census(as_of_ms), iter(list(state.customers))
        if self._census is not None:
            return await self._count(self._census, state.customers, state.editions.current)
        if self._worker.number == 0:
            return await self._draw(state.editions, self._boundary(now_ms))
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
            await self._worker.delivery.publish(CENSUS, [(COUNT, value, [])])
            self._counted_ms, self._census = census.as_of_ms, None
        return True

    async def _draw(self, editions: Editions, boundary_ms: int) -> bool:
        """If everybody's counts are newer than the lines in force, send the next edition to every partition."""
        now, last_ms = time.monotonic(), _as_of(editions)
        if boundary_ms <= last_ms or now < self._look_from or self._sent > editions.number:
            return False
        self._look_from = now + self._look_seconds
        self._look_seconds = min(2 * self._look_seconds, LOOK_SECONDS[1])
        counts, noted = await self._read()
        if noted is None or (noted.edition or 0) <= editions.number:
            if len(counts) < self._worker.app.settings.partitions or any(one.as_of_ms <= last_ms for one in counts):
                return False
            lines = lines_of(counts, self._relative)
            if lines is None:
                return False
            body = edition_body(editions.number + 1, lines.as_of_ms, lines)
            await self._worker.delivery.publish(CENSUS, [(EDITION, body, [])])
            log.info("edition %d: lines of %d customers", editions.number + 1, lines.customers)
        else:
            body = msgspec.json.encode(noted)
        await self._worker.delivery.publish_everywhere("commands", body)
        self._sent, self._look_seconds = editions.number + 1, LOOK_SECONDS[0]
        return True

    async def _read(self) -> tuple[list[Count], Command | None]:
        """The latest count of each partition, and the latest edition that was noted."""
        app, noted = self._worker.app, None
        counts: dict[int, Count] = {}
        async for number, records in read_all_to_end(
            app.settings, app.settings.topic(CENSUS), range(app.settings.partitions)
        ):
            for record in records:
                if record.key == COUNT:
                    counts[number] = msgspec.json.decode(record.value, type=Count)
                elif record.key == EDITION:
                    noted = msgspec.json.decode(record.value, type=Command)
        return list(counts.values()), noted


def _as_of(editions: Editions) -> int:
    """As of when the lines in force were drawn; -1 before the first."""
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
