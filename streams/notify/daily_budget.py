"""Against floods: so many alerts a day are told to a webhook first, the most urgent of what is open.

What waits can't wait in the consumer group. An offset is a line, and the alert that waits may be anywhere behind it: nothing after
it could be committed, for days; and what is open, by urgency, without what was taken up or settled meanwhile, is what the queue in
Redis holds anyway. So of an alert that the receiver has not heard of, the topic tells nothing; its latest record comes out of the
queue when it is its turn. From then on everything that happens to it goes out at once.

Keys, by customer, kept for a month after the last change: `push:{group}:told:{id}` has the `seq` of the latest record that was
dealt with, and whether the receiver has heard of the alert. If Redis loses them, open alerts are sent again: with the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

import tenacity

from models.alerts import CLOSED
from streams.broker.group_reader import Record
from streams.broker.keyed_queues import Lanes
from streams.notify.push import Announced, Sender, announced
from streams.view.customers import ERASED_SECONDS, is_away
from streams.view.queue import AlertQueue
from streams.view.rulebook import Rulebook

log = logging.getLogger(__name__)

RECORDS_A_READ: Final = 100
COUNTED_SECONDS: Final = 2 * 24 * 3600
ALONE_SECONDS: Final = 1.0


patiently = tenacity.retry(
    retry=tenacity.retry_if_exception(is_away),
    wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
    before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
)
"""As soon as Redis is there."""


class Told(NamedTuple):
    """What became of a customer's records."""

    seq: int
    has_heard: bool
    """Whether the receiver was told of the alert as it is now, not of one that is closed."""


def _today() -> date:
    return datetime.now(UTC).date()


class BudgetError(Exception):
    """There is no budget to go by; the message says what to do."""


class Budget:
    """What so many agents take on a day, by the policy in force."""

    def __init__(self, rulebook: Rulebook, agents: int) -> None:
        self._rulebook = rulebook
        self._agents = agents
        self._latest = 0

    @patiently
    async def most_a_day(self) -> int:
        """How many alerts. Should another policy without a budget be put in force, as many as before. Raises BudgetError."""
        policy = (await self._rulebook.read()).current
        if policy.alerts is not None and policy.alerts.budget:
            self._latest = self._agents * policy.alerts.budget
        elif not self._latest:
            raise BudgetError(f"{policy.ref} has no budget: add `budget = 30` to its [alerts], or leave --agents out")
        return self._latest


class Ration:
    """At most so many first announcements a day (UTC)."""

    def __init__(
        self,
        queue: AlertQueue,
        sender: Sender,
        lanes: Lanes,
        group: str,
        changes: Collection[str],
        most_a_day: Callable[[], Awaitable[int]],
        today: Callable[[], date] = _today,
    ) -> None:
        self._queue = queue
        self._redis: Any = queue.redis
        self._prefix = f"{queue.prefix}push:{group}:"
        self._sender = sender
        self._lanes = lanes
        self._changes = changes
        self._most_a_day = most_a_day
        self._today = today

    # ------------------------------------------------------------ from the topic
    async def handle(self, record: Record) -> None:
        """A record of the topic `alerts`: sent if it is of an alert that the receiver has heard of."""
        found = announced(record.value)
        if found is None:
            return
        [told] = await self._told(found)
        if found.seq <= told.seq:
            return
        if told.has_heard and found.change in self._changes:
            await self._sender.send(record, found.id)
        else:
            self._sender.counts["passed over"] += 1
        await self._note(found, told.has_heard and found.after.state not in CLOSED)

    # ------------------------------------------------------------ from the queue
    async def run(self, every_seconds: float, is_alone: Callable[[], bool]) -> None:
        """Again and again give what the budget of the day has left to the most urgent."""
        while True:
            if is_alone():
                await self.hand_out()
                await asyncio.sleep(every_seconds)
            else:
                await asyncio.sleep(ALONE_SECONDS)

    async def hand_out(self) -> None:
        """Send alerts that the receiver has not heard of, the most urgent first, while the day's budget is left."""
        first, most_a_day = 0, await self._most_a_day()
        while (left := most_a_day - await self._given_today()) > 0:
            values = await self._values(first)
            if not values:
                return
            first += len(values)
            waiting = await self._unheard(values)
            await asyncio.gather(*(self._put(value, found) for value, found in waiting[:left]))

    async def _unheard(self, values: Collection[bytes]) -> list[tuple[bytes, Announced]]:
        """Of alerts in the queue those that are to be told: not what the topic has told of later than the queue."""
        read = [(value, found) for value in values if (found := announced(value)) is not None]
        told = await self._told(*(found for _, found in read))
        return [
            one for one, before in zip(read, told, strict=True) if not before.has_heard and one[1].seq >= before.seq
        ]

    def _put(self, value: bytes, found: Announced) -> asyncio.Future[None]:
        """Among the customer's other records, so that they are sent in order."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        key = found.customer_id.encode()

        async def job() -> None:
            if await self._unheard([value]):
                await self._sender.send(Record(key, value, {}), found.id)
                await self._note(found, True)
                await self._count()
            done.set_result(None)

        self._lanes.put(key, job)
        return done

    # ------------------------------------------------------------ Redis
    @patiently
    async def _values(self, first: int) -> list[bytes]:
        return await self._queue.records(first, RECORDS_A_READ)

    @patiently
    async def _told(self, *records: Announced) -> list[Told]:
        stored = await self._redis.mget([f"{self._prefix}told:{one.customer_id}" for one in records]) if records else []
        pairs = [(b"-1", b"0") if one is None else one.split() for one in stored]
        return [Told(int(seq), heard == b"1") for seq, heard in pairs]

    @patiently
    async def _note(self, found: Announced, has_heard: bool) -> None:
        await self._redis.set(
            f"{self._prefix}told:{found.customer_id}", f"{found.seq} {has_heard:d}", ex=ERASED_SECONDS
        )

    @patiently
    async def _given_today(self) -> int:
        return int(await self._redis.get(self._of_today()) or 0)

    @patiently
    async def _count(self) -> None:
        pipe = self._redis.pipeline()
        pipe.incr(self._of_today())
        pipe.expire(self._of_today(), COUNTED_SECONDS)
        await pipe.execute()

    def _of_today(self) -> str:
        return f"{self._prefix}given:{self._today().isoformat()}"
