"""Outputs and dead letters as Kafka records: key, value and headers (CloudEvents 1.0, binary mode)."""

from __future__ import annotations

from models import units
from models.outputs import Output
from streams.engine.batch import DeadLetter
from streams.engine.merge import Record

Headers = list[tuple[str, bytes]]

_TYPE_PREFIX = "io.tierstream."
MAX_DEAD_LETTER_BYTES = 900_000
"""A longer value is cut to this length, so that the dead letter fits into a record; `value_bytes` has the whole
length.
"""


def output_record(output: Output) -> tuple[bytes, bytes, Headers]:
    """The record of an announcement."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", output.id.encode()),
        ("ce_source", b"tierstream"),
        ("ce_type", f"{_TYPE_PREFIX}{output.topic}.{output.change}".encode()),
        ("ce_subject", output.customer_id.encode()),
        ("ce_time", units.format_time(output.occurred_at_ms).encode()),
        ("content-type", b"application/json"),
    ]
    return output.customer_id.encode(), output.body, headers


def carried_record(stray: Record) -> tuple[bytes | None, bytes | None, Headers]:
    """The record that carries a stray to its customer's home: the original key and value, with the source in headers."""
    headers = _origin_headers(stray)
    if stray.timestamp_ms is not None and stray.timestamp_ms >= 0:
        headers.append(("timestamp", str(stray.timestamp_ms).encode()))
    return stray.key, stray.value, headers


def _origin_headers(record: Record) -> Headers:
    topic, partition, offset = record.origin or (record.topic, record.partition, record.offset)
    return [("topic", topic.encode()), ("partition", str(partition).encode()), ("offset", str(offset).encode())]


def dead_letter_record(dead_letter: DeadLetter) -> tuple[bytes | None, bytes | None, Headers]:
    """The record of a dead letter: the original key and value, with the source and the reason in headers."""
    record = dead_letter.record
    headers = [
        *_origin_headers(record),
        ("reason", dead_letter.code.encode()),
        ("detail", dead_letter.detail.encode()),
    ]
    value = record.value
    if value is not None and len(value) > MAX_DEAD_LETTER_BYTES:
        headers.append(("value_bytes", str(len(value)).encode()))
        value = value[:MAX_DEAD_LETTER_BYTES]
    return record.key, value, headers
