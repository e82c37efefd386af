"""Restores a partition for its new owner: the table from the changelog, and later, unfinished batches from the
journal.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from models.policy import Policy
from models.policy.editions import Editions
from streams.broker.aiokafka_readers import ReadProgress, read_to_end, read_undecided
from streams.engine.journal import Entry, decode_entry, one_entry_a_batch
from streams.engine.table import START_OVER, ChangelogError, Marker, RestoredTable, Table, TableRestorer
from streams.topics import JOURNAL, changelog_topic, shadow_changelog_topic
from streams.worker.context import PartitionContext, PartitionDelivery
from streams.worker.delivery import Interrupted
from streams.worker.inputs import Inputs
from streams.worker.shadow import Shadow, ShadowRestorer

log = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 2.0


class PolicyMismatch(RuntimeError):
    """The table was made under another policy; the message says what to do."""


class PlacementMismatch(RuntimeError):
    """The table's customers were placed by another partitioner; the message says what to do."""


class RestoredPartition(NamedTuple):
    """A partition as restored from its changelog and its journal."""

    table: Table
    unfinished: deque[Entry]
    """Batches that the journal has and the table has not: they are to be folded again."""
    table_policy: str
    """The policy under which the table was made."""


class PartitionRestorer:
    """Restores one partition for its new owner, whose delivery is open."""

    def __init__(
        self, context: PartitionContext, number: int, delivery: PartitionDelivery, shadow: Shadow | None = None
    ) -> None:
        self._settings = context.settings
        self._policy: Policy = context.policy
        self._number = number
        self._delivery = delivery
        self._shadow = shadow
        self._log = logging.LoggerAdapter(log, {"partition": number})

    async def restore(self, on_progress: Callable[[str], None] = lambda progress: None) -> RestoredPartition:
        """The partition as committed; `on_progress` is called with the progress in words.

        Raises ChangelogError, JournalError, PolicyMismatch or PlacementMismatch if the partition can't be continued;
        Interrupted if a batch had to be undone first, so that restoring has to be repeated; KafkaError.
        """
        topic, started = changelog_topic(self._settings), time.monotonic()
        restoring, logged_at = TableRestorer(topic, self._number), started
        async for records, read in read_to_end(self._settings, topic, self._number):
            restoring.feed(records)
            progress = _progress(read, time.monotonic() - started)
            on_progress(progress)
            if time.monotonic() - logged_at > PROGRESS_SECONDS:
                logged_at = time.monotonic()
                self._log.info("partition %d: restoring, %s", self._number, progress)
        if self._delivery.is_exactly_once:
            await self._end_undecided(restoring)
        restored = restoring.finish()
        self._check_placement(restored)
        unfinished = await self._read_journal(restored.marker)
        editions, table_policy = self._editions_of(restored.marker, unfinished)
        table = Table(restored, editions, self._settings.clock == "event")
        if self._shadow is not None:
            await self._restore_shadow(self._shadow, table)
        return RestoredPartition(table, unfinished, table_policy)

    def _check_placement(self, restored: RestoredTable) -> None:
        """Check that the table's customers live where the partitioner says. Raises PlacementMismatch."""
        placement, marker = self._settings.placement, restored.marker
        if marker.partitioner == placement.partitioner or not restored.customers:
            return
        if marker.partitioner:
            raise PlacementMismatch(
                f"the customers' table is placed by {marker.partitioner}, but TIERSTREAM_PARTITIONER is "
                f"{placement.partitioner}. Set it to {marker.partitioner}; to place customers otherwise, {START_OVER}"
            )
        # The table is of version 0.1, which folded records wherever they were.
        strangers = placement.strangers((key, self._number) for key in restored.customers)
        customers = len(restored.customers)
        ours, (fewest, best) = strangers[placement.partitioner], min((count, name) for name, count in strangers.items())
        if ours > 2 * fewest and ours > customers / 2:
            raise PlacementMismatch(
                f"of {customers} customers of partition {self._number}, {ours} would live elsewhere by "
                f"{placement.partitioner}, but only {fewest} by {best}: set TIERSTREAM_PARTITIONER={best}, as the producers have "
                "it"
            )
        if ours:
            self._log.warning(
                "partition %d: %d of %d customers live elsewhere by %s: another producer's partitioner has put their "
                "records here, and they may exist twice. From now on such records are carried home; to heal the past, %s",
                self._number, ours, customers, placement.partitioner, START_OVER,
            )  # fmt: skip

    async def _restore_shadow(self, shadow: Shadow, table: Table) -> None:
        """The table of the shadow policy, if it is as far as the table."""
        topic = shadow_changelog_topic(self._settings)
        restoring = ShadowRestorer(topic, self._number)
        async for records, _ in read_to_end(self._settings, topic, self._number):
            restoring.feed(records)
        shadow.resume(restoring, table, self._policy)

    async def _end_undecided(self, restoring: TableRestorer) -> None:
        """Commit or abort a transaction whose end is missing in some partitions, and restore its records if it is
        committed.

        A producer that takes over a transactional id normally finds every transaction ended. But if a partition has no
        leader at that moment, as when the only broker stops, the broker treats the partition as deleted and writes no
        end into it (KAFKA-20734), so that consumers can't read on. A batch's marker is appended last, and a transaction
        is only committed after all appends were acknowledged: so a batch with its marker was committed, or may as well
        be; a batch without it was not.
        """
        settings = self._settings
        undecided = await read_undecided(settings, changelog_topic(settings), self._number)
        unfinished = self._entries(await read_undecided(settings, settings.topic(JOURNAL), self._number))
        of_shadow: Any = ()
        if self._shadow is not None:
            of_shadow = await read_undecided(settings, shadow_changelog_topic(settings), self._number)
        if not undecided and not unfinished and not of_shadow:
            return
        restoring.feed(undecided)
        # If only the shadow's records are undecided they are aborted: the shadow then begins again.
        is_whole = bool(undecided or unfinished) and not restoring.has_part_of_a_batch
        is_whole = is_whole and all(entry.batch <= restoring.marker.batch for entry in unfinished)
        end = "committed" if is_whole else "aborted"
        self._log.warning("partition %d: the broker left a batch without an end; it is %s now", self._number, end)
        await self._delivery.end_undecided(as_committed=is_whole)
        if not is_whole:
            raise Interrupted("an unfinished batch had to be undone")

    async def _read_journal(self, marker: Marker) -> deque[Entry]:
        """The entries of batches that were begun and not finished."""
        topic = self._settings.topic(JOURNAL)
        found, position = [], marker.journal
        async for records, read in read_to_end(self._settings, topic, self._number, marker.journal):
            position = read.end
            found += self._entries(records)
        unfinished = deque(one_entry_a_batch(found, after=marker.batch))
        self._delivery.journal_position = position
        if unfinished:
            self._log.info("partition %d: folding %d batches of the journal again", self._number, len(unfinished))
        return unfinished

    def _entries(self, records: Iterable[Any]) -> list[Entry]:
        """The journal's entries that belong to this table."""
        ours, topic = self._settings.table_app_id.encode(), self._settings.topic(JOURNAL)
        return [
            decode_entry(one.value, f"{topic}, partition {self._number}, offset {one.offset}")
            for one in records
            if one.key == ours
        ]

    def _editions_of(self, marker: Marker, unfinished: Iterable[Entry]) -> tuple[Editions, str]:
        """The editions that customers are under, and the policy under which the table was made. Raises PolicyMismatch.

        A table is continued under that policy; or, once no customer needs it any more, under a policy activated since.
        """
        editions = Editions.from_wire(self._policy, marker.editions)
        own = self._policy.ref
        begun_under = {marker.policy, *(entry.policy for entry in unfinished)} - {""}
        table_policy = marker.policy or next(iter(begun_under), own)
        if begun_under <= {own}:
            return editions, table_policy
        if (
            begun_under == {table_policy}
            and not editions.needs_table_policy
            and _is_activated(editions.current, self._policy)
        ):
            return editions, table_policy
        in_force = "" if editions.current.ref == own else f", and {editions.current.ref} is in force"
        raise PolicyMismatch(
            f"the customers' table was made under policy {table_policy}{in_force}, but TIERSTREAM_POLICY is {own}. "
            f"Run {table_policy}; to change the policy of a running table, tierstream policy activate; else start a new "
            "TIERSTREAM_APP_VERSION, which replays the inputs under the new policy"
        )


async def check_nothing_is_lost(context: PartitionContext, inputs: Inputs) -> None:
    """Check that a restored table is as far as the committed offsets, and that the records after it still exist.

    Raises ChangelogError.
    """
    first = await context.consumer.earliest_offsets(*inputs.tps.values())
    for topic, tp in inputs.tps.items():
        following, committed = inputs.next_offsets[topic], context.consumer.committed(tp)
        where = f"{tp.topic}, partition {tp.partition}"
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


def _is_activated(activated: Policy, own: Policy) -> bool:
    """Whether the policy in use is the activated one: the same version with the same text."""
    return (activated.id, activated.version, activated.text) == (own.id, own.version, own.text)


def _progress(read: ReadProgress, seconds: float) -> str:
    """How far restoring is, and how long the rest takes at this rate.

    >>> _progress(ReadProgress(start=100, position=150, end=300), seconds=2.0)
    '25 % of 200 changelog records, about 6 s left'
    """
    done, total = read.position - read.start, max(1, read.end - read.start)
    left_seconds = seconds * (total - done) / done if done else 0.0
    return f"{100 * done // total} % of {total} changelog records, about {left_seconds:.0f} s left"
