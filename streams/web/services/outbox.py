"""Records on their way to Kafka, for a process that otherwise needs none: the broker may be away, and then comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.broker.librdkafka import quiet, writing
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.telemetry.spans import Headers, Spans

log = logging.getLogger(__name__)

MOST_WAITING: Final = 10_000
POLL_SECONDS: Final = 0.2
SECONDS_BETWEEN_COMPLAINTS: Final = 60.0
FLUSH_SECONDS: Final = 5.0


class NotTaken(RuntimeError):
    """A record that the broker did not acknowledge; the message says why, and what to do."""


class Outbox:
    """A producer with a thread that hears what became of its records. It connects once there is something to send."""

    def __init__(self, settings: Settings, patience_ms: int, spans: Spans | None = None) -> None:
        self._settings, self._patience_ms, self._spans = settings, patience_ms, spans
        self._producer: Any = None
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()
        self._complained_at = -SECONDS_BETWEEN_COMPLAINTS

    def post(self, name: str, key: str, value: bytes, told: Callable[[KafkaError | None], None]) -> None:
        """Send without waiting; `told` hears, in another thread, whether it was taken. Raises BufferError if too much waits."""
        self._started().produce(
            self._settings.topic(name), value, key.encode(), on_delivery=lambda error, _: told(error)
        )

    async def deliver(self, name: str, key: str, value: bytes) -> tuple[int, int]:
        """Send, and wait until the broker has it; returns partition and offset. Raises NotTaken."""
        topic = self._settings.topic(name)
        if self._spans is None:
            return await self._deliver(topic, key, value, [])
        with self._spans.delivering(topic) as span:
            partition, offset = await self._deliver(topic, key, value, span.headers)
            span.taken(partition, offset)
        return partition, offset

    async def _deliver(self, topic: str, key: str, value: bytes, headers: Headers) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[tuple[int, int]] = loop.create_future()

        def settle(error: KafkaError | None, where: tuple[int, int]) -> None:
            if taken.done():
                return  # whoever waited has gone
            if error is None:
                taken.set_result(where)
            else:
                taken.set_exception(NotTaken(f"the broker at {self._settings.broker} did not take it: {error.str()}"))

        def told(error: KafkaError | None, message: Message) -> None:
            where = (message.partition() or 0, message.offset() or 0)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(settle, error, where)

        try:
            self._started().produce(topic, value, key.encode(), on_delivery=told, headers=headers)
        except (BufferError, KafkaException) as error:
            raise NotTaken(f"it could not be sent: {error}") from None
        return await taken

    def close(self) -> None:
        """Wait a little for what is under way, and stop."""
        if self._producer is None:
            return
        left = self._producer.flush(FLUSH_SECONDS)
        if left:
            log.error("%d records were not taken by the broker at %s before the stop", left, self._settings.broker)
            self._producer.purge()
            self._producer.flush(1)  # so that each is told what became of it
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join(2 * POLL_SECONDS + 1)

    def _started(self) -> Any:
        if self._producer is None:
            options = writing(self._settings) | {
                "message.timeout.ms": self._patience_ms,
                "queue.buffering.max.messages": MOST_WAITING,
                "linger.ms": 5,
                "error_cb": self._complain,
            }
            self._producer = Producer(options, logger=quiet)
            self._thread = threading.Thread(target=self._listen, name="outbox", daemon=True)
            self._thread.start()
        return self._producer

    def _listen(self) -> None:
        while not self._is_closing.is_set():
            self._producer.poll(POLL_SECONDS)

    def _complain(self, error: KafkaError) -> None:
        now = time.monotonic()
        if error.code() == KafkaError._ALL_BROKERS_DOWN and now - self._complained_at > SECONDS_BETWEEN_COMPLAINTS:
            self._complained_at = now
            log.warning(
                "Kafka at %s is away; up to %d records wait for it. Pages are served; actions fail until it is back",
                self._settings.broker, MOST_WAITING,
            )  # fmt: skip
