"""The serving view in Redis: what a customer is now, in one read; members by tier; who is at risk, by value at stake.

Fed from the outputs, idempotent by `seq` and `revision`: a repeat or an older record changes nothing. How far each
output partition has been applied is kept in Redis itself, with what was applied, so a Redis that lost its data is
rebuilt from the topics. Redis being down stops nothing but the view, which catches up.

Keys:
    tierstream:customer:{id}   hash: tier, tier_since, risk_level, probability, value_at_stake, profile (JSON), and the
                               seq and revision that they are from
    tierstream:tier:{tier}     sorted set of customer ids, by the time (ms) since when
    tierstream:at-risk         sorted set of the ids of customers with an alert, by value at stake
    tierstream:positions       hash: topic/partition -> the next offset to apply

the policies that all of it was judged under (streams/rulebook.py), and what the retention team works with (streams/queue.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
import tenacity
from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models import units
from models.customer import BASE_LEVEL
from streams.rulebook import RulebookWriter
from streams.transport import Fetched
from streams.updates import Update, update_of

if TYPE_CHECKING:
    from streams.app import TierstreamApp

log = logging.getLogger(__name__)

PREFIX: Final = "tierstream:"
ERASED_SECONDS: Final = 30 * 24 * 3600
"""How long an erased customer's seq is remembered, so that a repeat of an older output does not bring them back."""
UPDATES_A_CALL: Final = 500
STORY_LENGTH: Final = 50
"""How many announcements of a customer are kept."""
STOP_SECONDS: Final = 2.0
WITHHOLD_ABOVE: Final = 20_000
"""Records waiting for Redis, per partition, above which no more are read."""


def script(name: str) -> str:
    """A program that Redis runs."""
    return (resources.files("streams") / "lua" / f"{name}.lua").read_text("utf-8")


class ViewSizes(NamedTuple):
    """How many customers the view has."""

    tiers: dict[str, int]
    at_risk: int
    alerts: dict[str, int]
    """Alerts that wait: open (nobody's), held, snoozed."""


class RedisView:
    """The view's reads and writes."""

    def __init__(self, url: str, prefix: str = PREFIX, story_length: int = STORY_LENGTH) -> None:
        self.prefix = prefix
        self.story_length = story_length
        self.redis: Any = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._apply = self.redis.register_script(script("apply"))

    async def position(self, field: str) -> int:
        """The next offset to apply of a topic's partition."""
        return int(await self.redis.hget(f"{self.prefix}positions", field) or 0)

    async def apply(self, field: str, before: int, after: int, updates: Iterable[Update]) -> int | None:
        """Apply updates that take the view from one position to another.

        Returns None, or the offset to read again from when Redis lacks what came before.
        """
        arguments: list[Any] = [field, before, after, ERASED_SECONDS, self.story_length]
        for kind, *values in updates:
            arguments += (kind, len(values), *values)
        missing_from = int(await self._apply(keys=[self.prefix], args=arguments))
        return None if missing_from < 0 else missing_from

    async def customer(self, customer_id: str) -> dict[str, Any] | None:
        """What a customer is now; None for one who is not known, or erased. One read."""
        found: dict[bytes, bytes] = await self.redis.hgetall(f"{self.prefix}customer:{customer_id}")
        if b"tier" not in found:
            return None
        text = {name.decode(): value.decode() for name, value in found.items() if name != b"profile"}
        profile = found.get(b"profile")
        return {
            "customer_id": customer_id,
            "tier": text["tier"],
            "tier_since": units.format_time(int(text["tier_since"])),
            "risk_level": text.get("risk_level", BASE_LEVEL),
            "probability": float(text["probability"]) if text.get("probability") else None,
            "value_at_stake": text.get("value_at_stake"),
            "seq": int(text["seq"]),
            "profile": None if profile is None else orjson.loads(profile),
        }

    async def members(self, tier: str, first: int = 0, count: int = 100) -> list[str]:
        """Customers of a tier, the longest-standing first."""
        found: list[bytes] = await self.redis.zrange(f"{self.prefix}tier:{tier}", first, first + count - 1)
        return [key.decode() for key in found]

    async def tier_sizes(self, tiers: Iterable[str]) -> dict[str, int]:
        """How many customers each tier has."""
        return {tier: await self.redis.zcard(f"{self.prefix}tier:{tier}") for tier in tiers}

    async def sizes(self, tiers: Iterable[str]) -> ViewSizes:
        """How many customers the view has, by tier and at risk, and alerts that wait. Costs the same however many they are."""
        at_risk = await self.redis.zcard(f"{self.prefix}at-risk")
        return ViewSizes(await self.tier_sizes(tiers), at_risk, await self.alert_sizes())

    async def alert_sizes(self) -> dict[str, int]:
        """How many alerts are open (nobody's), held and snoozed."""
        pipe = self.redis.pipeline(transaction=False)
        for name in ("queue", "held", "snoozed"):
            pipe.zcard(f"{self.prefix}{name}")
        return dict(zip(("open", "held", "snoozed"), await pipe.execute(), strict=True))

    async def at_risk(self, first: int = 0, count: int = 100) -> list[tuple[str, float]]:
        """Customers with an alert and their value at stake, the most valuable first."""
        found: list[tuple[bytes, float]] = await self.redis.zrevrange(
            f"{self.prefix}at-risk", first, first + count - 1, withscores=True
        )
        return [(key.decode(), stake) for key, stake in found]


@dataclass
class _Waiting:
    """Records of one output partition on their way to Redis."""

    positioned: bool = False
    applied: int = 0
    """The position up to which Redis has them."""
    next_offset: int = 0
    updates: list[tuple[int, Update | None]] = field(default_factory=list)


class ViewFeed:
    """Carries the outputs into Redis, in order, for as long as it takes."""

    def __init__(self, app: TierstreamApp, view: RedisView) -> None:
        self.app = app
        self.view = view
        self._rulebook = RulebookWriter(view)
        self._waiting: dict[TP, _Waiting] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self, tps: Iterable[TP]) -> None:
        """Feed from these partitions, starting where Redis left off."""
        for tp in tps:
            self._waiting[tp] = _Waiting()
            self.app.consumer.withhold(tp)
        self._rulebook.forget()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)
        self._wake.set()

    def wake(self) -> None:
        """Look what there is to tell Redis."""
        self._wake.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Redis being away is waited for; anything else that ends the feed must not end it silently."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.app.fail(error)

    def waits_for(self) -> list[str]:
        """What Redis lacks of what was on the output topics when they were last read; empty if nothing."""
        reach = self.app.consumer.reach
        found = []
        for tp, waiting in self._waiting.items():
            known = reach.get(tp)
            if not waiting.positioned:
                found.append(f"Redis to say where to start with {_field(tp)}")
            elif waiting.updates:
                found.append(f"Redis to take {len(waiting.updates)} records of {_field(tp)}")
            elif (
                known is None
                or known.end is None
                or known.position < known.end
                or waiting.next_offset < known.delivered
            ):
                found.append(f"{_field(tp)} is not read to its end")
        return found

    def lag(self) -> dict[TP, int]:
        """How many offsets of each output Redis lacks, as far as the topics were read; without those not known yet."""
        found = {}
        for tp, waiting in self._waiting.items():
            reach = self.app.consumer.reach.get(tp)
            if not waiting.positioned or reach is None or reach.end is None:
                continue
            is_applied = not waiting.updates and reach.position >= reach.end and waiting.next_offset >= reach.delivered
            found[tp] = 0 if is_applied else max(0, reach.end - waiting.applied)
        return found

    async def stop(self) -> None:
        """Stop feeding; what is not applied is read again."""
        self._waiting = {}
        self._wake.set()
        task, self._task = self._task, None
        if task is not None:
            # Not simply awaited: a library in between may swallow the cancellation. Then the task ends by itself, as
            # its partitions are no longer those of the feed.
            task.cancel()
            await asyncio.wait({task}, timeout=STOP_SECONDS)

    def offer(self, tp: TP, topic: str, fetched: Fetched) -> None:
        """Take records from the transport."""
        waiting = self._waiting.get(tp)
        if waiting is None or not waiting.positioned:
            return  # read before Redis told where to start; it is read again from there
        found = fetched.records_from(waiting.next_offset)
        if found is None:
            waiting.positioned = False
            self._wake.set()
            return
        waiting.updates.extend((one.offset, update_of(topic, one.value)) for one in found)
        waiting.next_offset = max(waiting.next_offset, fetched.records[-1].offset + 1)
        if len(waiting.updates) > WITHHOLD_ABOVE:
            self.app.consumer.withhold(tp)
        self._wake.set()

    async def _run(self) -> None:
        # At the end of a rebalance Faust seeks to the committed offsets; what Redis says comes after that.
        mine = self._waiting
        while self.app.rebalancing and mine is self._waiting:
            await asyncio.sleep(0.05)
        while mine is self._waiting:
            self._wake.clear()
            await self._patiently(self._tell_rules)
            for tp, waiting in list(mine.items()):
                await self._patiently(partial(self._turn, tp, waiting))
            if not any(one.updates or not one.positioned for one in mine.values()):
                await self._wake.wait()

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something with Redis, again and again while it is away."""
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_away),
            wait=tenacity.wait_exponential_jitter(initial=0.25, max=10),
            before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
        ):
            with attempt:
                await work()

    async def _tell_rules(self) -> None:
        """The policies of the partitions that are here, before what is judged under them."""
        states = [worker.state for worker in self.app.partition_workers.values()]
        await self._rulebook.tell(state.editions for state in states if state is not None)

    async def _turn(self, tp: TP, waiting: _Waiting) -> None:
        if waiting.positioned:
            await self._apply(tp, waiting)
        else:
            await self._seek(tp, waiting, await self.view.position(_field(tp)))

    async def _apply(self, tp: TP, waiting: _Waiting) -> None:
        turn = waiting.updates[:UPDATES_A_CALL]
        if not turn:
            return
        following = turn[-1][0] + 1
        updates = [update for _, update in turn if update is not None]
        spans, applied = self.app.spans, waiting.applied
        with nullcontext() if spans is None else spans.view(tp, applied, following, len(updates)):
            missing_from = await self.view.apply(_field(tp), applied, following, updates)
        if missing_from is not None:
            log.warning("Redis has lost what it had of %s; feeding it again from offset %d", tp.topic, missing_from)
            waiting.positioned = False
            self._rulebook.forget()
            self._wake.set()
            await self._seek(tp, waiting, missing_from)
            return
        waiting.applied = following
        del waiting.updates[: len(turn)]
        self.app.consumer.done(tp, following)
        if len(waiting.updates) < WITHHOLD_ABOVE // 2:
            self.app.consumer.release(tp)

    async def _seek(self, tp: TP, waiting: _Waiting, offset: int) -> None:
        self.app.consumer.withhold(tp)
        await self.app.consumer.rewind(tp, offset)
        waiting.updates.clear()
        waiting.next_offset = waiting.applied = offset
        waiting.positioned = True
        self.app.consumer.release(tp)


def is_away(error: BaseException) -> bool:
    """Whether it is Redis that is away; of a closed connection uvloop tells by a RuntimeError."""
    return isinstance(error, RedisError | OSError) or (isinstance(error, RuntimeError) and "closed" in str(error))


def _field(tp: TP) -> str:
    return f"{tp.topic}/{tp.partition}"
