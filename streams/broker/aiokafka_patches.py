"""What we change in aiokafka for the whole process, and the one version of it that the changes are for.

Importing this changes nothing: `install` does, and only `worker.app.create_app` calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import aiokafka
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import sender

MADE_FOR: Final = ("0.14.",)
"""The beginnings of the versions that this was written and tested for; pyproject.toml bounds the requirement by them."""
TRANSACTION_BACKOFF_SECONDS: Final = 0.003
"""A transaction that begins right after another has to wait until the markers of that one's end are in its partitions, which
takes the broker about as long. aiokafka would wait for 20 ms.
"""

_send: Final = AIOKafkaConnection.send


class UnknownVersion(RuntimeError):
    """A version of a library that the patches were not made for; the message says which, and what to do."""


class RecordsAsRead(fetcher.PartitionRecords):  # type: ignore[misc]
    """What a fetch brought, as the protocol's reader gives it: it has what we ask of a `ConsumerRecord`, but none is made of it.

    Making one takes longer than reading the record.
    """

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        return record


def send_or_report_closed(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """Send a request. Raises KafkaConnectionError if the connection is closed, on whichever side it was.

    uvloop raises RuntimeError there, which aiokafka does not expect: the task that refreshes a client's metadata died of it,
    and the client waited for metadata for ever.
    """
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"{connection} is closed: {error}") from error


def record_heartbeats(consumer: AIOKafkaConsumer, record: Callable[[float], None]) -> None:
    """Have `record` called with the time at which each heartbeat that the coordinator answered was sent (monotonic seconds).

    This changes one started member of a group, not aiokafka.
    """
    coordinator = consumer._coordinator
    beat = coordinator._do_heartbeat

    async def beat_and_record() -> bool:
        sent_at = time.monotonic()
        is_answered: bool = await beat()
        if is_answered:
            record(sent_at)
        return is_answered

    coordinator._do_heartbeat = beat_and_record


def install() -> None:
    """Patch aiokafka; harmless to repeat. Raises UnknownVersion for a version that the patches were not made for."""
    if not aiokafka.__version__.startswith(MADE_FOR):
        raise UnknownVersion(
            f"aiokafka {aiokafka.__version__} is installed, but this worker is made for {' or '.join(one + 'x' for one in MADE_FOR)}: "
            f"pip install 'aiokafka=={MADE_FOR[-1]}*'"
        )
    fetcher.PartitionRecords = RecordsAsRead
    AIOKafkaConnection.send = send_or_report_closed
    sender.BACKOFF_OVERRIDE = TRANSACTION_BACKOFF_SECONDS
