"""The oldest Kafka that transactions are made for, recognised by what a broker says that it understands."""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest

from streams.broker.aiokafka_readers import connection_options
from streams.settings import Settings

OLDEST_KAFKA: Final = "2.5"
"""The first version that fences a transactional producer by its epoch, and lets it go on after an aborted transaction."""
INIT_PRODUCER_ID: Final = (22, 3)
"""A request, and the version of it, that came with OLDEST_KAFKA (KIP-360)."""
PATIENCE_SECONDS: Final = 10.0


def why_too_old(settings: Settings) -> str | None:
    """Why the broker is too old for the delivery of these settings, in one sentence; None if it is not.

    Brokers do not say their version, but which versions of each request they understand. Raises KafkaError if none answers.
    """
    if settings.delivery != "exactly-once":
        return None
    # The loop is nobody else's: those of the process stay as they are.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        understood = runner.run(_newest_understood(settings))
    if understood >= INIT_PRODUCER_ID[1]:
        return None
    return f"the broker at {settings.broker} is older than Kafka {OLDEST_KAFKA}, or lacks its transactions, which exactly-once needs"


async def _newest_understood(settings: Settings) -> int:
    """The newest version of INIT_PRODUCER_ID that a broker understands; -1 if none."""
    client = AIOKafkaClient(request_timeout_ms=round(PATIENCE_SECONDS * 1000), **connection_options(settings))
    try:
        await client.bootstrap()
        node = client.get_random_node()
        if node is None:
            raise KafkaConnectionError(f"{settings.broker} names no broker")
        answer = await client.send(node, ApiVersionRequest())
    finally:
        await client.close()
    return next((newest for request, _, newest in answer.api_versions if request == INIT_PRODUCER_ID[0]), -1)
