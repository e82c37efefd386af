"""How aiokafka connects, and how partitions are read with it outside a group: to restore a table, or to compare tables."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.offset import OffsetRequest

from streams.settings import Settings

CLIENT_ID: Final = "tierstream"
RESTORE_FETCH_BYTES: Final = 4 << 20
READ_COMMITTED: Final = 1
LATEST: Final = -1
"""In a request for offsets."""

Records = list[ConsumerRecord]


class ReadProgress(NamedTuple):
    """How far a partition has been read: from where, up to where, and where it ends."""

    start: int
    position: int
    end: int


def connection_options(settings: Settings) -> dict[str, Any]:
    """How aiokafka connects to the broker (and kafka-python, in tests). Raises SettingsError."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker.split(","),
        "client_id": CLIENT_ID,
        "security_protocol": settings.security_protocol,
        "ssl_context": settings.ssl_context(),
    }
    if settings.sasl_password is not None and settings.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return options


async def read_to_end(
    settings: Settings, topic: str, number: int, first: int = 0
) -> AsyncIterator[tuple[Records, ReadProgress]]:
    """The committed records of a partition from offset `first` to where it ends now, as they come, and how far it got.

    Belongs to no group. Raises KafkaError if the broker is away or refuses.
    """
    tp = TopicPartition(topic, number)
    async with _reader(settings, [tp], "read_committed") as consumer:
        end = (await consumer.end_offsets([tp]))[tp]
        start = (await consumer.beginning_offsets([tp]))[tp]
        consumer.seek(tp, max(first, start))
        while (position := await consumer.position(tp)) < end:
            found = await consumer.getmany(tp, timeout_ms=200)
            yield found.get(tp, []), ReadProgress(start, position, end)


async def read_all_to_end(settings: Settings, topic: str, numbers: Iterable[int]) -> AsyncIterator[tuple[int, Records]]:
    """The committed records of some partitions, each to where it ends now, as they come. Raises KafkaError as `read_to_end` does."""
    tps = [TopicPartition(topic, number) for number in numbers]
    async with _reader(settings, tps, "read_committed") as consumer:
        ends = await consumer.end_offsets(tps)
        for tp, start in (await consumer.beginning_offsets(tps)).items():
            consumer.seek(tp, start)
        while left := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(*left, timeout_ms=200)).items():
                yield tp.partition, records


async def read_undecided(settings: Settings, topic: str, number: int) -> Records:
    """What a partition holds of transactions that are neither committed nor aborted, and whatever came after it.

    Raises KafkaError as `read_to_end` does.
    """
    tp = TopicPartition(topic, number)
    records: Records = []
    async with _reader(settings, [tp], "read_committed") as committed:
        stable = (await committed.end_offsets([tp]))[tp]
    async with _reader(settings, [tp], "read_uncommitted") as consumer:
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, stable)
        while await consumer.position(tp) < end:
            records += (await consumer.getmany(tp, timeout_ms=200)).get(tp, [])
    return records


async def is_ended(client: AIOKafkaClient, appended: Mapping[TopicPartition, int]) -> bool:
    """Whether the transactions that these offsets belong to have ended there: a reader of committed records gets beyond them.

    False as well while a partition has no leader, or its broker does not answer.
    """
    by_leader: dict[int | None, list[TopicPartition]] = {}
    for tp in appended:
        by_leader.setdefault(client.cluster.leader_for_partition(tp), []).append(tp)
    for leader, tps in by_leader.items():
        asked = OffsetRequest(-1, READ_COMMITTED, [(tp.topic, [(tp.partition, LATEST)]) for tp in tps])
        try:
            answer = await client.send(leader, asked)
        except (KafkaError, AssertionError):
            answer = None
        found = {(topic, one[0]): one for topic, partitions in answer.topics for one in partitions} if answer else {}
        for tp in tps:
            _, error, _, stable = found.get((tp.topic, tp.partition), (tp.partition, -1, -1, -1))
            if error:
                client.force_metadata_update()
                return False
            if stable <= appended[tp]:
                return False
    return True


@contextlib.asynccontextmanager
async def _reader(
    settings: Settings, tps: Iterable[TopicPartition], isolation_level: str
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of partitions that belongs to no group."""
    consumer = AIOKafkaConsumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation_level,
        max_partition_fetch_bytes=RESTORE_FETCH_BYTES,
        **connection_options(settings),
    )
    consumer.assign(tps)
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
