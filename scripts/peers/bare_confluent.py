"""The limit for a program on confluent-kafka: read, decode, write the same bytes again, commit. It computes nothing."""

import signal
import time
from collections import defaultdict
from collections.abc import Callable
from threading import Event
from typing import Any

from command_line import parser
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from purchase import decode

COMMIT_SECONDS = 1.0
POLL_SECONDS = 0.1
MESSAGES_A_POLL = 4_000


class Copy:
    """Copies a topic, and commits the offsets of records only after the broker has acknowledged their copies."""

    def __init__(self, broker: str, source: str, name: str, check: Callable[[bytes], Any] | None) -> None:
        self._target = f"{name}-copy"
        self._check = check
        self._offsets: dict[tuple[str, int], int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": name,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._producer = Producer(
            {
                "bootstrap.servers": broker,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 50,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._consumer.subscribe([source])

    def run(self, stopped: Event) -> None:
        """Copy until `stopped` is set."""
        commit_at = time.monotonic() + COMMIT_SECONDS
        while not stopped.is_set():
            self._copy(self._consumer.consume(MESSAGES_A_POLL, POLL_SECONDS))
            if time.monotonic() >= commit_at:
                self._commit()
                commit_at = time.monotonic() + COMMIT_SECONDS
        self._commit()
        self._consumer.close()

    def _copy(self, messages: list[Message]) -> None:
        batches = defaultdict(list)
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            value = message.value()
            if self._check is not None:
                self._check(value)
            batches[message.partition()].append({"key": message.key(), "value": value})
            self._offsets[message.topic(), message.partition()] = message.offset() + 1
        for partition, batch in batches.items():
            queued = self._producer.produce_batch(self._target, batch, partition, on_delivery=_acknowledged)
            if queued < len(batch):
                raise BufferError(f"{len(batch) - queued} messages found no room in the producer's queue")
        self._producer.poll(0)

    def _commit(self) -> None:
        if not self._offsets:
            return
        self._producer.flush()
        offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in self._offsets.items()]
        self._consumer.commit(offsets=offsets, asynchronous=False)
        self._offsets.clear()


def _acknowledged(error: Any, _message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


def main() -> None:
    arguments = parser(__doc__, "bare_confluent.py")
    arguments.add_argument("--no-decode", action="store_true", help="do not even decode")
    args = arguments.parse_args()
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    Copy(args.broker, args.source, args.name, None if args.no_decode else decode).run(stopped)


if __name__ == "__main__":
    main()
