"""Parses the topics to ingest and their mappings, as in `shop.orders=orders.toml`."""

from __future__ import annotations

from collections.abc import Iterable

from streams.ingest.record_mapping import Source
from streams.settings import Settings, SettingsError
from streams.sources.mapping import Mapping
from streams.topics import topics_of


def find_sources(given: Iterable[str], settings: Settings) -> dict[str, Source]:
    """The sources, by topic. Raises SettingsError or LogError."""
    own = {topic.name for topic in topics_of(settings)}
    found: dict[str, Source] = {}
    for one in given:
        topic, equals, name = one.partition("=")
        if not (topic and equals and name):
            raise SettingsError(f"{one!r} names no source; write TOPIC=FILE, as in shop.orders=orders.toml")
        if topic in found:
            raise SettingsError(f"{topic} is given twice; one mapping may have several [[events]]")
        if topic in own:
            raise SettingsError(
                f"{topic} is a topic of this installation, so the ingest would read what it writes; "
                "if the topic is another system's, set TIERSTREAM_TOPIC_PREFIX to name your own differently"
            )
        mapping = Mapping.named(name)
        if mapping.file.join_rows:
            raise SettingsError(
                f"{name}: join_rows is for files; in a topic the rows of an order may come at any time. "
                "Map a record to a purchase of its own, or send whole orders"
            )
        found[topic] = Source(topic, mapping)
    if not found:
        raise SettingsError("no source is given; write TOPIC=FILE, as in shop.orders=orders.toml")
    return found
