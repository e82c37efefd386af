"""The Faust agents, which hand fetched records over to partitions.

    inputs -> fold: to the PartitionWorker, which folds them (flow.py)
    outputs -> serve: to the ViewFeed, which writes them to Redis, where customers are looked up

An agent takes all records that one fetch read from one partition as one event. Only offsets that the PartitionWorker or
the ViewFeed marks as done are committed, so an agent can neither lose records nor acknowledge them too early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.topics import FOLDED, OUTPUTS
from streams.worker.transport import BATCH

if TYPE_CHECKING:
    from streams.worker.faust_app import TierstreamApp

QUEUE_BATCHES = 10_000
"""More than ever wait: the transport withholds a partition long before, so Faust's own back pressure, which stops whole
agents, never applies."""


def attach(app: TierstreamApp) -> None:
    """Give the app its agents."""
    settings = app.settings
    name_of = {settings.topic(name): name for name in (*FOLDED, *OUTPUTS)}

    def batches_of(names: tuple[str, ...]) -> Any:
        topics = [settings.topic(name) for name in names]
        return app.topic(*topics, key_serializer="raw", value_serializer=BATCH, allow_empty=True, maxsize=QUEUE_BATCHES)

    @app.agent(batches_of(FOLDED), name="fold")
    async def fold(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            worker = app.partition_workers.get(message.partition)
            if worker is not None and message.generation_id == worker.generation:
                worker.offer(name_of[message.topic], event.value)

    feed = app.feed
    if feed is None:
        return

    @app.agent(batches_of(OUTPUTS), name="serve")
    async def serve(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            if message.generation_id == app.consumer_generation_id:
                feed.offer(message.tp, name_of[message.topic], event.value)
