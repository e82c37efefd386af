"""Sends alerts from a topic to a webhook, each customer's in order, until each is delivered or given up.

Alerts of different customers are sent at the same time. The group commits up to the first alert that is still being
sent. So a process that ends at any moment sends some alerts again and leaves none out; receivers skip ids that they had
before. An alert that is given up goes to the topic `undelivered` as it was, with headers that say why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Collection
from typing import Final, Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from msgspec import Struct

from streams.broker.group_reader import GroupReaderError, Reader, Record
from streams.broker.keyed_queues import STOP_SECONDS, KeyedQueues
from streams.broker.librdkafka import LARGEST_BYTES, producer_options, silent_logger
from streams.engine.envelope import Headers
from streams.notify.webhook import GivenUp, Webhook
from streams.settings import Settings
from streams.topics import UNDELIVERED

log = logging.getLogger(__name__)

CHANGES: Final = ("opened", "updated", "woke", "breached")
"""The changes that are sent unless others are chosen."""
LOG_SECONDS: Final = 10.0


class _After(Struct, gc=False):
    state: str


class AlertChange(Struct, gc=False):
    """The fields of a record of the topic `alerts` that decide whether it is sent."""

    id: str
    customer_id: str
    seq: int
    change: str
    after: _After


_decoder: Final = msgspec.json.Decoder(AlertChange)


def parse_alert(value: bytes) -> AlertChange | None:
    """The change that a record announces; None if it is not a record of an alert."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


class Receiver(Protocol):
    """Takes records, as `Webhook` does."""

    async def deliver(self, record_id: str, body: bytes) -> GivenUp | None:
        """Returns None once the record is delivered, else why it was given up."""


class GivenUpRecords(Protocol):
    """Keeps records that were given up, as `Undelivered` does."""

    async def put(self, record: Record, given_up: GivenUp) -> None:
        """Keep a record; returns once it is stored."""


class Undelivered:
    """The topic of alerts that were given up."""

    def __init__(self, settings: Settings, group: str, webhook: Webhook) -> None:
        self.topic = settings.topic(UNDELIVERED)
        self._group = group
        self._webhook = webhook
        self._producer = Producer(
            producer_options(settings) | {"message.max.bytes": LARGEST_BYTES}, logger=silent_logger
        )

    async def put(self, record: Record, given_up: GivenUp) -> None:
        """Write a record that was given up. Raises GroupReaderError; then its offset is not committed either."""
        attempts = given_up.attempts + int(record.headers.get("attempts", "0"))
        values = {
            "group": self._group, "reason": given_up.reason, "status": given_up.status, "attempts": attempts,
            "url": self._webhook.name, "detail": given_up.detail,
        }  # fmt: skip
        headers: Headers = [(name, str(value).encode()) for name, value in values.items() if value is not None]
        error = await asyncio.to_thread(self._produce, record, headers)
        if error is not None:
            raise GroupReaderError(f"{self.topic} does not take what could not be delivered: {error.str()}")

    def _produce(self, record: Record, headers: Headers) -> KafkaError | None:
        results: list[KafkaError | None] = []
        try:
            self._producer.produce(
                self.topic,
                record.value,
                record.key,
                headers=headers,
                on_delivery=lambda error, _: results.append(error),
            )
        except KafkaException as error:
            found: KafkaError = error.args[0]
            return found
        self._producer.flush()
        return results[0] if results else None


class Sender:
    """Delivers records to a webhook or gives them up, and counts both."""

    def __init__(self, webhook: Receiver, undelivered: GivenUpRecords) -> None:
        self._webhook = webhook
        self._undelivered = undelivered
        self.counts: Counter[str] = Counter()

    async def send(self, record: Record, record_id: str) -> None:
        """Send a record; returns once it is delivered, or given up and written to the topic `undelivered`."""
        given_up = await self._webhook.deliver(record_id, record.value)
        if given_up is None:
            self.counts["delivered"] += 1
            return
        await self._undelivered.put(record, given_up)
        self.counts["given up"] += 1
        log.warning("given up, %s after %d attempts: %s", given_up.reason, given_up.attempts, given_up.detail)

    async def send_chosen(self, changes: Collection[str], record: Record) -> None:
        """Send a record of the topic `alerts` if its change is one of these."""
        found = parse_alert(record.value)
        if found is None or found.change not in changes:
            self.counts["passed over"] += 1
        else:
            await self.send(record, found.id)

    async def send_again(self, group: str, record: Record) -> None:
        """Send a record of the topic `undelivered`, if it is from this webhook."""
        found = parse_alert(record.value)
        if found is None or record.headers.get("group") != group:
            self.counts["passed over"] += 1
        else:
            await self.send(record, found.id)


async def run(
    reader: Reader, queues: KeyedQueues, sender: Sender, stop: asyncio.Event, *others: Awaitable[None]
) -> None:
    """Push until `stop` is set, until the reader is done, or until something fails; the failure is raised."""
    working = asyncio.ensure_future(queues.run())
    tasks = [
        asyncio.ensure_future(one)
        for one in (stop.wait(), reader.run(), working, _log_progress(sender, queues), *others)
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    queues.stop()
    for task in set(tasks) - {working}:
        task.cancel()
    await asyncio.wait({working}, timeout=STOP_SECONDS)
    working.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(reader.close)
    for task in done:
        error = task.exception()
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0]
        if error is not None:
            raise error


async def _log_progress(sender: Sender, queues: KeyedQueues) -> None:
    logged: Counter[str] = Counter()
    while True:
        await asyncio.sleep(LOG_SECONDS)
        if sender.counts != logged or queues.unfinished:
            logged = Counter(sender.counts)
            log.info("%s; %d in progress", counts_in_words(logged), queues.unfinished)


def counts_in_words(counts: Counter[str]) -> str:
    """The counts in a sentence.

    >>> counts_in_words(Counter({"delivered": 1200}))
    '1,200 delivered, 0 given up, 0 passed over'
    """
    return ", ".join(f"{counts[name]:,} {name}" for name in ("delivered", "given up", "passed over"))
