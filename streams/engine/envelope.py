"""Outputs and dead letters as Kafka records: key, value and headers (CloudEvents 1.0, binary mode)."""

from __future__ import annotations

from models import units
from models.outputs import Output
from streams.engine.batch import DeadLetter

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


def dead_letter_record(dead_letter: DeadLetter) -> tuple[bytes | None, bytes | None, Headers]:
    """The record of a dead letter: the original key and value, with the source and the reason in headers."""
    record = dead_letter.record
    headers = [
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("reason", dead_letter.code.encode()),
        ("detail", dead_letter.detail.encode()),
    ]
    value = record.value
    if value is not None and len(value) > MAX_DEAD_LETTER_BYTES:
        headers.append(("value_bytes", str(len(value)).encode()))
        value = value[:MAX_DEAD_LETTER_BYTES]
    return record.key, value, headers
