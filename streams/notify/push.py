"""Alerts to a webhook: from a topic, of each customer in order, as far as they are delivered or given up.

Alerts of different customers are on their way at the same time. The group commits up to the first that is still in hand, so a
process that ends anyhow sends some again and leaves none out; a receiver passes over ids that it had. What is given up goes to
the topic `undelivered`, as it was, with headers that say why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Collection
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from msgspec import Struct

from streams.broker.group_reader import PushError, Reader, Record
from streams.broker.keyed_queues import STOP_SECONDS, Lanes
from streams.broker.librdkafka import LARGEST_BYTES, quiet, writing
from streams.engine.envelope import Headers
from streams.notify.webhook import GivenUp, Webhook
from streams.settings import Settings
from streams.topics import UNDELIVERED

log = logging.getLogger(__name__)

CHANGES: Final = ("opened", "updated", "woke", "breached")
"""What is sent if nothing else is asked for."""
TELL_SECONDS: Final = 10.0


class _After(Struct, gc=False):
    state: str


class Announced(Struct, gc=False):
    """What decides about a record of the topic `alerts`."""

    id: str
    customer_id: str
    seq: int
    change: str
    after: _After


_announced: Final = msgspec.json.Decoder(Announced)


def announced(value: bytes) -> Announced | None:
    """What a record says; None if it is no alert's."""
    try:
        return _announced.decode(value)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


class Undelivered:
    """The topic of what was given up."""

    def __init__(self, settings: Settings, group: str, webhook: Webhook) -> None:
        self.topic = settings.topic(UNDELIVERED)
        self._group = group
        self._webhook = webhook
        self._producer = Producer(writing(settings) | {"message.max.bytes": LARGEST_BYTES}, logger=quiet)

    async def put(self, record: Record, given_up: GivenUp) -> None:
        """Set a record aside. Raises PushError: then it is not committed either."""
        attempts = given_up.attempts + int(record.headers.get("attempts", "0"))
        told = {
            "group": self._group, "reason": given_up.reason, "status": given_up.status, "attempts": attempts,
            "url": self._webhook.name, "detail": given_up.detail,
        }  # fmt: skip
        headers: Headers = [(name, str(value).encode()) for name, value in told.items() if value is not None]
        error = await asyncio.to_thread(self._produce, record, headers)
        if error is not None:
            raise PushError(f"{self.topic} does not take what could not be delivered: {error.str()}")

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
    """Delivers or gives up, and counts."""

    def __init__(self, webhook: Webhook, undelivered: Undelivered) -> None:
        self._webhook = webhook
        self._undelivered = undelivered
        self.counts: Counter[str] = Counter()

    async def send(self, record: Record, record_id: str) -> None:
        """Returns once a record is delivered, or set aside."""
        given_up = await self._webhook.deliver(record_id, record.value)
        if given_up is None:
            self.counts["delivered"] += 1
            return
        await self._undelivered.put(record, given_up)
        self.counts["given up"] += 1
        log.warning("given up, %s after %d attempts: %s", given_up.reason, given_up.attempts, given_up.detail)

    async def send_chosen(self, changes: Collection[str], record: Record) -> None:
        """Send a record of the topic `alerts` if its change is one of these."""
        found = announced(record.value)
        if found is None or found.change not in changes:
            self.counts["passed over"] += 1
        else:
            await self.send(record, found.id)

    async def send_again(self, group: str, record: Record) -> None:
        """Send a record of the topic `undelivered`, if it is from this webhook."""
        found = announced(record.value)
        if found is None or record.headers.get("group") != group:
            self.counts["passed over"] += 1
        else:
            await self.send(record, found.id)


async def run(reader: Reader, lanes: Lanes, sender: Sender, stop: asyncio.Event, *others: Awaitable[None]) -> None:
    """Push until told to stop, until the reader is done, or until something fails, which is raised."""
    working = asyncio.ensure_future(lanes.run())
    tasks = [asyncio.ensure_future(one) for one in (stop.wait(), reader.run(), working, _tell(sender, lanes), *others)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    lanes.stop()
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


async def _tell(sender: Sender, lanes: Lanes) -> None:
    told: Counter[str] = Counter()
    while True:
        await asyncio.sleep(TELL_SECONDS)
        if sender.counts != told or lanes.in_hand:
            told = Counter(sender.counts)
            log.info("%s; %d in hand", in_words(told), lanes.in_hand)


def in_words(counts: Counter[str]) -> str:
    """What was done.

    >>> in_words(Counter({"delivered": 1200}))
    '1,200 delivered, 0 given up, 0 passed over'
    """
    return ", ".join(f"{counts[name]:,} {name}" for name in ("delivered", "given up", "passed over"))
