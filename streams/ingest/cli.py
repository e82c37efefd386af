"""`tierstream ingest`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import models
from models.events import Event, Rejected
from streams.broker.topic_creation import TopicsError
from streams.ingest.group import sample
from streams.ingest.record_display import show_record
from streams.ingest.record_mapping import MappedRecord
from streams.ingest.run import run_ingest
from streams.ingest.schema_registry import RegistryUnavailable, Schemas
from streams.ingest.sources import find_sources
from streams.ingest.writer import IngestError
from streams.settings import Settings, SettingsError, load_ingest_settings, load_registry_settings, load_settings
from streams.sources.logs import Decodes, LogError
from streams.terminal import (
    FAILED,
    BrokerOption,
    JsonOption,
    RegistryOption,
    SettingPolicyOption,
    WebPortOption,
    example,
    fail,
    refuse,
    say,
)


@example(
    "tierstream ingest shop.orders=orders.toml shop.returns=returns.toml --registry http://127.0.0.1:8081 --check 5"
)
def ingest(
    sources: Annotated[
        list[str] | None, typer.Argument(help="TOPIC=FILE: a topic, and the mapping of its records (or a preset).")
    ] = None,
    registry: RegistryOption = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Where a new consumer group begins: beginning (default), now, or a time."),
    ] = None,
    check: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Write nothing; show what this many records of each topic become: the first after --from, or the latest.",
        ),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group; default: TIERSTREAM_APP_ID and -ingest.")] = None,
    policy: SettingPolicyOption = None,
    broker: BrokerOption = None,
    web_port: WebPortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry records of other topics into the input topics.

    They are mapped to events and keyed by customer, until it is stopped (Ctrl-C). Records are JSON, or Avro, Protobuf
    or JSON Schema as a registry has it. Each is carried exactly once. The mapping is the one of `replay --map`; see
    docs/live-sources.md.
    """
    try:
        settings = load_settings(broker=broker, policy=policy)
        given = load_ingest_settings(
            sources=" ".join(sources) if sources else None, since=since, group=group, web_port=web_port
        )
        asked = load_registry_settings(url=registry)
        if check is None:
            raise typer.Exit(run_ingest(settings, given, asked))
        found = find_sources(given.sources.split(), settings)
        decoder = models.load(settings.policy).decoder()
        refused = 0
        for topic, source in found.items():
            for item in _sampled(settings, source, Schemas(asked), check, since or "now"):
                refused += _show(topic, item, decoder, as_json)
    except (SettingsError, LogError, models.PolicyError) as error:
        raise refuse(str(error)) from None
    except (IngestError, TopicsError) as error:
        raise fail(str(error)) from None
    if refused:
        raise typer.Exit(FAILED)


def _sampled(settings: Settings, source: Any, schemas: Any, count: int, since: str) -> list[MappedRecord]:
    records = sample(settings, source.topic, count, since)
    try:
        schemas.learn(source.schema_ids(records))
    except RegistryUnavailable as error:
        raise IngestError(str(error)) from None
    found: list[MappedRecord] = source.items(records, schemas)
    if not found:
        say(f"{source.topic} has no records there")
    return found


def _show(topic: str, item: MappedRecord, decoder: Decodes, as_json: bool) -> int:
    """Print what became of a record; returns how many refusals it had."""
    refused = list(item.refused)
    for event in item.events:
        judged: Event | Rejected = decoder.decode(event.topic, event.value, event.key, item.record.timestamp_ms)
        if isinstance(judged, Rejected):
            refused.append(judged)
    events = [(event.topic, event.value) for event in item.events]
    show_record(item.record.origin, events, refused, item.outcome, item.record.value if item.refused else None, as_json)
    return len(refused)
