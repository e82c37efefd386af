"""One partition at work: records in, customers folded, outputs out, in the one order that loses nothing.

    merge -> (journal) -> fold -> outputs acknowledged -> changelog batch acknowledged -> offsets committed

A crash in between repeats outputs (the same bytes under the same id), never loses one: what the changelog has not
acknowledged is folded again from the offsets it holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from faust.types import TP

import models
from models.events import Decoder
from models.outputs import PROFILES
from models.policy import Policy
from streams import table
from streams.envelope import dead_letter_record, output_record
from streams.folding import Batch, Schedule
from streams.merge import Merge, Record
from streams.topics import INPUTS
from streams.transport import BatchConsumer, Outgoing, Records, produce

if TYPE_CHECKING:
    from streams.app import TierstreamApp

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.2
"""How often a partition without records looks at its clocks."""


class Fenced(RuntimeError):
    """The partition has a new owner; nothing more may be written for it here."""


class PartitionWorker:
    """Folds the input topics of one partition, from assignment to revocation."""

    def __init__(self, app: TierstreamApp, number: int, policy: Policy, decoder: Decoder) -> None:
        settings = app.settings
        self.app = app
        self.number = number
        self.policy = policy
        self.decoder = decoder
        self.generation = app.consumer_generation_id
        self.state = app.customers.partition(number)
        self.tps = {topic: TP(settings.topic(topic), number) for topic in INPUTS}
        self.merge = Merge(INPUTS, self.is_at_end, settings.max_idle / 1000)
        self.schedule = Schedule()
        self.clock_ms = self.state.marker.clock_ms
        self.caught_up = False
        self._wake = asyncio.Event()
        self._stopping = False
        self._idle = False
        self._profiled_at = time.monotonic()
        for key, customer in self.state.customers.items():
            self.schedule.moved(key, models.customer.NEVER_MS, models.customer.due_at_ms_of(customer))
        self._offered = dict(self.state.marker.offsets)
        for topic, offset in self._offered.items():
            app.consumer.done(self.tps[topic], offset + 1)

    # ------------------------------------------------------------ records in
    def offer(self, topic: str, records: Records) -> None:
        """Take records from the transport; those that the table already holds are skipped."""
        decode, number = self.decoder.decode, self.number
        last = self._offered.get(topic, -1)
        if not self._holds_what_is_committed(topic, last):
            return
        fresh = [
            Record(
                topic, number, one.offset, one.key, one.value, one.timestamp,
                # A record without a key may be in any partition: as wrong as a false key.
                decode(topic, one.value, one.key or b"", one.timestamp if one.timestamp >= 0 else None),
            )
            for one in records
            if one.offset > last
        ]  # fmt: skip
        skipped = len(records) - len(fresh)
        if skipped:
            self.app.stats.skipped += skipped
            log.info("skipped %d records of %s that the table already holds", skipped, self.tps[topic])
        if fresh:
            self._offered[topic] = fresh[-1].offset
            if self.merge.offer(topic, fresh) >= 2 * self.app.settings.max_batch:
                self.consumer.withhold(self.tps[topic])
        self._wake.set()

    def _holds_what_is_committed(self, topic: str, last: int) -> bool:
        """Whether the table goes as far as the group's offsets say. If not, its changelog was lost, and events would be."""
        committed = self.consumer.committed(self.tps[topic])
        if committed is None or committed <= last + 1:
            return True
        self.app.fail(
            table.ChangelogError(
                f"{self.tps[topic].topic}, partition {self.number}: offsets are committed up to {committed}, but the "
                f"table's changelog goes only up to {last + 1}. It was deleted or truncated; start a new "
                "TIERSTREAM_APP_VERSION, which rebuilds the table from the inputs"
            )
        )
        return False

    def is_at_end(self, topic: str) -> bool:
        """Whether every record of an input, as far as the broker told, has come through `offer`."""
        reach = self.consumer.reach.get(self.tps[topic])
        if reach is None or reach.end is None:
            return False
        return self._offered.get(topic, -1) + 1 >= reach.delivered and reach.position >= reach.end

    def waits_for(self) -> list[str]:
        """What is still to be done before everything on the broker is folded, announced and published; empty if it is."""
        found = [f"{topic} is not read to its end" for topic in INPUTS if not self.is_at_end(topic)]
        found += [f"{self.merge.size(topic)} records of {topic}" for topic in INPUTS if self.merge.size(topic)]
        if not self._idle or self.schedule.next_ms() <= self.clock_ms:
            found.append("a batch in hand")
        if self.state.unprofiled:
            found.append(f"{len(self.state.unprofiled)} profiles")
        return [f"partition {self.number}: {what}" for what in found]

    # ------------------------------------------------------------ the loop
    async def run(self) -> None:
        """Fold until told to stop. An infrastructure failure stops the whole worker, with nothing acknowledged."""
        try:
            while not self._stopping:
                self._idle = not await self.step()
                if self._idle:
                    await self._sleep()
            if self.state.unprofiled:
                await self.write_profiles()
        except Fenced:
            log.warning("partition %d has a new owner; its batch in hand is left to that one", self.number)
        except Exception as error:
            self.app.fail(error)

    def stop(self) -> None:
        """Finish the batch in hand and fold no more."""
        self._stopping = True
        self._wake.set()

    async def step(self) -> bool:
        """Fold one batch, if there is anything to fold; returns whether there was."""
        batch = Batch(self.policy, self.state.customers.get)
        self.fold_records(batch)
        self.move_clock(batch)
        self.fold_due(batch)
        worked = bool(batch.offsets) or bool(batch.outputs)
        drained = self.merge.is_drained()
        if worked:
            # The journal's place: its record of this batch goes out here, before anything that follows from it.
            await self.write_outputs(batch)
            await self.write_state(batch)
            self.report_done(batch)
        self.caught_up = self.caught_up or drained
        await self.write_profiles_when_due()
        return worked

    def fold_records(self, batch: Batch) -> None:
        """Fold the records whose turn it is, up to the size of a batch."""
        for record in self.merge.take(time.monotonic()):
            batch.fold(record)
            if batch.events >= self.app.settings.max_batch or batch.room_needed >= table.MAX_CHANGELOG_BATCH_BYTES:
                break
        for key, was_due_ms, due_at_ms in batch.touched():
            self.schedule.moved(key, was_due_ms, due_at_ms)

    def move_clock(self, batch: Batch) -> None:
        """The partition's time: the latest event folded, or the wall clock as far as everything has been read."""
        settings = self.app.settings
        drained = self.merge.is_drained()
        if settings.clock == "event":
            now_ms = batch.latest_ms
            if drained and settings.until is not None:
                now_ms = max(now_ms, settings.until)
        elif drained:
            now_ms = time.time_ns() // 1_000_000
        else:
            # Not beyond the next event waiting, nor, while an input is behind, beyond what was read.
            next_ms = None if self.merge.behind() else self.merge.next_event_ms()
            now_ms = min(time.time_ns() // 1_000_000, batch.latest_ms if next_ms is None else next_ms)
        self.clock_ms = max(self.clock_ms, now_ms)

    def fold_due(self, batch: Batch) -> None:
        """Cross the lines that time has reached, as many customers as fit into the batch."""
        for key in self.schedule.due(self.clock_ms, batch.due_at_ms):
            batch.advance(key, self.clock_ms)
            self.schedule.moved(key, models.customer.NEVER_MS, batch.due_at_ms(key))
            if batch.room_needed >= table.MAX_CHANGELOG_BATCH_BYTES:
                break

    # ------------------------------------------------------------ out, in order
    async def write_outputs(self, batch: Batch) -> None:
        """Tier changes, risk changes and dead letters, all acknowledged."""
        by_topic: dict[str, list[models.Output]] = {}
        for output in batch.outputs:
            by_topic.setdefault(output.topic, []).append(output)
        await asyncio.gather(
            *(self._produce(topic, map(output_record, outputs)) for topic, outputs in by_topic.items()),
            self._produce("dead-letters", map(dead_letter_record, batch.dead_letters)),
        )

    async def write_state(self, batch: Batch) -> None:
        """The changed customers and how far they go, as one batch of the changelog."""
        marker = self.state.marker
        following = table.Marker(
            marker.batch + 1,
            marker.offsets | batch.offsets,
            self.clock_ms,
            self.policy.ref,
            not self.state.unprofiled,
        )
        self._check_owner()
        await self.app.customers.write(self.number, batch.changed(), following)

    def report_done(self, batch: Batch) -> None:
        """Let the transport commit, and read on where it was held back."""
        for topic, offset in batch.offsets.items():
            tp = self.tps[topic]
            self.consumer.done(tp, offset + 1)
            if self.merge.size(topic) < self.app.settings.max_batch:
                self.consumer.release(tp)
        self.app.stats.count(batch)

    async def write_profiles_when_due(self) -> None:
        """Publish the latest profile of every customer changed since the last time, at most once per interval."""
        unprofiled = self.state.unprofiled
        if not unprofiled or time.monotonic() - self._profiled_at < self.app.settings.profile_interval / 1000:
            return
        await self.write_profiles()

    async def write_profiles(self) -> None:
        """Publish the latest profile of every customer changed since the last time."""
        customers, policy = self.state.customers, self.policy
        profiles: Iterable[Outgoing] = (
            (key, models.profile(models.decode(customers[key]), key.decode(), policy), [])
            for key in self.state.unprofiled
        )
        await self._produce(PROFILES, profiles)
        self.app.stats.profiles += len(self.state.unprofiled)
        self.state.unprofiled.clear()
        self._profiled_at = time.monotonic()

    async def _produce(self, topic: str, records: Iterable[Outgoing]) -> None:
        self._check_owner()
        await produce(self.app, self.app.settings.topic(topic), self.number, records)

    def _check_owner(self) -> None:
        if self.generation != self.app.consumer_generation_id:
            raise Fenced

    # ------------------------------------------------------------ waiting
    async def _sleep(self) -> None:
        """Until there are records, a customer is due, or it is time to look at the inputs again."""
        held_up = self.merge.seconds_held_up(time.monotonic())
        seconds = min(IDLE_SECONDS, held_up) if held_up > 0 else IDLE_SECONDS
        if self.app.settings.clock == "wall":
            due_in = (self.schedule.next_ms() - time.time_ns() // 1_000_000) / 1000
            seconds = min(seconds, max(due_in, 0.001))
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    @property
    def consumer(self) -> BatchConsumer:
        """The app's consumer."""
        consumer: BatchConsumer = self.app.consumer
        return consumer
