"""Maps the records of other topics to events: the pure core of `tierstream ingest`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from models import units
from models.events import FUTURE_TOLERANCE_MS, MAX_RECORD_BYTES, Rejected
from streams.engine.merge import BEFORE_ALL_MS
from streams.ingest.record_rows import Readers, Rows, SourceRecord, schema_id_of
from streams.sources.mapped_log import as_json
from streams.sources.mapping import Mapping


class Outcome(StrEnum):
    """What a record is counted as; the values are labels of metrics."""

    INGESTED = "ingested"
    LEFT_OUT = "left_out"
    """No `when` of the mapping holds for the record."""
    TOMBSTONE = "tombstone"
    """The record has no value."""
    REFUSED = "refused"


class KeyedEvent(NamedTuple):
    """An event to write to an input topic, keyed by its customer."""

    topic: str
    key: bytes
    value: bytes


class MappedRecord(NamedTuple):
    """A record of a source, with its events and with what was refused in it."""

    record: SourceRecord
    at_ms: int
    """The latest time of the partition up to this record, so that merging by it keeps the order of the partition."""
    events: list[KeyedEvent]
    refused: list[Rejected]

    @property
    def outcome(self) -> Outcome:
        """What the record is counted as."""
        if self.refused:
            return Outcome.REFUSED
        if self.events:
            return Outcome.INGESTED
        return Outcome.TOMBSTONE if self.record.value is None else Outcome.LEFT_OUT


class Source:
    """A topic and the mapping of its records."""

    def __init__(self, topic: str, mapping: Mapping) -> None:
        self.topic = topic
        self.mapping = mapping
        self.rows = Rows(mapping.reads)

    def schema_ids(self, records: Iterable[SourceRecord]) -> set[int]:
        """The ids of the schemas that are needed to read records."""
        found = {schema_id_of(record.value) for record in records}
        if self.rows.reads_key:
            found |= {schema_id_of(record.key) for record in records}
        return {one for one in found if one is not None}

    def items(
        self, records: Iterable[SourceRecord], readers: Readers, latest_ms: int = BEFORE_ALL_MS
    ) -> list[MappedRecord]:
        """Map records of one partition; `latest_ms` is the latest time of the records before them."""
        items = []
        for record in records:
            events: list[KeyedEvent] = []
            refused: list[Rejected] = []
            if record.value is not None:
                row = self.rows.row(record, readers)
                if isinstance(row, Rejected):
                    refused.append(row)
                else:
                    for topic, body in self.mapping.events(row):
                        one = body if isinstance(body, Rejected) else _keyed_event(topic, body)
                        if isinstance(one, Rejected):
                            refused.append(one)
                        else:
                            events.append(one)
                            latest_ms = max(latest_ms, _time_ms(body, record.timestamp_ms))
            items.append(MappedRecord(record, latest_ms, events, refused))
        return items


def _keyed_event(topic: str, body: dict[str, Any]) -> KeyedEvent | Rejected:
    """The event to write. The worker, which has the policy, checks whether the body is valid."""
    customer_id = body.get("customer_id")
    if not isinstance(customer_id, str) or not customer_id:
        return Rejected("missing_field", "the row has no customer_id, by which events are keyed")
    value = as_json(body)
    if len(value) > MAX_RECORD_BYTES:
        return Rejected("too_large", f"{len(value)} bytes; an event has at most {MAX_RECORD_BYTES}")
    return KeyedEvent(topic, customer_id.encode(), value)


def _time_ms(body: Any, timestamp_ms: int | None) -> int:
    """When an event occurred; BEFORE_ALL_MS if the body has no time, or one in the future, which the worker refuses."""
    try:
        at_ms = units.ms_from_datetime(datetime.fromisoformat(body["occurred_at"]))
    except (KeyError, TypeError, ValueError):
        return BEFORE_ALL_MS
    return at_ms if timestamp_ms is None or at_ms <= timestamp_ms + FUTURE_TOLERANCE_MS else BEFORE_ALL_MS
