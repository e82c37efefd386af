"""One partition at work: records in, customers folded, outputs out, in the one order that loses nothing.

    restore -> merge -> plan -> journal -> fold -> outputs -> changelog -> positions

A batch is settled before it is folded (`Plan`), the journal says what it will do, and what leaves is either all in one
transaction or acknowledged step by step (streams/worker/delivery.py). Whatever happens in between, the next owner finds in
changelog and journal where to go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from faust.types import TP

from models.editions import Editions
from models.outputs import PROFILES
from models.policy import Policy
from streams.broker.aiokafka_readers import ReadProgress, read_to_end, read_undecided
from streams.engine.batch import NOBODY, Batch, Changes, Plan, make_plan
from streams.engine.journal import Entry, decode_entry, entry_of, one_entry_a_batch, plan_of
from streams.engine.merge import Merge, Record, records_of
from streams.engine.table import MAX_BATCH_BYTES, START_OVER, ChangelogError, Marker, Partition, Restoring
from streams.telemetry.logs import told_customer
from streams.telemetry.stats import BEGIN, COMMIT, FENCED, FOLD, INTERRUPTED, OUTPUTS, Watch
from streams.topics import COMMANDS, INPUTS, JOURNAL, changelog_topic, shadow_changelog_topic, shadow_of
from streams.worker.delivery import Delivery, Fenced, Interrupted, by_topic, in_our_words
from streams.worker.profiles import Profiles
from streams.worker.shadow import RestoringShadow, Shadow, ShadowBatch
from streams.worker.transport import BatchConsumer, Fetch

if TYPE_CHECKING:
    from streams.worker.app import TierstreamApp
    from streams.worker.census import PartitionCensus

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.2
"""How often a partition without records looks at its clocks."""
RETRY_SECONDS = (0.5, 10.0)
"""After how long a partition whose batch was interrupted begins anew: at first, and at the most."""
PROGRESS_SECONDS = 2.0
BATCH_SECONDS = 0.5
"""How long folding a batch takes at the most, about: whoever takes the partition away waits for it."""
FEWEST_RECORDS = 100
BATCHES_IN_A_TRANSACTION = 8
"""RecordBatches of the changelog, at the most."""
SHARE_OF_SHADOW = 4
"""One part in so many of a batch's room is for customers whom time, or their turn, moves under the shadow policy alone."""
LAST_PROFILES_SECONDS = 1.0
"""How long a partition that is let go still publishes profiles; the next owner publishes the rest."""


class PolicyMismatch(RuntimeError):
    """A table that was made under another policy; the message says what to do."""


class PartitionWorker:
    """Folds the input topics of one partition, for as long as it is assigned to this worker.

    What it holds outlives a rebalance that leaves the partition here: nobody else can have written in between.
    """

    def __init__(self, app: TierstreamApp, number: int) -> None:
        settings = app.settings
        self.app = app
        self.number = number
        self.log = logging.LoggerAdapter(log, {"partition": number})
        self.policy: Policy = app.policy
        self.table_policy = self.policy.ref
        """Under which the table was made: what its journal and its markers are told by, whatever was activated since."""
        self.delivery = Delivery(app, number)
        self.state: Partition | None = None
        """None: it has to be restored."""
        self.tps = {topic: TP(settings.topic(topic), number) for topic in INPUTS}
        self.merge = Merge(INPUTS, self.is_at_end, settings.max_idle / 1000)
        self.clock_ms = -1
        """The partition's time: with the event clock the latest event folded; how far customers have been advanced."""
        self.caught_up = False
        """Whether all that was there when it was taken is folded."""
        self.generation = 0
        self.doing = ""
        """What keeps the partition from folding, in words; empty while it folds."""
        self._latest_ms = -1
        self._next = dict.fromkeys(INPUTS, 0)
        """Per input topic, the offset from which records are still to come."""
        self._ends = dict.fromkeys(INPUTS, 0)
        """Where the inputs ended when the partition was taken."""
        self._rewinding: set[str] = set()
        self._redo: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._idle = False
        self._records_in_time = 10 * FEWEST_RECORDS
        """As many as can be folded within BATCH_SECONDS, by the latest batch."""
        interval_seconds = app.settings.profile_interval / 1000
        self.profiles = [Profiles(PROFILES, self.delivery, lambda: self.state, interval_seconds)]
        """Of the table, then of the shadow."""
        self._task: asyncio.Task[None] | None = None
        self.spans = None if app.spans is None else app.spans.of_partition(number)
        self.census: PartitionCensus | None = None
        if self.policy.relative is not None:
            from streams.worker.census import PartitionCensus  # it takes its time, and few policies need it

            self.census = PartitionCensus(self, self.policy.relative)
        self.shadow: Shadow | None = None
        if app.shadow is not None:
            self.shadow = shadow = Shadow(app.shadow, self.delivery, number)
            self.profiles.append(Profiles(shadow_of(PROFILES), self.delivery, lambda: shadow.table, interval_seconds))

    # ------------------------------------------------------------ coming and going
    def take(self, generation: int) -> None:
        """Fold in this generation of the group. What is held is current only if none was missed."""
        if generation != self.generation + 1:
            self.state = None
        self.generation = self.delivery.generation = generation
        self._stopping = self.caught_up = self._idle = False
        self.doing = "waiting for the others to let go"
        for tp in self.tps.values():
            self.consumer.withhold(tp)
        self._task = asyncio.create_task(self._run())

    async def release(self, seconds: float) -> None:
        """Finish the batch in hand, within so many seconds, and fold no more; timers stop at once."""
        self._stopping = True
        self._wake.set()
        task, self._task = self._task, None
        if task is None:
            return
        if self.doing:
            task.cancel()
        _, late = await asyncio.wait({task}, timeout=seconds)
        if late:
            task.cancel()
            await asyncio.wait({task})

    async def forget(self) -> None:
        """Let go of everything: the partition has gone to another worker."""
        self.state = None
        await self.delivery.close()

    async def _run(self) -> None:
        """Fold until released. What passes is tried again from what was committed; what does not stops the worker."""
        pause_seconds, most_seconds = RETRY_SECONDS
        try:
            while not self._stopping:
                try:
                    try:
                        await self._get_ready()
                    except KafkaError as error:
                        raise in_our_words(error, self.number) from error
                    pause_seconds = RETRY_SECONDS[0]
                    await self._fold_on()
                except Interrupted as error:
                    self.app.stats.interrupted(INTERRUPTED)
                    self.log.warning("partition %d begins anew from what is committed: %s", self.number, error)
                    self.state, self.doing = None, f"interrupted: {error}"
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, most_seconds)
        except Fenced:
            self.app.stats.interrupted(FENCED)
            self.log.warning("partition %d has another owner; its batch in hand is left to that one", self.number)
            self.state = None
            if self.generation == self.app.consumer_generation_id:
                self.consumer.rejoin()
        except asyncio.CancelledError:
            if not self.doing:
                # In the middle of a batch; before it folds, what it holds is what was committed.
                self.state = None
            raise
        except Exception as error:
            self.state = None
            self.app.fail(error)

    async def _get_ready(self) -> None:
        """Hold what is committed, and have records come from there on."""
        restored = self.state is None
        if self.state is None:
            async with self.app.restoring:
                self.state = await self._restore()
                if self.app.feed is not None:
                    self.app.feed.wake()  # the view is to know its editions
        marker = self.state.marker
        for profiles in self.profiles:
            profiles.forget_round()
        while self.app.rebalancing:
            # At the end of a rebalance Faust seeks to the committed positions; ours come after that.
            await asyncio.sleep(0.02)
        self._next = {topic: marker.offsets.get(topic, -1) + 1 for topic in INPUTS}
        self.merge = Merge(INPUTS, self.is_at_end, self.app.settings.max_idle / 1000)
        self.clock_ms = self._latest_ms = marker.clock_ms
        if restored:
            await self._check_that_nothing_is_lost()
        for topic, tp in self.tps.items():
            await self.consumer.rewind(tp, self._next[topic])
        ends = await self.consumer.highwaters(*self.tps.values())
        self._ends = {topic: ends[tp] for topic, tp in self.tps.items()}
        self.doing = ""
        for tp in self.tps.values():
            self.consumer.release(tp)

    async def _fold_on(self) -> None:
        while not self._stopping:
            self._idle = not await self.step()
            if self._idle:
                await self._sleep()
        deadline = time.monotonic() + LAST_PROFILES_SECONDS
        for profiles in self.profiles:
            self.app.stats.published(await profiles.last_ones(deadline))

    # ------------------------------------------------------------ restoring
    async def _restore(self) -> Partition:
        """The partition as its changelog has it, and what the journal says was begun after that."""
        self.doing = "becoming its owner"
        await self.delivery.open()
        self.doing = "restoring"
        topic = changelog_topic(self.app.settings)
        restoring, started = Restoring(topic, self.number), time.monotonic()
        told_at = started
        async for records, read in read_to_end(self.app.settings, topic, self.number):
            restoring.feed(records)
            self.doing = f"restoring, {_progress(read, time.monotonic() - started)}"
            if time.monotonic() - told_at > PROGRESS_SECONDS:
                told_at = time.monotonic()
                self.log.info("partition %d: %s", self.number, self.doing)
        if self.delivery.is_exactly_once:
            await self._decide_what_is_undecided(restoring)
        state = restoring.finished()
        await self._read_journal(state.marker)
        state.begin(self._editions_of(state.marker))
        if self.shadow is not None:
            await self._restore_shadow(self.shadow, state)
        seconds = time.monotonic() - started
        self.app.stats.restored(len(state.customers), seconds)
        if self.spans is not None:
            self.spans.restored(len(state.customers), seconds)
        self.log.info("partition %d: restored %d customers in %.1f s", self.number, len(state.customers), seconds)
        return state

    async def _restore_shadow(self, shadow: Shadow, state: Partition) -> None:
        """What is held under the shadow policy, if that goes as far as the table."""
        topic = shadow_changelog_topic(self.app.settings)
        restoring = RestoringShadow(topic, self.number)
        async for records, _ in read_to_end(self.app.settings, topic, self.number):
            restoring.feed(records)
        shadow.restored(restoring, state, self.policy)

    async def _decide_what_is_undecided(self, restoring: Restoring) -> None:
        """Restore, or undo, what is left of a transaction that neither has been committed nor can be any more.

        Whoever takes over the transactional id finds everything decided. But a partition that has no leader at that moment,
        as when the only broker stops, the broker takes for a deleted one and leaves without an end (KAFKA-20734), so that
        nobody can read on there. Of a batch the marker is appended last, and committed is only what was acknowledged: one
        whose marker is there was committed, or may as well be; one without was not.
        """
        undecided = await read_undecided(self.app.settings, changelog_topic(self.app.settings), self.number)
        begun = self._entries(await read_undecided(self.app.settings, self.app.settings.topic(JOURNAL), self.number))
        besides: Any = ()
        if self.shadow is not None:
            besides = await read_undecided(self.app.settings, shadow_changelog_topic(self.app.settings), self.number)
        if not undecided and not begun and not besides:
            return
        restoring.feed(undecided)
        # A shadow's alone is undone: it begins anew then.
        is_whole = bool(undecided or begun) and not restoring.has_part_of_a_batch
        is_whole = is_whole and all(entry.batch <= restoring.marker.batch for entry in begun)
        end = "committed" if is_whole else "aborted"
        self.log.warning("partition %d: the broker left a batch without an end; it is %s now", self.number, end)
        await self.delivery.end_undecided(as_committed=is_whole)
        if not is_whole:
            raise Interrupted("what was left of a batch had to be undone")

    async def _read_journal(self, marker: Marker) -> None:
        """Find what was begun and not finished."""
        topic = self.app.settings.topic(JOURNAL)
        begun, position = [], marker.journal
        async for records, read in read_to_end(self.app.settings, topic, self.number, marker.journal):
            position = read.end
            begun += self._entries(records)
        self._redo = deque(one_entry_a_batch(begun, after=marker.batch))
        self.delivery.journal_position = position
        if self._redo:
            self.log.info("partition %d: doing %d batches of the journal again", self.number, len(self._redo))

    def _entries(self, records: Iterable[Any]) -> list[Entry]:
        """The journal's entries that are this table's."""
        ours, topic = self.app.settings.table_app_id.encode(), self.app.settings.topic(JOURNAL)
        return [
            decode_entry(one.value, f"{topic}, partition {self.number}, offset {one.offset}")
            for one in records
            if one.key == ours
        ]

    def _editions_of(self, marker: Marker) -> Editions:
        """The editions that customers are under. A table goes on under the policy under which it was made; or, once nobody needs
        that any more, under one that was activated since.
        """
        editions = Editions.from_wire(self.policy, marker.editions)
        own = self.policy.ref
        begun_under = {marker.policy, *(entry.policy for entry in self._redo)} - {""}
        self.table_policy = marker.policy or next(iter(begun_under), own)
        if begun_under <= {own}:
            return editions
        if begun_under == {self.table_policy} and not editions.needs_own and names_it(editions.current, self.policy):
            return editions
        in_force = "" if editions.current.ref == own else f", and {editions.current.ref} is in force"
        raise PolicyMismatch(
            f"the customers' table was made under policy {self.table_policy}{in_force}, but TIERSTREAM_POLICY is {own}. "
            f"Run {self.table_policy}; to change the policy of a running table, tierstream policy activate; else start a new "
            "TIERSTREAM_APP_VERSION, which replays the inputs under the new policy"
        )

    async def _check_that_nothing_is_lost(self) -> None:
        """The table goes as far as the committed positions say, and what comes after it is still there."""
        first = await self.consumer.earliest_offsets(*self.tps.values())
        for topic, tp in self.tps.items():
            following, committed = self._next[topic], self.consumer.committed(tp)
            where = f"{tp.topic}, partition {self.number}"
            if committed is not None and committed > following:
                raise ChangelogError(
                    f"{where}: offsets are committed up to {committed}, but the "
                    f"table's changelog goes only up to {following}. It was deleted or truncated; {START_OVER}"
                )
            if following and first[tp] > following:
                raise ChangelogError(
                    f"{where}: records {following} to {first[tp] - 1} were deleted before they were read. Keep inputs for "
                    f"longer (retention.ms); to go on without these, {START_OVER}"
                )

    # ------------------------------------------------------------ records in
    def offer(self, topic: str, fetched: Fetch) -> None:
        """Take records from the transport; those that the table already holds are skipped."""
        if self.doing:
            return  # they come again from where the restored table ends
        following = self._next[topic]
        found = fetched.records_from(following)
        if found is None:
            self._fill_gap(topic, following)
            return
        if self.spans is not None and topic == COMMANDS:
            self.spans.note_commands(found)
        fresh = records_of(found, topic, self.number, self.app.decoder)
        self.app.stats.skip(topic, len(fetched.records) - len(fresh))
        if fresh:
            self._next[topic] = fresh[-1].offset + 1
            if self.merge.offer(topic, fresh) >= 2 * self.app.settings.max_batch and not self._redo:
                self.consumer.withhold(self.tps[topic])
        self._wake.set()

    def _fill_gap(self, topic: str, following: int) -> None:
        """These records were under way before a rewind, or something made the consumer jump: read what is missing."""

        async def rewind() -> None:
            try:
                await self.consumer.rewind(self.tps[topic], following)
            finally:
                self._rewinding.discard(topic)

        if topic not in self._rewinding:
            self._rewinding.add(topic)
            self.app.spawn(rewind())

    def is_at_end(self, topic: str) -> bool:
        """Whether every record of an input, as far as the broker told, has come through `offer`."""
        reach = self.consumer.reach.get(self.tps[topic])
        if reach is None or reach.end is None:
            return False
        return self._next[topic] >= reach.delivered and reach.position >= reach.end

    def _has_caught_up(self) -> bool:
        """Whether all that was there when the partition was taken is folded; what came since may still be under way."""
        folded = self.held.marker.offsets
        return all(
            folded.get(topic, -1) + 1 >= end or (self.is_at_end(topic) and not self.merge.size(topic))
            for topic, end in self._ends.items()
        )

    def lag(self, topic: str) -> int | None:
        """How far what was folded of an input is behind its end, in offsets; None if the broker did not tell the end yet."""
        reach = self.consumer.reach.get(self.tps[topic])
        if self.doing or self.state is None or reach is None or reach.end is None:
            return None
        following = self.state.marker.offsets.get(topic, -1) + 1
        # After the last record there may be offsets that are none: the ends of a producer's transactions.
        is_folded = following >= self._next[topic] and self.is_at_end(topic)
        return 0 if is_folded else max(0, reach.end - following)

    def waits_for(self) -> list[str]:
        """What is still to be done before everything on the broker is folded, announced and published; empty if it is."""
        if self.doing or self.state is None:
            return [f"partition {self.number}: {self.doing or 'its next assignment'}"]
        found = [f"{topic} is not read to its end" for topic in INPUTS if not self.is_at_end(topic)]
        found += [f"{self.merge.size(topic)} records of {topic}" for topic in INPUTS if self.merge.size(topic)]
        if not self._idle or self._redo or self.state.schedule.next_ms() <= self.clock_ms:
            found.append("a batch in hand")
        if not self.state.review.is_over():
            found.append(f"{len(self.state.review)} customers to be judged under edition {self.state.editions.number}")
        if self.shadow is not None:
            found += self.shadow.waits_for(self.clock_ms)
        unprofiled = sum(len(profiles.due) for profiles in self.profiles)
        if unprofiled:
            found.append(f"{unprofiled} profiles")
        return [f"partition {self.number}: {what}" for what in found]

    # ------------------------------------------------------------ a batch
    async def step(self) -> bool:
        """Fold one batch, if there is anything to fold, and publish profiles; returns whether there was anything to do."""
        entry = self._redo[0] if self._redo else None
        if self.shadow is not None and entry is None:
            await self.shadow.keep_up(self.held, self.table_policy)
        waiting = self.merge.sizes()
        plan = self.plan_new() if entry is None else self.plan_again(entry)
        if not plan.is_empty:
            taken = {topic: count - self.merge.size(topic) for topic, count in waiting.items()}
            batch, seconds = await self.do(plan, entry)
            self.app.stats.count(batch, plan, taken, seconds)
            if batch.dead_letters and self.log.isEnabledFor(logging.DEBUG):
                for letter in batch.dead_letters:
                    self.log.debug("dead letter, %s: %s", letter.code, _where(letter.record))
            if entry is not None:
                self._redo.popleft()
            self.read_on()
        self.caught_up = self.caught_up or self._has_caught_up()
        idle, published = plan.is_empty and self.merge.is_drained(), 0
        for profiles in self.profiles:
            published += await profiles.turn(idle)
        self.app.stats.published(published)
        counted = self.census is not None and await self.census.turn(self.time_ms())
        return bool(published) or counted or not plan.is_empty

    def plan_new(self) -> Plan:
        """What to do next: advance who is due, then fold the records whose turn it is."""
        state, settings = self.held, self.app.settings
        until_ms = self.time_ms()
        records = self.merge.take(time.monotonic())
        # In a transaction the changelog may take several RecordBatches; without, a batch has to fit into one.
        most_bytes = BATCHES_IN_A_TRANSACTION * MAX_BATCH_BYTES if self.delivery.is_exactly_once else MAX_BATCH_BYTES
        most_records = min(settings.max_batch, self._records_in_time)
        shadow = None if self.shadow is None or self.shadow.table is None else self.shadow
        room, beside = (0, NOBODY) if shadow is None else (most_bytes // SHARE_OF_SHADOW, shadow.customers)
        most_bytes -= room
        plan = make_plan(
            state.customers, state.schedule, state.review, until_ms, records, most_records, most_bytes, beside
        )
        return plan if shadow is None else plan._replace(shadow=shadow.plan(plan, room))

    def plan_again(self, entry: Entry) -> Plan:
        """What the journal says was begun; nothing yet while not all of its records are here."""
        if any(self._next[topic] <= last for topic, _, last in entry.runs):
            return Plan(entry.until_ms, [], [], [])
        state, where = self.held, f"partition {self.number}"
        plan = plan_of(entry, state.customers, state.schedule, self.merge.take_up_to, where)
        return plan if self.shadow is None else plan._replace(shadow=self.shadow.plan_again(entry, plan, where))

    def time_ms(self) -> int:
        """The partition's time: the latest event folded, or the wall clock as far as everything has been read."""
        settings = self.app.settings
        drained = self.merge.is_drained()
        if settings.clock == "event":
            now_ms = settings.until if drained and settings.until is not None else self._latest_ms
        elif drained:
            now_ms = time.time_ns() // 1_000_000
        else:
            # Not beyond the next event waiting, nor, while an input is behind, beyond what was read.
            next_ms = None if self.merge.behind() else self.merge.next_event_ms()
            now_ms = min(time.time_ns() // 1_000_000, self._latest_ms if next_ms is None else next_ms)
        return max(self.clock_ms, now_ms)

    async def do(self, plan: Plan, begun: Entry | None = None) -> tuple[Batch, dict[str, float]]:
        """Fold a batch and write what it brings; `begun` is its entry if the journal holds it already.

        Returns the batch, and how many seconds each step took.
        """
        number = self.held.marker.batch + 1
        entry = entry_of(plan, number, self.generation, self.table_policy) if begun is None else begun
        watch, is_repeat = Watch(), begun is not None
        if self.spans is None:
            batch, _ = await self._do(plan, entry, is_repeat, watch)
        else:
            with self.spans.batch(plan, entry, watch, is_repeat) as span:
                batch, changes = await self._do(plan, entry, is_repeat, watch)
                span.came_to(batch, len(changes.states))
        return batch, watch.seconds

    async def _do(self, plan: Plan, entry: Entry, is_repeat: bool, watch: Watch) -> tuple[Batch, Changes]:
        """The batch of an entry, which a repeat has in the journal already; and which customers changed."""
        state, delivery = self.held, self.delivery
        offsets = {topic: last for topic, _, last in entry.runs}
        beside = None if self.shadow is None or plan.shadow is None else ShadowBatch(self.shadow, plan.shadow)
        await delivery.begin()
        watch.lap(BEGIN)
        if not is_repeat:
            # The journal's append is under way while the batch is folded.
            batch, _ = await asyncio.gather(self.fold(plan, beside), delivery.append_journal(entry))
        else:
            batch = await self.fold(plan, beside)
        watch.lap(FOLD)
        outputs = by_topic(batch.outputs, batch.dead_letters)
        if beside is not None:
            outputs |= beside.outputs(batch)
        await delivery.append_outputs(outputs)
        watch.lap(OUTPUTS)
        changes = batch.changes()
        editions = batch.editions
        if editions is state.editions and state.review.is_over():
            editions = editions.settled()
        clock_ms = max(plan.until_ms, batch.latest_ms) if self.app.settings.clock == "event" else plan.until_ms
        marker = Marker(
            state.marker.batch + 1,
            state.marker.offsets | offsets,
            clock_ms,
            self.table_policy,
            not state.unprofiled,
            delivery.journal_position,
            len(state.customers) + changes.new,
            state.checksum ^ changes.checksum,
            editions.as_wire(),
        )
        if beside is not None:
            await beside.append(marker)
        await delivery.append_state(changes.states, marker)
        await delivery.commit(offsets)
        if beside is not None:
            self.app.stats.count_shadow(beside.apply())
        state.apply(changes, marker)
        state.follow(editions)
        self.clock_ms, self._latest_ms = clock_ms, max(self._latest_ms, batch.latest_ms)
        watch.lap(COMMIT)
        return batch, changes

    async def fold(self, plan: Plan, beside: ShadowBatch | None = None) -> Batch:
        """The batch that a plan gives, and the shadow's; others get their turn in between."""
        batch = Batch(self.held.editions, self.held.customers)
        began = time.monotonic()
        await _folded(batch, plan)
        if beside is not None:
            await _folded(beside.batch, beside.plan)
        seconds, records = time.monotonic() - began, len(plan.records)
        if records >= FEWEST_RECORDS:
            self._records_in_time = max(FEWEST_RECORDS, int(records * BATCH_SECONDS / max(seconds, 1e-6)))
        return batch

    def read_on(self) -> None:
        """Read on where it was held back."""
        for topic, tp in self.tps.items():
            if self.merge.size(topic) < self.app.settings.max_batch:
                self.consumer.release(tp)

    # ------------------------------------------------------------ waiting
    async def _sleep(self) -> None:
        """Until there are records, a customer is due, or it is time to look at the inputs again."""
        held_up = self.merge.seconds_held_up(time.monotonic())
        seconds = min(IDLE_SECONDS, held_up) if held_up > 0 else IDLE_SECONDS
        if self.app.settings.clock == "wall":
            next_ms = self.held.schedule.next_ms()
            if self.shadow is not None:
                next_ms = min(next_ms, self.shadow.next_ms())
            due_in = (next_ms - time.time_ns() // 1_000_000) / 1000
            seconds = min(seconds, max(due_in, 0.001))
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    @property
    def held(self) -> Partition:
        """The partition's customers, which are held while it folds."""
        assert self.state is not None
        return self.state

    @property
    def consumer(self) -> BatchConsumer:
        """The app's consumer."""
        consumer: BatchConsumer = self.app.consumer
        return consumer


async def _folded(batch: Batch, plan: Plan) -> None:
    """Fold what a plan has into a batch. What goes wrong is told with whose turn it was."""
    try:
        for _ in batch.fold(plan):
            await asyncio.sleep(0)
    except Exception as error:
        error.add_note(_where(plan.step(batch.steps)))
        raise


def names_it(activated: Policy, own: Policy) -> bool:
    """Whether a policy is the one that was activated: the same version, of the same text."""
    return (activated.id, activated.version, activated.text) == (own.id, own.version, own.text)


def _where(at: bytes | Record) -> str:
    """A customer, or a record and whose it is, in words for the log."""
    if isinstance(at, bytes):
        return f"customer {told_customer(at)}"
    return f"{at.topic}, partition {at.partition}, offset {at.offset}, customer {told_customer(at.key)}"


def _progress(read: ReadProgress, seconds: float) -> str:
    """How far a restoration is, and how long the rest takes at this rate.

    >>> _progress(ReadProgress(start=100, position=150, end=300), seconds=2.0)
    '25 % of 200 changelog records, about 6 s left'
    """
    done, total = read.position - read.start, max(1, read.end - read.start)
    left_seconds = seconds * (total - done) / done if done else 0.0
    return f"{100 * done // total} % of {total} changelog records, about {left_seconds:.0f} s left"
