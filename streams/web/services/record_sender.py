"""Sends records to Kafka from the console, which otherwise works without Kafka: the broker may be unreachable for a
while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.broker.librdkafka import producer_options, silent_logger
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.telemetry.spans import Headers, Spans

log = logging.getLogger(__name__)

MOST_WAITING: Final = 10_000
POLL_SECONDS: Final = 0.2
SECONDS_BETWEEN_WARNINGS: Final = 60.0
FLUSH_SECONDS: Final = 5.0


class NotAcknowledged(RuntimeError):
    """A record that the broker did not acknowledge; the message says why."""


class RecordSender:
    """A producer with a thread for its delivery reports. It connects when the first record is sent."""

    def __init__(self, settings: Settings, patience_ms: int, spans: Spans | None = None) -> None:
        self._settings, self._patience_ms, self._spans = settings, patience_ms, spans
        self._producer: Any = None
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()
        self._warned_at = -SECONDS_BETWEEN_WARNINGS

    def post(self, name: str, key: str, value: bytes, report: Callable[[KafkaError | None], None]) -> None:
        """Send without waiting. `report` is called in another thread, with an error or None. Raises BufferError if too
        many records wait.
        """
        self._running_producer().produce(
            self._settings.topic(name), value, key.encode(), on_delivery=lambda error, _: report(error)
        )

    async def deliver(self, name: str, key: str, value: bytes) -> tuple[int, int]:
        """Send, and wait until the broker has acknowledged it; returns partition and offset. Raises NotAcknowledged."""
        topic = self._settings.topic(name)
        if self._spans is None:
            return await self._deliver(topic, key, value, [])
        with self._spans.delivery(topic) as span:
            partition, offset = await self._deliver(topic, key, value, span.headers)
            span.set_place(partition, offset)
        return partition, offset

    async def _deliver(self, topic: str, key: str, value: bytes, headers: Headers) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[tuple[int, int]] = loop.create_future()

        def settle(error: KafkaError | None, where: tuple[int, int]) -> None:
            if taken.done():
                return  # the caller was cancelled
            if error is None:
                taken.set_result(where)
            else:
                taken.set_exception(
                    NotAcknowledged(f"the broker at {self._settings.broker} did not acknowledge it: {error.str()}")
                )

        def report(error: KafkaError | None, message: Message) -> None:
            where = (message.partition() or 0, message.offset() or 0)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the caller
                loop.call_soon_threadsafe(settle, error, where)

        try:
            self._running_producer().produce(topic, value, key.encode(), on_delivery=report, headers=headers)
        except (BufferError, KafkaException) as error:
            raise NotAcknowledged(f"it could not be sent: {error}") from None
        return await taken

    def close(self) -> None:
        """Wait a few seconds for unacknowledged records, then stop."""
        if self._producer is None:
            return
        left = self._producer.flush(FLUSH_SECONDS)
        if left:
            log.error(
                "%d records were not acknowledged by the broker at %s before the console stopped",
                left,
                self._settings.broker,
            )
            self._producer.purge()
            self._producer.flush(1)  # so that each is reported as failed
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join(2 * POLL_SECONDS + 1)

    def _running_producer(self) -> Any:
        if self._producer is None:
            options = producer_options(self._settings) | {
                "message.timeout.ms": self._patience_ms,
                "queue.buffering.max.messages": MOST_WAITING,
                "linger.ms": 5,
                "error_cb": self._warn,
            }
            self._producer = Producer(options, logger=silent_logger)
            self._thread = threading.Thread(target=self._listen, name="record-sender", daemon=True)
            self._thread.start()
        return self._producer

    def _listen(self) -> None:
        while not self._is_closing.is_set():
            self._producer.poll(POLL_SECONDS)

    def _warn(self, error: KafkaError) -> None:
        now = time.monotonic()
        if error.code() == KafkaError._ALL_BROKERS_DOWN and now - self._warned_at > SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            log.warning(
                "Kafka at %s can't be reached; up to %d records wait for it. Pages are served; actions fail until Kafka answers again",
                self._settings.broker, MOST_WAITING,
            )  # fmt: skip
