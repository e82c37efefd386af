"""Writes what a batch writes, for one partition: journal, outputs, changelog.

    exactly-once    everything in one Kafka transaction, under a transactional id that belongs to the source partition:
                    a new owner of the partition fences the old one, even if the old one has not noticed
    at-least-once   journal acknowledged -> outputs acknowledged -> changelog acknowledged; before each step the worker
                    checks that it still is the partition's owner

The offsets from which to continue are part of the changelog; the group's offsets, for lag monitors, are committed
later. A producer serves one partition, from when it is taken until it is lost, and sends nothing of its buffer after
that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalOperation,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedVersionError,
)
from aiokafka.structs import RecordMetadata
from faust.types import TP

from models.bodies import EVERYBODY
from models.outputs import ANNOUNCEMENTS, CHURN_RISK, DEAD_LETTERS, PROFILES, TIER_CHANGES, Output
from streams.broker.aiokafka_patches import TRANSACTION_BACKOFF_SECONDS
from streams.broker.aiokafka_readers import connection_options, is_ended
from streams.engine.batch import DeadLetter
from streams.engine.envelope import carried_record, dead_letter_record, output_record
from streams.engine.journal import Entry
from streams.engine.merge import Record
from streams.engine.table import Marker, changelog_records
from streams.settings import CARRIED
from streams.topics import CENSUS, JOURNAL, SHADOWED, changelog_topic, shadow_changelog_topic, shadow_of
from streams.worker.context import Outgoing, PartitionContext

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_RECORD_BATCH_BYTES: Final = 1_000_000
MAX_REQUEST_BYTES: Final = 2_000_000
TRANSACTION_TIMEOUT_MS: Final = 60_000
"""The broker aborts a transaction that is open for longer."""
RETRY_BACKOFF_MS: Final = 20
END_SECONDS: Final = 1.0
"""How long the broker may take to write a transaction's end into its partitions before the end is requested again."""
MOST_BACKOFF_MS: Final = 100
CHANGELOG: Final = "changelog"
SHADOW_CHANGELOG: Final = shadow_of(CHANGELOG)
BATCH_TOPICS: Final = (CHANGELOG, JOURNAL, TIER_CHANGES, CHURN_RISK)
"""The topics that nearly every batch writes to."""
SHADOW_BATCH_TOPICS: Final = (SHADOW_CHANGELOG, shadow_of(TIER_CHANGES), shadow_of(CHURN_RISK))
"""The further topics that nearly every batch with a shadow writes to."""
ALL_TOPICS: Final = (CHANGELOG, JOURNAL, *ANNOUNCEMENTS, PROFILES, DEAD_LETTERS, CENSUS)
CLOSE_SECONDS: Final = 5.0
OWNER_POLL_SECONDS: Final = 0.1

REFUSALS: Final[dict[type[KafkaError], str]] = {
    MessageSizeTooLargeError: "Raise max.message.bytes of the topic to Kafka's default, 1048588, or more",
    TopicAuthorizationFailedError: "Give this user the right to write to the topic (docs/running.md)",
    GroupAuthorizationFailedError: "Give this user the right to read in the group (docs/running.md)",
    ClusterAuthorizationFailedError: "Give this user the right to write idempotently (docs/running.md)",
    TransactionalIdAuthorizationFailed: "Give this user the right to the transactional ids, or set "
    "TIERSTREAM_DELIVERY=at-least-once (docs/running.md)",
    AuthenticationFailedError: "Look at TIERSTREAM_SASL_USERNAME and TIERSTREAM_SASL_PASSWORD",
    UnsupportedVersionError: "Use Kafka 2.5 or newer, or set TIERSTREAM_DELIVERY=at-least-once",
}
"""Errors that a retry does not resolve, and what to do about them. Any other error is temporary, or shows again on a
retry.
"""


class Fenced(RuntimeError):
    """The partition has another owner; this worker may write nothing more for it."""


class Interrupted(RuntimeError):
    """The broker did not take a batch, for a temporary reason. Restoring shows whether the batch was committed."""


class Refused(RuntimeError):
    """The broker does not take a batch, and a retry would not help; the message says what to do."""


class Delivery:
    """Writes for one partition. Methods are called in this order: `open`; for each batch `begin` to `commit`;
    `close`.
    """

    def __init__(self, context: PartitionContext, number: int) -> None:
        self._context = context
        self.number = number
        self.generation = 0
        """The group's generation in which the partition was last assigned to this worker."""
        self.journal_position = 0
        """The journal's offset from which on all entries of later batches are."""
        self.is_exactly_once = context.settings.delivery == "exactly-once"
        self._producer: AIOKafkaProducer | None = None
        self._sent: list[asyncio.Future[RecordMetadata]] = []
        self._ending: asyncio.Task[None] | None = None
        """Waits until the last committed transaction has ended in all of its partitions."""
        self._journal_sent: asyncio.Future[RecordMetadata] | None = None

    # ------------------------------------------------------------ taking and losing a partition
    async def open(self) -> None:
        """Become the partition's only writer; the broker aborts an open transaction of an earlier owner."""
        await self.close()
        # A worker that was suspended for longer than its session must not fence the present owner.
        await self._check_ownership(by_heartbeat=True)
        settings = self._context.settings
        only = {"transactional_id": f"{settings.table_app_id}-{self.number}"} if self.is_exactly_once else {}
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            max_batch_size=MAX_RECORD_BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=settings.request_timeout_ms,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **only,
            **connection_options(settings),
        )
        await self._patiently(self._producer.start())

    async def end_undecided(self, as_committed: bool) -> None:
        """End, in all partitions, a transaction whose end the broker did not write; see restoring.py.

        The broker treats the records without an end as a part of the transactional id's next transaction, which is this
        one.
        """
        shadows = (SHADOW_CHANGELOG, *map(shadow_of, SHADOWED)) if self._context.settings.shadow is not None else ()
        await self._begin((*ALL_TOPICS, *shadows))
        for number in range(self._context.settings.partitions):
            self.producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(self._topic(CARRIED), number))
        if as_committed:
            await self._patiently(self.producer.commit_transaction())
        else:
            await self._patiently(self.producer.abort_transaction())

    async def close(self) -> None:
        """Write no more. An open transaction is left to the next owner, which has it aborted."""
        producer, self._producer, self._journal_sent = self._producer, None, None
        self._sent.clear()
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if producer is None:
            return
        # The producer is given up even if closing fails: the next owner restores what was committed.
        with contextlib.suppress(KafkaError, TimeoutError, OSError):
            await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
        for kept in (producer._sender.sender_task, getattr(producer._txn_manager, "_transaction_waiter", None)):
            _retrieve_exception(kept)

    # ------------------------------------------------------------ a batch
    async def begin(self, topics: Iterable[str] = BATCH_TOPICS) -> None:
        """Begin a batch, or other records for these topics; more topics may follow."""
        if not self.is_exactly_once:
            return
        await self.settle()
        if topics is BATCH_TOPICS and self._context.settings.shadow is not None:
            topics = (*topics, *SHADOW_BATCH_TOPICS)
        await self._begin(topics)

    async def settle(self) -> None:
        """Wait until the last committed transaction has ended in every partition."""
        if self._ending is not None:
            await self._ending

    async def _begin(self, topics: Iterable[str]) -> None:
        await self._patiently(self.producer.begin_transaction())
        # All topics in one request, while the batch is folded, instead of one request each as records are appended.
        for name in topics:
            self.producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(self._topic(name), self.number))

    async def append_journal(self, entry: Entry) -> None:
        """Write what the batch does, before any of its outputs is written."""
        sent = await self._append(
            self._topic(JOURNAL), [(self._context.settings.table_app_id.encode(), entry.encode(), [])]
        )
        self._journal_sent = sent[0]
        if not self.is_exactly_once:
            await self._await_acknowledgements(sent)
            self._record_journal_position()

    async def append_outputs(self, outputs: Mapping[str, Iterable[Outgoing]]) -> None:
        """Write announcements and dead letters, by topic."""
        sent = [one for name, records in outputs.items() for one in await self._append(self._topic(name), records)]
        await self._await_acknowledgements(sent)

    async def append_carried(self, records: Mapping[int, Iterable[Outgoing]]) -> None:
        """Write strays to the partitions, by their numbers, where their customers live."""
        topic = self._topic(CARRIED)
        sent = [one for home, found in records.items() for one in await self._append(topic, found, home)]
        await self._await_acknowledgements(sent)

    async def append_state(self, changed: Mapping[bytes, bytes], marker: Marker) -> None:
        """Write the changed customers and the batch's marker, as one RecordBatch: appended whole or not at all."""
        await self._append_table(CHANGELOG, changelog_records(changed, marker))

    async def append_shadow(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the changed customers and the marker of the shadow, before the table's, so a table is never ahead of
        its shadow.
        """
        await self._append_table(SHADOW_CHANGELOG, records)

    async def _append_table(self, name: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        sent = await self._append(self._topic(name), ((key, value, []) for key, value in records))
        if len(sent) > 1 and not self.is_exactly_once:
            raise Refused(f"a changelog batch of partition {self.number} is larger than {MAX_RECORD_BATCH_BYTES} bytes")
        await self._await_acknowledgements(sent)

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """Make the batch final, with the last offset folded of each input topic.

        The marker in the changelog has the offsets from which to continue. The group's offsets are committed now and
        then.
        """
        if self.is_exactly_once:
            sent, self._sent = self._sent, []
            appended = await self._patiently(asyncio.gather(*sent))
            await self._patiently(self.producer.commit_transaction())
            self._record_journal_position()
            self._ending = asyncio.create_task(
                self._ensure_ended({one.topic_partition: one.offset for one in appended})
            )
            self._ending.add_done_callback(_retrieve_exception)
        for name, offset in offsets.items():
            self._context.consumer.mark_done(TP(self._topic(name), self.number), offset + 1)

    # ------------------------------------------------------------ profiles
    async def publish(self, name: str, records: Iterable[Outgoing]) -> None:
        """Write records that belong to no batch, and wait until they are acknowledged."""
        await self.begin([name])
        await self._await_acknowledgements(await self._append(self._topic(name), records))
        await self.commit({})

    async def publish_everywhere(self, name: str, value: bytes) -> None:
        """Write the same record, keyed by `EVERYBODY`, to every partition of a topic, and wait until it is
        acknowledged.
        """
        topic, partitions = self._topic(name), range(self._context.settings.partitions)
        await self.begin([])
        await self._check_ownership(by_heartbeat=not self.is_exactly_once)
        for number in partitions:
            batch = self.producer.create_batch()
            batch.append(key=EVERYBODY.encode(), value=value, timestamp=None)
            await self._await_acknowledgements([await self._send(batch, topic, number)])
        await self.commit({})

    # ------------------------------------------------------------ internals
    async def _ensure_ended(self, appended: Mapping[TopicPartition, int]) -> None:
        """Wait until a committed transaction has ended in every partition; `appended` has an offset of it in each.

        A broker that stops may write no end into some of them (KAFKA-20734), and then treats the records there as a
        part of the next transaction: if that one were aborted, committed records would be aborted with it. So no
        transaction begins before the last one has ended everywhere.
        """
        pause_seconds = waited_seconds = TRANSACTION_BACKOFF_SECONDS
        while not await is_ended(self.producer.client, appended):
            await asyncio.sleep(pause_seconds)
            waited_seconds += pause_seconds
            pause_seconds = min(1.5 * pause_seconds, MOST_BACKOFF_MS / 1000)
            if waited_seconds > END_SECONDS:
                await self.end_undecided(as_committed=True)
                message = "partition %d: the broker left a batch without an end; it is committed now"
                log.warning(message, self.number, extra={"partition": self.number})
                waited_seconds = 0.0

    @property
    def producer(self) -> AIOKafkaProducer:
        """The open producer."""
        if self._producer is None:
            raise Fenced("the producer was closed")
        return self._producer

    def _topic(self, name: str) -> str:
        settings = self._context.settings
        if name in (CHANGELOG, SHADOW_CHANGELOG):
            return changelog_topic(settings) if name == CHANGELOG else shadow_changelog_topic(settings)
        return settings.topic(name)

    async def _append(
        self, topic: str, records: Iterable[Outgoing], number: int | None = None
    ) -> list[asyncio.Future[RecordMetadata]]:
        """Append records, to our partition or to that of another number, in as few RecordBatches as possible; returns a
        future for the acknowledgement of each.
        """
        await self._check_ownership(by_heartbeat=not self.is_exactly_once)
        producer = self.producer
        sent = []
        batch = producer.create_batch()
        for key, value, headers in records:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await self._send(batch, topic, number))
                batch = producer.create_batch()
                if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    raise Refused(f"a record of {len(value or b'')} bytes for {topic} is larger than a batch")
        if batch.record_count():
            sent.append(await self._send(batch, topic, number))
        return sent

    async def _send(self, batch: Any, topic: str, number: int | None = None) -> asyncio.Future[RecordMetadata]:
        batch.close()
        sending = self.producer.send_batch(batch, topic, partition=self.number if number is None else number)
        sent: asyncio.Future[RecordMetadata] = await self._patiently(sending)
        sent.add_done_callback(_retrieve_exception)
        return sent

    async def _await_acknowledgements(self, sent: list[asyncio.Future[RecordMetadata]]) -> None:
        """Wait for acknowledgements; in a transaction they are awaited at its end."""
        if self.is_exactly_once:
            self._sent.extend(sent)
        else:
            await self._patiently(asyncio.gather(*sent))

    def _record_journal_position(self) -> None:
        if self._journal_sent is not None:
            self.journal_position = self._journal_sent.result().offset + 1
            self._journal_sent = None

    async def _check_ownership(self, by_heartbeat: bool) -> None:
        """Check by the group's generation, and by our heartbeats if asked, that the partition is still ours.

        Without transactions only the group knows the owner. Raises Fenced if the partition was assigned to another
        worker.
        """
        while self.generation == self._context.generation:
            if not by_heartbeat or self._context.consumer.is_member():
                return
            # This process was suspended, or the broker was away: the partition may have another owner, or not.
            await asyncio.sleep(OWNER_POLL_SECONDS)
        raise Fenced(f"generation {self.generation} of the group is over")

    async def _patiently(self, work: Awaitable[T]) -> T:
        """Await, and translate the client's errors. Raises Fenced, Interrupted or Refused."""
        try:
            return await work
        except (KafkaError, OSError, AssertionError, IllegalOperation) as error:
            # aiokafka may abandon a transaction in the background; it keeps the reason, and later only fails an assertion.
            raise translate_error(self._why_broken_off() or error, self.number) from error

    def _why_broken_off(self) -> BaseException | None:
        manager = self._producer._txn_manager if self._producer is not None else None
        waiter = getattr(manager, "_transaction_waiter", None)
        return waiter.exception() if waiter is not None and waiter.done() and not waiter.cancelled() else None


def by_topic(outputs: Iterable[Output], dead_letters: Sequence[DeadLetter]) -> dict[str, list[Outgoing]]:
    """Announcements and dead letters as records, as `append_outputs` takes them."""
    found: dict[str, list[Outgoing]] = {}
    for output in outputs:
        found.setdefault(output.topic, []).append(output_record(output))
    if dead_letters:
        found[DEAD_LETTERS] = [dead_letter_record(letter) for letter in dead_letters]
    return found


def by_home(strays: Iterable[Record]) -> dict[int, list[Outgoing]]:
    """Strays as records, by the partitions where their customers live, as `append_carried` takes them."""
    found: dict[int, list[Outgoing]] = {}
    for stray in strays:
        found.setdefault(stray.home, []).append(carried_record(stray))
    return found


def translate_error(error: BaseException, number: int) -> Fenced | Interrupted | Refused:
    """What an error of the client means for a partition."""
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, ProducerFenced | InvalidProducerEpoch):
        return Fenced(message)
    if hint := next((hint for kind, hint in REFUSALS.items() if isinstance(error, kind)), None):
        return Refused(f"the broker refused what partition {number} needs: {message}. {hint}")
    return Interrupted(message)


def _retrieve_exception(done: asyncio.Future[Any] | None) -> None:
    """Retrieve the exception of a future that may never be awaited: otherwise the event loop logs a complaint."""
    if done is not None and done.done() and not done.cancelled():
        done.exception()
