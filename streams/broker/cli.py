"""`tierstream topics create`."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.broker.topic_creation import TopicsError, create_topics
from streams.settings import SettingsError, load_settings
from streams.terminal import BrokerOption, example, fail, refuse, say
from streams.topics import topics_of


@example("TIERSTREAM_PARTITIONS=8 tierstream topics create --broker kafka:9092")
def create(
    broker: BrokerOption = None,
    partitions: Annotated[int | None, typer.Option(help="Partitions of every topic.")] = None,
) -> None:
    """Create every topic that is missing.

    All have the same number of partitions. It is harmless to repeat.
    """
    try:
        settings = load_settings(broker=broker, partitions=partitions)
        created = create_topics(settings, topics_of(settings))
    except SettingsError as error:
        raise refuse(str(error)) from None
    except TopicsError as error:
        raise fail(str(error)) from None
    for topic in topics_of(settings):
        say(f"{'created' if topic.name in created else 'exists '}  {topic.name}")
