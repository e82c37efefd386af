"""The agents: the whole flow on one screen.

    inputs -> fold: decode, merge by time, fold into customers -> tier-changes, churn-risk, profiles, dead-letters
    outputs -> serve: into Redis, where everybody looks customers up

An agent takes a batch (all records that one fetch brought of one partition) and hands it to whoever works on that
partition. What is committed is what that one reports as done, so an agent can neither lose nor wrongly ack anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.topics import INPUTS, OUTPUTS
from streams.worker.transport import BATCH

if TYPE_CHECKING:
    from streams.worker.faust_app import TierstreamApp

QUEUE_BATCHES = 10_000
"""More than ever wait: the transport is told to withhold a partition long before, so Faust's own back pressure, which
stops whole agents, never sets in."""


def attach(app: TierstreamApp) -> None:
    """Give the app its agents."""
    settings = app.settings
    name_of = {settings.topic(name): name for name in (*INPUTS, *OUTPUTS)}

    def batches_of(names: tuple[str, ...]) -> Any:
        topics = [settings.topic(name) for name in names]
        return app.topic(*topics, key_serializer="raw", value_serializer=BATCH, allow_empty=True, maxsize=QUEUE_BATCHES)

    @app.agent(batches_of(INPUTS), name="fold")
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
