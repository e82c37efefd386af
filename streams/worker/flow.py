"""How a batch flows, on one screen. Read this file first.

    records -> merge -> plan -> journal -> fold -> outputs -> state -> commit

    records   the records that one fetch read from an input topic, decoded once (inputs.py)
    merge     the partition's inputs in one order, by the time of their events (engine/merge.py)
    plan      which customers are advanced by time and which records are folded, decided before folding (engine/plan.py)
    journal   the plan as one small record, so that a crash or a replay repeats exactly this batch (engine/journal.py)
    fold      each customer is decoded once, however many of the records are theirs (engine/batch.py, models/fold.py)
    outputs   announcements, dead letters, and strays on their way home (engine/envelope.py)
    state     the customers that changed, and a marker with batch number, offsets and time (engine/table.py)
    commit    everything at once, in one transaction; or step by step, each step acknowledged (delivery.py)

Only then is the batch applied to the table in memory. Whatever happens in between, the partition's next owner finds in
changelog and journal where to continue (restoring.py).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from streams.engine.batch import Batch
from streams.engine.journal import Entry, entry_of
from streams.engine.merge import Record
from streams.engine.partition import Outcome
from streams.engine.plan import NO_CUSTOMERS, Plan
from streams.engine.table import MAX_BATCH_BYTES, Table
from streams.telemetry.logs import customer_hash
from streams.telemetry.stats import BEGIN, COMMIT, FOLD, OUTPUTS, Watch
from streams.worker.context import PartitionContext, PartitionDelivery
from streams.worker.delivery import by_home, by_topic
from streams.worker.inputs import Inputs
from streams.worker.shadow import Shadow, ShadowBatch

if TYPE_CHECKING:
    from streams.telemetry.spans import PartitionSpans

log = logging.getLogger(__name__)

BATCH_SECONDS: Final = 0.5
"""About how long folding a batch may take: a rebalance has to wait for it."""
FEWEST_RECORDS: Final = 100
BATCHES_IN_A_TRANSACTION: Final = 8
"""How many RecordBatches of the changelog one transaction has at most."""
STRAYS_LOG_SECONDS: Final = 300.0
SHARE_OF_SHADOW: Final = 4
"""One part in four of a batch's bytes is for customers that only the shadow policy advances or takes over."""


class Flow:
    """Folds one partition batch by batch, beginning with its restored table."""

    def __init__(
        self,
        context: PartitionContext,
        number: int,
        table: Table,
        unfinished: deque[Entry],
        table_policy: str,
        inputs: Inputs,
        delivery: PartitionDelivery,
        shadow: Shadow | None = None,
        spans: PartitionSpans | None = None,
    ) -> None:
        self.table = table
        self.unfinished = unfinished
        """Journal entries whose batches were not finished: they are folded again before anything new is."""
        self._table_policy = table_policy
        """The policy under which the table was made. Journal and markers name it, whatever was activated since."""
        self._context = context
        self._number = number
        self._inputs = inputs
        self._delivery = delivery
        self._shadow = shadow
        self._spans = spans
        self._partitioner = context.settings.partitioner
        self._strays_logged_at = -math.inf
        self._strays = Counter[str]()
        """By topic, the strays that the log has not named yet."""
        self._most_records = 10 * FEWEST_RECORDS
        """How many records can be folded within BATCH_SECONDS, judging by the latest batch."""

    async def fold_next_batch(self) -> bool:
        """Fold one batch; returns False if there was nothing to fold."""
        entry = self.unfinished[0] if self.unfinished else None
        if self._shadow is not None and entry is None:
            await self._shadow.ensure_begun(self.table, self._table_policy)
        waiting = self._inputs.merge.sizes()
        plan = self.plan_next() if entry is None else self.plan_again(entry)
        if plan is None or (entry is None and plan.is_empty):
            return False
        taken = {topic: count - self._inputs.merge.size(topic) for topic, count in waiting.items()}
        batch, seconds = await self._fold_and_write(plan, entry)
        self._context.stats.count(batch, plan, taken, seconds)
        if log.isEnabledFor(logging.DEBUG):
            for dead_letter in batch.dead_letters:
                log.debug(
                    "dead letter, %s: %s",
                    dead_letter.code,
                    _where(dead_letter.record),
                    extra={"partition": self._number},
                )
        if batch.strays:
            self._log_strays(batch.strays)
        if entry is not None:
            self.unfinished.popleft()
        self._inputs.release()
        return True

    def _log_strays(self, strays: Iterable[Record]) -> None:
        """Log that strays were carried, at once and then every few minutes at most."""
        self._strays.update(stray.topic for stray in strays)
        if time.monotonic() < self._strays_logged_at + STRAYS_LOG_SECONDS:
            return
        for topic, count in self._strays.items():
            log.warning(
                "partition %d: %d records of %s are of customers who live in other partitions by %s; they were carried "
                "there. Give their producer that partitioner, or TIERSTREAM_PARTITIONER theirs: see tierstream doctor",
                self._number, count, topic, self._partitioner, extra={"partition": self._number},
            )  # fmt: skip
        self._strays.clear()
        self._strays_logged_at = time.monotonic()

    # ------------------------------------------------------------ plan
    def plan_next(self) -> Plan:
        """Plan the next batch: advance customers that are due, then fold the records that come next."""
        records = self._inputs.merge.take(time.monotonic())
        # In a transaction a batch may take several RecordBatches of the changelog; without one it has to fit into one.
        most_bytes = BATCHES_IN_A_TRANSACTION * MAX_BATCH_BYTES if self._delivery.is_exactly_once else MAX_BATCH_BYTES
        most_records = min(self._context.settings.max_batch, self._most_records)
        shadow = None if self._shadow is None or self._shadow.table is None else self._shadow
        room, shadow_customers = (
            (0, NO_CUSTOMERS) if shadow is None else (most_bytes // SHARE_OF_SHADOW, shadow.customers)
        )
        plan = self.table.plan(self.time_ms(), records, most_records, most_bytes - room, shadow_customers)
        plan = plan._replace(strays=self._context.settings.strays)
        return plan if shadow is None else plan._replace(shadow=shadow.plan(plan, room))

    def plan_again(self, entry: Entry) -> Plan | None:
        """The plan of an unfinished batch, from its journal entry; None while not all of its records have been
        read.
        """
        if any(self._inputs.next_offsets[topic] <= last for topic, _, last in entry.runs):
            return None
        where = f"partition {self._number}"
        plan = self.table.plan_again(entry, self._inputs.merge.take_up_to, where)
        return plan if self._shadow is None else plan._replace(shadow=self._shadow.plan_again(entry, plan, where))

    def time_ms(self) -> int:
        """The partition's time: that of the latest event folded, or the wall clock, limited by what has not been read
        yet.
        """
        settings, merge, latest_ms = self._context.settings, self._inputs.merge, self.table.latest_ms
        drained = merge.is_drained()
        if settings.clock == "event":
            now_ms = settings.until if drained and settings.until is not None else latest_ms
        elif drained:
            now_ms = time.time_ns() // 1_000_000
        else:
            # Not later than the next buffered event; nor, while an input is behind, later than the latest event folded.
            next_ms = None if merge.topics_behind() else merge.next_event_ms()
            now_ms = min(time.time_ns() // 1_000_000, latest_ms if next_ms is None else next_ms)
        return max(self.table.clock_ms, now_ms)

    # ------------------------------------------------------------ journal, fold, outputs, state, commit
    async def _fold_and_write(self, plan: Plan, journaled: Entry | None) -> tuple[Batch, dict[str, float]]:
        """Fold a batch and write it. `journaled` is its entry, if the journal has it already. Returns the batch, and
        the seconds of each step.
        """
        number = self.table.marker.batch + 1
        entry = (
            entry_of(plan, number, self._delivery.generation, self._table_policy) if journaled is None else journaled
        )
        watch, is_repeat = Watch(), journaled is not None
        if self._spans is None:
            batch, _ = await self._write(plan, entry, is_repeat, watch)
        else:
            with self._spans.batch(plan, entry, watch, is_repeat) as span:
                batch, outcome = await self._write(plan, entry, is_repeat, watch)
                span.set_results(batch, len(outcome.changes.states))
        return batch, watch.seconds

    async def _write(self, plan: Plan, entry: Entry, is_repeat: bool, watch: Watch) -> tuple[Batch, Outcome]:
        """The steps of a batch, in the only order that loses nothing."""
        table, delivery = self.table, self._delivery
        offsets = {topic: last for topic, _, last in entry.runs}
        shadow = None if self._shadow is None or plan.shadow is None else ShadowBatch(self._shadow, plan.shadow)
        await delivery.begin()
        watch.lap(BEGIN)
        if is_repeat:
            batch = await self._fold(plan, shadow)
        else:  # the journal is appended while the batch is folded
            batch, _ = await asyncio.gather(self._fold(plan, shadow), delivery.append_journal(entry))
        watch.lap(FOLD)
        outputs = by_topic(batch.outputs, batch.dead_letters)
        await delivery.append_outputs(outputs if shadow is None else outputs | shadow.outputs(batch))
        if batch.strays:
            await delivery.append_carried(by_home(batch.strays))
        watch.lap(OUTPUTS)
        outcome = table.outcome(batch, plan.until_ms)
        marker = table.marker_after(outcome, offsets, self._table_policy, delivery.journal_position, self._partitioner)
        if shadow is not None:
            await shadow.append(marker)
        await delivery.append_state(outcome.changes.states, marker)
        await delivery.commit(offsets)
        if shadow is not None:
            self._context.stats.count_shadow(shadow.apply())
        table.commit(outcome, marker)
        watch.lap(COMMIT)
        return batch, outcome

    async def _fold(self, plan: Plan, shadow: ShadowBatch | None) -> Batch:
        """Fold a plan, and that of the shadow; other tasks run in between."""
        batch, began = self.table.new_batch(), time.monotonic()
        await _fold_in_turns(batch, plan)
        if shadow is not None:
            await _fold_in_turns(shadow.batch, shadow.plan)
        seconds, records = time.monotonic() - began, len(plan.records)
        if records >= FEWEST_RECORDS:
            self._most_records = max(FEWEST_RECORDS, int(records * BATCH_SECONDS / max(seconds, 1e-6)))
        return batch


async def _fold_in_turns(batch: Batch, plan: Plan) -> None:
    """Fold a plan into a batch, letting other tasks run in between. An error names the customer or record that caused
    it.
    """
    try:
        for _ in batch.fold(plan):
            await asyncio.sleep(0)
    except Exception as error:
        error.add_note(_where(plan.step(batch.steps)))
        raise


def _where(at: bytes | Record) -> str:
    """A customer, or a record and its customer, in words for the log."""
    if isinstance(at, bytes):
        return f"customer {customer_hash(at)}"
    return f"{at.topic}, partition {at.partition}, offset {at.offset}, customer {customer_hash(at.key)}"
