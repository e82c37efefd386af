"""Carries the output topics into the serving view, in order, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import tenacity
from faust.types import TP

from models.policy.editions import Editions
from streams.view.customers import RedisView, is_away
from streams.view.rulebook import RulebookWriter
from streams.view.updates import Update, update_of
from streams.worker.context import PartitionContext
from streams.worker.fetch import Fetch

log = logging.getLogger(__name__)

UPDATES_A_CALL: Final = 500
STOP_SECONDS: Final = 2.0
WITHHOLD_ABOVE: Final = 20_000
"""Records waiting for Redis, per partition, above which no more are read."""


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

    def __init__(self, context: PartitionContext, view: RedisView, editions: Callable[[], Iterable[Editions]]) -> None:
        self._context = context
        self._editions = editions
        """Gives the editions of the partitions that are here."""
        self.view = view
        self._rulebook = RulebookWriter(view)
        self._waiting: dict[TP, _Waiting] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self, tps: Iterable[TP]) -> None:
        """Feed from these partitions, starting where Redis left off."""
        for tp in tps:
            self._waiting[tp] = _Waiting()
            self._context.consumer.withhold(tp)
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
            self._context.fail(error)

    def waits_for(self) -> list[str]:
        """What Redis lacks of what was on the output topics when they were last read; empty if nothing."""
        read = self._context.consumer.positions
        found = []
        for tp, waiting in self._waiting.items():
            known = read.get(tp)
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
            read = self._context.consumer.positions.get(tp)
            if not waiting.positioned or read is None or read.end is None:
                continue
            is_applied = not waiting.updates and read.position >= read.end and waiting.next_offset >= read.delivered
            found[tp] = 0 if is_applied else max(0, read.end - waiting.applied)
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

    def offer(self, tp: TP, topic: str, fetched: Fetch) -> None:
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
            self._context.consumer.withhold(tp)
        self._wake.set()

    async def _run(self) -> None:
        # At the end of a rebalance Faust seeks to the committed offsets; what Redis says comes after that.
        mine = self._waiting
        while self._context.is_rebalancing and mine is self._waiting:
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
        await self._rulebook.tell(self._editions())

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
        spans, applied = self._context.spans, waiting.applied
        with nullcontext() if spans is None else spans.view(tp.topic, tp.partition, applied, following, len(updates)):
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
        self._context.consumer.done(tp, following)
        if len(waiting.updates) < WITHHOLD_ABOVE // 2:
            self._context.consumer.release(tp)

    async def _seek(self, tp: TP, waiting: _Waiting, offset: int) -> None:
        self._context.consumer.withhold(tp)
        await self._context.consumer.rewind(tp, offset)
        waiting.updates.clear()
        waiting.next_offset = waiting.applied = offset
        waiting.positioned = True
        self._context.consumer.release(tp)


def _field(tp: TP) -> str:
    return f"{tp.topic}/{tp.partition}"
