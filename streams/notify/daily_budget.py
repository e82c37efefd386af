"""A daily budget of alerts for a webhook: each day only so many new alerts are sent, the most urgent open ones first.

Alerts over the budget do not wait in the consumer group, since no offset after a waiting record could be committed, for
days. They wait in the queue in Redis, which holds all open alerts by urgency, without those that were claimed or closed
meanwhile. So a record of an alert that was not sent yet is passed over on the topic; when its turn comes, its latest
record is read from the queue. From then on every change of that alert is sent at once.

Keys, by customer, kept for a month after the last change: `push:{group}:told:{id}` has the `seq` of the latest record
that was handled, and whether the present alert was sent. If Redis loses them, open alerts are sent again, with the same
ids.
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
from streams.broker.keyed_queues import KeyedQueues
from streams.notify.push import AlertChange, Sender, parse_alert
from streams.view.customers import ERASED_SECONDS, is_redis_away
from streams.view.policies_in_force import PolicyReader
from streams.view.queue import AlertQueue

log = logging.getLogger(__name__)

RECORDS_A_READ: Final = 100
COUNTED_SECONDS: Final = 2 * 24 * 3600
ALONE_SECONDS: Final = 1.0


retry_until_redis_answers = tenacity.retry(
    retry=tenacity.retry_if_exception(is_redis_away),
    wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
    before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
)
"""Decorates a read or write of Redis: it is retried until Redis can be reached."""


class Progress(NamedTuple):
    """How far the records of a customer's alerts were handled."""

    seq: int
    """Of the latest record that was handled."""
    is_announced: bool
    """Whether the present alert was sent to the receiver; false again once the alert is closed."""


def _today() -> date:
    return datetime.now(UTC).date()


class BudgetError(Exception):
    """The policy in force has no budget; the message says what to do."""


class PolicyBudget:
    """The daily budget of a number of agents: each agent's budget of the policy in force, times the agents."""

    def __init__(self, policies: PolicyReader, agents: int) -> None:
        self._policies = policies
        self._agents = agents
        self._latest = 0

    @retry_until_redis_answers
    async def most_a_day(self) -> int:
        """How many new alerts may be sent in a day. Raises BudgetError, unless an earlier policy had a budget: that one
        then holds on.
        """
        policy = (await self._policies.read()).current
        if policy.alerts is not None and policy.alerts.budget:
            self._latest = self._agents * policy.alerts.budget
        elif not self._latest:
            raise BudgetError(f"{policy.ref} has no budget: add `budget = 30` to its [alerts], or leave --agents out")
        return self._latest


class DailyBudget:
    """Sends the first record of at most `most_a_day` alerts a day (UTC), and every later record of those alerts."""

    def __init__(
        self,
        queue: AlertQueue,
        sender: Sender,
        queues: KeyedQueues,
        group: str,
        changes: Collection[str],
        most_a_day: Callable[[], Awaitable[int]],
        today: Callable[[], date] = _today,
    ) -> None:
        self._queue = queue
        self._redis: Any = queue.redis
        self._prefix = f"{queue.prefix}push:{group}:"
        self._sender = sender
        self._queues = queues
        self._changes = changes
        self._most_a_day = most_a_day
        self._today = today

    # ------------------------------------------------------------ from the topic
    async def handle(self, record: Record) -> None:
        """Handle a record of the topic `alerts`: it is sent if its alert was announced to the receiver."""
        found = parse_alert(record.value)
        if found is None:
            return
        [progress] = await self._progress(found)
        if found.seq <= progress.seq:
            return
        if progress.is_announced and found.change in self._changes:
            await self._sender.send(record, found.id)
        else:
            self._sender.counts["passed over"] += 1
        await self._store(found, progress.is_announced and found.after.state not in CLOSED)

    # ------------------------------------------------------------ from the queue
    async def run(self, every_seconds: float, is_alone: Callable[[], bool]) -> None:
        """Every so many seconds, send the most urgent alerts within what is left of the day's budget.

        Nothing is sent while `is_alone()` is false: two processes of the group could spend the same budget.
        """
        while True:
            if is_alone():
                await self.send_most_urgent()
                await asyncio.sleep(every_seconds)
            else:
                await asyncio.sleep(ALONE_SECONDS)

    async def send_most_urgent(self) -> None:
        """Send alerts that were not announced yet, the most urgent first, until the day's budget is used up."""
        first, most_a_day = 0, await self._most_a_day()
        while (left := most_a_day - await self._sent_today()) > 0:
            values = await self._values(first)
            if not values:
                return
            first += len(values)
            waiting = await self._unannounced(values)
            await asyncio.gather(*(self._put(value, found) for value, found in waiting[:left]))

    async def _unannounced(self, values: Collection[bytes]) -> list[tuple[bytes, AlertChange]]:
        """The alerts of the queue that are still to be announced; without those of which the topic had a later record."""
        read = [(value, found) for value in values if (found := parse_alert(value)) is not None]
        progress = await self._progress(*(found for _, found in read))
        return [
            one
            for one, before in zip(read, progress, strict=True)
            if not before.is_announced and one[1].seq >= before.seq
        ]

    def _put(self, value: bytes, found: AlertChange) -> asyncio.Future[None]:
        """Queue an alert among the customer's other records, so that they are sent in order; the future ends once it is
        handled.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        key = found.customer_id.encode()

        async def job() -> None:
            if await self._unannounced([value]):
                await self._sender.send(Record(key, value, {}), found.id)
                await self._store(found, True)
                await self._count()
            done.set_result(None)

        self._queues.put(key, job)
        return done

    # ------------------------------------------------------------ Redis
    @retry_until_redis_answers
    async def _values(self, first: int) -> list[bytes]:
        return await self._queue.records(first, RECORDS_A_READ)

    @retry_until_redis_answers
    async def _progress(self, *records: AlertChange) -> list[Progress]:
        stored = await self._redis.mget([f"{self._prefix}told:{one.customer_id}" for one in records]) if records else []
        pairs = [(b"-1", b"0") if one is None else one.split() for one in stored]
        return [Progress(int(seq), flag == b"1") for seq, flag in pairs]

    @retry_until_redis_answers
    async def _store(self, found: AlertChange, is_announced: bool) -> None:
        await self._redis.set(
            f"{self._prefix}told:{found.customer_id}", f"{found.seq} {is_announced:d}", ex=ERASED_SECONDS
        )

    @retry_until_redis_answers
    async def _sent_today(self) -> int:
        return int(await self._redis.get(self._of_today()) or 0)

    @retry_until_redis_answers
    async def _count(self) -> None:
        pipe = self._redis.pipeline()
        pipe.incr(self._of_today())
        pipe.expire(self._of_today(), COUNTED_SECONDS)
        await pipe.execute()

    def _of_today(self) -> str:
        return f"{self._prefix}given:{self._today().isoformat()}"
