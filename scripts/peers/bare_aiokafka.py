"""The limit for a program on aiokafka: read, decode, write the same bytes again, commit. It computes nothing."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from command_line import parser
from purchase import decode

COMMIT_SECONDS = 1.0
POLL_MS = 100
BATCH_BYTES = 1_000_000
RECORDS_A_POLL = 4_000


async def append(producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Any]) -> list[Any]:
    """Send records in the largest batches allowed; returns the futures of their acknowledgements."""
    sent = []
    batch = producer.create_batch()
    for record in records:
        while batch.append(key=record.key, value=record.value, timestamp=record.timestamp) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
    batch.close()
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


async def copy(broker: str, source: str, name: str, check: Callable[[bytes], Any] | None) -> None:
    """Copy the source until SIGTERM, and commit the offsets of acknowledged records."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=broker,
        group_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=RECORDS_A_POLL,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=broker,
        acks="all",
        enable_idempotence=True,
        max_batch_size=BATCH_BYTES,
        max_request_size=2 * BATCH_BYTES,
    )
    async with consumer, producer:
        pending: list[Any] = []
        offsets: dict[Any, int] = {}
        commit_at = time.monotonic() + COMMIT_SECONDS
        while not stopped.is_set():
            for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                if check is not None:
                    for record in records:
                        check(record.value)
                pending += await append(producer, f"{name}-copy", tp.partition, records)
                offsets[tp] = records[-1].offset + 1
            if offsets and time.monotonic() >= commit_at:
                await asyncio.gather(*pending)
                await consumer.commit(offsets)
                pending, offsets = [], {}
                commit_at = time.monotonic() + COMMIT_SECONDS
        await asyncio.gather(*pending)
        if offsets:
            await consumer.commit(offsets)


def main() -> None:
    arguments = parser(__doc__, "bare_aiokafka.py")
    arguments.add_argument("--no-decode", action="store_true", help="do not even decode")
    args = arguments.parse_args()
    uvloop.run(copy(args.broker, args.source, args.name, None if args.no_decode else decode))


if __name__ == "__main__":
    main()
