"""Records of others' topics, and what they become: the pure core of `tierstream ingest`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from models import units
from models.events import FUTURE_TOLERANCE_MS, MAX_RECORD_BYTES, Rejected
from streams.engine.merge import BEFORE_ALL_MS
from streams.ingest.record_rows import Readers, Rows, SourceRecord, schema_id_of
from streams.sources.mapped_log import as_json
from streams.sources.mapping import Mapping

INGESTED: Final = "ingested"
LEFT_OUT: Final = "left_out"
"""No `when` of the mapping holds."""
TOMBSTONE: Final = "tombstone"
"""It has no value."""
REFUSED: Final = "refused"
OUTCOMES: Final = (INGESTED, LEFT_OUT, TOMBSTONE, REFUSED)


class KeyedEvent(NamedTuple):
    """An event for an input topic, keyed by its customer."""

    topic: str
    key: bytes
    value: bytes


class MappedRecord(NamedTuple):
    """A record with what it became."""

    record: SourceRecord
    at_ms: int
    """The latest time of its partition up to it: in this order a partition keeps its own."""
    made: list[KeyedEvent]
    refused: list[Rejected]

    @property
    def outcome(self) -> str:
        """What it is counted as."""
        if self.refused:
            return REFUSED
        if self.made:
            return INGESTED
        return TOMBSTONE if self.record.value is None else LEFT_OUT


class Source:
    """One topic and the mapping of its records."""

    def __init__(self, topic: str, mapping: Mapping) -> None:
        self.topic = topic
        self.mapping = mapping
        self.rows = Rows(mapping.reads)

    def schema_ids(self, records: Iterable[SourceRecord]) -> set[int]:
        """The schemas that are needed to read records."""
        found = {schema_id_of(record.value) for record in records}
        if self.rows.reads_key:
            found |= {schema_id_of(record.key) for record in records}
        return {one for one in found if one is not None}

    def items(
        self, records: Iterable[SourceRecord], readers: Readers, latest_ms: int = BEFORE_ALL_MS
    ) -> list[MappedRecord]:
        """What records of one partition become; `latest_ms` is the time of those before them."""
        items = []
        for record in records:
            made: list[KeyedEvent] = []
            refused: list[Rejected] = []
            if record.value is not None:
                row = self.rows.row(record, readers)
                if isinstance(row, Rejected):
                    refused.append(row)
                else:
                    for topic, body in self.mapping.events(row):
                        one = body if isinstance(body, Rejected) else _made(topic, body)
                        if isinstance(one, Rejected):
                            refused.append(one)
                        else:
                            made.append(one)
                            latest_ms = max(latest_ms, _time_ms(body, record.timestamp_ms))
            items.append(MappedRecord(record, latest_ms, made, refused))
        return items


def _made(topic: str, body: dict[str, Any]) -> KeyedEvent | Rejected:
    """An event on its way. Whether the body is a valid one, the worker says, which has the policy."""
    customer_id = body.get("customer_id")
    if not isinstance(customer_id, str) or not customer_id:
        return Rejected("missing_field", "the row has no customer_id, by which events are keyed")
    value = as_json(body)
    if len(value) > MAX_RECORD_BYTES:
        return Rejected("too_large", f"{len(value)} bytes; an event has at most {MAX_RECORD_BYTES}")
    return KeyedEvent(topic, customer_id.encode(), value)


def _time_ms(body: Any, timestamp_ms: int | None) -> int:
    """When an event occurred, if its body says so, and nothing that the worker will not believe."""
    try:
        at_ms = units.ms_from_datetime(datetime.fromisoformat(body["occurred_at"]))
    except (KeyError, TypeError, ValueError):
        return BEFORE_ALL_MS
    return at_ms if timestamp_ms is None or at_ms <= timestamp_ms + FUTURE_TOLERANCE_MS else BEFORE_ALL_MS
