"""Becoming a partition's owner: its table out of the changelog, and what the journal says was begun after that."""

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
from streams.engine.table import START_OVER, ChangelogError, Marker, Restoring, Table
from streams.topics import JOURNAL, changelog_topic, shadow_changelog_topic
from streams.worker.context import PartitionContext, PartitionDelivery
from streams.worker.delivery import Interrupted
from streams.worker.inputs import Inputs
from streams.worker.shadow import RestoringShadow, Shadow

log = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 2.0


class PolicyMismatch(RuntimeError):
    """A table that was made under another policy; the message says what to do."""


class RestoredPartition(NamedTuple):
    """A partition as its changelog and its journal have it."""

    table: Table
    begun: deque[Entry]
    """What the journal has beyond the table: batches that are to be folded again."""
    table_policy: str
    """The policy under which the table was made."""


class PartitionRestorer:
    """Restores one partition for its new owner, who can write by then."""

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
        """The partition as it was committed; `on_progress` hears how far that is.

        Raises ChangelogError, JournalError or PolicyMismatch for what can't be gone on with, Interrupted where something had to be
        undone first, KafkaError.
        """
        topic, started = changelog_topic(self._settings), time.monotonic()
        restoring, logged_at = Restoring(topic, self._number), started
        async for records, read in read_to_end(self._settings, topic, self._number):
            restoring.feed(records)
            progress = _progress(read, time.monotonic() - started)
            on_progress(progress)
            if time.monotonic() - logged_at > PROGRESS_SECONDS:
                logged_at = time.monotonic()
                self._log.info("partition %d: restoring, %s", self._number, progress)
        if self._delivery.is_exactly_once:
            await self._decide_what_is_undecided(restoring)
        restored = restoring.finish()
        begun = await self._read_journal(restored.marker)
        editions, table_policy = self._editions_of(restored.marker, begun)
        table = Table(restored, editions, self._settings.clock == "event")
        if self._shadow is not None:
            await self._restore_shadow(self._shadow, table)
        return RestoredPartition(table, begun, table_policy)

    async def _restore_shadow(self, shadow: Shadow, table: Table) -> None:
        """What is held under the shadow policy, if that goes as far as the table."""
        topic = shadow_changelog_topic(self._settings)
        restoring = RestoringShadow(topic, self._number)
        async for records, _ in read_to_end(self._settings, topic, self._number):
            restoring.feed(records)
        shadow.restored(restoring, table, self._policy)

    async def _decide_what_is_undecided(self, restoring: Restoring) -> None:
        """Restore, or undo, what is left of a transaction that neither has been committed nor can be any more.

        Whoever takes over the transactional id finds everything decided. But a partition that has no leader at that moment,
        as when the only broker stops, the broker takes for a deleted one and leaves without an end (KAFKA-20734), so that
        nobody can read on there. Of a batch the marker is appended last, and committed is only what was acknowledged: one
        whose marker is there was committed, or may as well be; one without was not.
        """
        settings = self._settings
        undecided = await read_undecided(settings, changelog_topic(settings), self._number)
        begun = self._entries(await read_undecided(settings, settings.topic(JOURNAL), self._number))
        of_shadow: Any = ()
        if self._shadow is not None:
            of_shadow = await read_undecided(settings, shadow_changelog_topic(settings), self._number)
        if not undecided and not begun and not of_shadow:
            return
        restoring.feed(undecided)
        # A shadow's alone is undone: it begins anew then.
        is_whole = bool(undecided or begun) and not restoring.has_part_of_a_batch
        is_whole = is_whole and all(entry.batch <= restoring.marker.batch for entry in begun)
        end = "committed" if is_whole else "aborted"
        self._log.warning("partition %d: the broker left a batch without an end; it is %s now", self._number, end)
        await self._delivery.end_undecided(as_committed=is_whole)
        if not is_whole:
            raise Interrupted("what was left of a batch had to be undone")

    async def _read_journal(self, marker: Marker) -> deque[Entry]:
        """What was begun and not finished."""
        topic = self._settings.topic(JOURNAL)
        found, position = [], marker.journal
        async for records, read in read_to_end(self._settings, topic, self._number, marker.journal):
            position = read.end
            found += self._entries(records)
        begun = deque(one_entry_a_batch(found, after=marker.batch))
        self._delivery.journal_position = position
        if begun:
            self._log.info("partition %d: folding %d batches of the journal again", self._number, len(begun))
        return begun

    def _entries(self, records: Iterable[Any]) -> list[Entry]:
        """The journal's entries that are this table's."""
        ours, topic = self._settings.table_app_id.encode(), self._settings.topic(JOURNAL)
        return [
            decode_entry(one.value, f"{topic}, partition {self._number}, offset {one.offset}")
            for one in records
            if one.key == ours
        ]

    def _editions_of(self, marker: Marker, begun: Iterable[Entry]) -> tuple[Editions, str]:
        """The editions that customers are under, and the policy under which the table was made.

        A table goes on under that policy; or, once nobody needs it any more, under one that was activated since.
        """
        editions = Editions.from_wire(self._policy, marker.editions)
        own = self._policy.ref
        begun_under = {marker.policy, *(entry.policy for entry in begun)} - {""}
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


async def check_that_nothing_is_lost(context: PartitionContext, inputs: Inputs) -> None:
    """Check that a restored table goes as far as the committed positions say, and that what comes after it still exists.

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
    """Whether a policy is the one that was activated: the same version, of the same text."""
    return (activated.id, activated.version, activated.text) == (own.id, own.version, own.text)


def _progress(read: ReadProgress, seconds: float) -> str:
    """How far a restoration is, and how long the rest takes at this rate.

    >>> _progress(ReadProgress(start=100, position=150, end=300), seconds=2.0)
    '25 % of 200 changelog records, about 6 s left'
    """
    done, total = read.position - read.start, max(1, read.end - read.start)
    left_seconds = seconds * (total - done) / done if done else 0.0
    return f"{100 * done // total} % of {total} changelog records, about {left_seconds:.0f} s left"
