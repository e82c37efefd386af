"""`tierstream ingest`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
import typer

import models
from models.events import Event, Rejected
from streams.broker.topic_creation import TopicsError
from streams.ingest.group import sample
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
    printable,
    refuse,
    say,
    say_json,
)

MOST_SHOWN: Final = 2_000
"""How many characters of a refused record are shown."""


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
    where = item.record.origin
    lines: list[tuple[str, Any]] = []
    refused = list(item.refused)
    for event in item.events:
        judged: Event | Rejected = decoder.decode(event.topic, event.value, event.key, item.record.timestamp_ms)
        lines.append((event.topic, orjson.loads(event.value)))
        if isinstance(judged, Rejected):
            refused.append(judged)
    if not item.events and not item.refused:
        lines.append((item.outcome.replace("_", " "), None))
    if as_json:
        say_json(
            {
                "record": where,
                "events": [{"topic": name, "body": body} for name, body in lines if body is not None],
                "refused": [{"reason": one.code, "detail": one.detail} for one in refused],
                "outcome": "refused" if refused else item.outcome,
            }
        )
        return len(refused)
    for name, body in lines:
        say(printable(f"{where}  {name}" + (f"  {orjson.dumps(body).decode()}" if body is not None else "")))
    for one in refused:
        say(printable(f"{where}  refused, {one.code}: {one.detail}"))
    if item.refused:
        value = (item.record.value or b"")[:MOST_SHOWN].decode(errors="backslashreplace")
        say(printable(f"    the record: {value}"))
    return len(refused)
