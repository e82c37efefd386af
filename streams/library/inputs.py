"""Converts what users pass, in any of its forms: events to logs, policies, and instants."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

import models
from models import units
from models.bodies import TOPIC_BODIES
from models.events import Rejected
from models.policy import Policy, parse
from streams.engine.merge import Record
from streams.sources.logs import Decodes, Log, LogError, file_partition
from streams.sources.named_logs import find_logs

Events = Any
"""Dicts or JSON (`bytes`, `str`), one for each event; a path, or several; a table of pandas, Polars or Arrow; or a
mapping from topics to dicts, JSON or tables."""
Wire = Mapping[str, Any] | bytes | str

ROWS_A_CHUNK: Final = 10_000
WHOLE_FLOATS_BELOW: Final = 2.0**53
JSON_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_SERIALIZE_NUMPY
_FIELDS: Final = {
    topic: {field.encode_name for field in msgspec.structs.fields(body)} for topic, body in TOPIC_BODIES.items()
}
_HOW_OFTEN: Final = Counter(chain.from_iterable(_FIELDS.values()))
OWN_FIELDS: Final = {topic: {name for name in names if _HOW_OFTEN[name] == 1} for topic, names in _FIELDS.items()}
"""For each topic, the fields that no other topic has."""


class _Topic(msgspec.Struct):
    topic: str | None = None


def topic_of(event: Mapping[str, Any]) -> str | None:
    """The topic that an event names, else the only topic whose own fields it has; None if there is not exactly one.

    >>> topic_of({"customer_id": "ada", "amount": "12.00"}), topic_of({"customer_id": "ada"})
    ('purchases', None)
    """
    if event.get("topic") is not None:
        return str(event["topic"])
    names = event.keys()
    found = [topic for topic, own in OWN_FIELDS.items() if not own.isdisjoint(names)]
    return found[0] if len(found) == 1 else None


class InMemoryLog:
    """Events in memory, as one stream in the given order. They are read like the lines of a file."""

    bytes = None

    def __init__(self, events: Iterable[Wire], topic: str | None = None, number: int = 0) -> None:
        self._events = events
        self._topic = topic
        self.files = {file_partition(number): topic or "events"}

    def identity(self) -> list[dict[str, Any]]:
        """Events in memory have no identity that a later run could check. Raises LogError."""
        raise LogError("events in memory have no identity: use files, or leave out what needs one")

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """The events, decoded; an event's number, from 1, is its offset."""
        return [self._records(decoder)]

    def _records(self, decoder: Decodes) -> Iterator[Record]:
        (partition,) = self.files
        for number, event in enumerate(self._events, 1):
            value = encode_event(event)
            topic = self._topic or _topic_of(event, value)
            if topic in TOPIC_BODIES:
                decoded = decoder.decode(topic, value)
            else:
                decoded = Rejected(
                    "missing_field" if topic is None else "unknown_value",
                    f"event {number} {'names no topic, and its fields are not those of one' if topic is None else f'names the topic {topic!r}'}; "
                    f"the topics are {', '.join(TOPIC_BODIES)}",
                )
            yield Record(topic or "", partition, number, None, value, None, decoded)


def encode_event(event: Wire) -> bytes:
    """An event as JSON. Raises LogError."""
    if isinstance(event, bytes | str):
        return (event if isinstance(event, bytes) else event.encode()).rstrip(b"\r\n")
    try:
        return orjson.dumps(dict(event), _plain, JSON_OPTIONS)
    except (TypeError, ValueError) as error:
        raise LogError(f"an event is not a dict of plain values, or JSON: {error}") from None


def _plain(value: Any) -> Any:
    """A value in the form of JSON. Times without an offset are UTC; a date is its midnight."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat(timespec="milliseconds")
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC).isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{value!r} has a type that JSON does not have")


def _topic_of(event: Wire, value: bytes) -> str | None:
    if isinstance(event, Mapping):
        return topic_of(event)
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return topic_of(found) if isinstance(found, dict) else None


# ---------------------------------------------------------------- events
def logs_of(events: Events, maps: Sequence[str] = ()) -> list[Log]:
    """The logs of `events`. Raises LogError or SettingsError."""
    if isinstance(events, Mapping):
        unknown = [topic for topic in events if topic not in TOPIC_BODIES]
        if unknown:
            raise LogError(f"there is no topic {unknown[0]!r}; the topics are {', '.join(TOPIC_BODIES)}")
        return [_in_memory(source, topic, number) for number, (topic, source) in enumerate(events.items())]
    if _is_path(events):
        return _files([str(events)], maps)
    if isinstance(events, bytes | str) or _is_table(events):
        return [_in_memory(events)]
    try:
        several = iter(events)
    except TypeError:
        raise LogError(f"events are given as {type(events).__name__}; {_expected()}") from None
    first = next(several, None)
    if _is_path(first):
        paths = [first, *several]
        strange = next((one for one in paths if not _is_path(one)), None)
        if strange is not None:
            raise LogError(f"{strange!r} is not a path, but other elements are; {_expected()}")
        return _files([str(one) for one in paths], maps)
    return [InMemoryLog(() if first is None else chain([first], several))]


def _in_memory(source: Any, topic: str | None = None, number: int = 0) -> InMemoryLog:
    if _is_table(source):
        return InMemoryLog(_rows(source, topic), topic, number)
    if _is_path(source):
        raise LogError(
            f"{source}: the topic of a path is in its name or in its lines, so it can't be given; give a list of paths"
        )
    if isinstance(source, bytes | str):
        text = source if isinstance(source, bytes) else source.encode()
        source = [line for line in text.split(b"\n") if line.strip()]
    return InMemoryLog(source, topic, number)


def _is_path(source: object) -> bool:
    """Whether this is a path: a text is one, unless it is JSON."""
    return isinstance(source, Path) or (isinstance(source, str) and not source.lstrip().startswith("{"))


def _files(names: list[str], maps: Sequence[str]) -> list[Log]:
    return find_logs(names, maps)


def _expected() -> str:
    return "give dicts, JSON, a path or paths, a table, or a mapping from topics to dicts or tables"


# ---------------------------------------------------------------- tables
def _package_of(source: object) -> str:
    return type(source).__module__.partition(".")[0]


def _is_table(source: object) -> bool:
    return _package_of(source) in ("pandas", "polars", "pyarrow")


def _rows(table: Any, topic: str | None) -> Iterator[dict[str, Any]]:
    """The rows of a table as events, without missing values; an event without an id gets the number of its row."""
    for number, row in enumerate(_plain_rows(table), 1):
        event = {name: _whole(value) for name, value in row.items() if value is not None}
        event.setdefault("event_id", f"{topic or topic_of(event) or 'row'}:{number}")
        yield event


def _whole(value: Any) -> Any:
    """A whole number as an integer: a column of integers with missing values has floats, 85.0 for 85."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < WHOLE_FLOATS_BELOW
    return int(value) if is_whole else value


def _plain_rows(table: Any) -> Iterator[dict[str, Any]]:
    package = _package_of(table)
    if package == "polars":
        if isinstance(table, sys.modules["polars"].LazyFrame):
            table = table.collect()
        yield from table.iter_rows(named=True)
    elif package == "pyarrow":
        batches = table.to_batches(ROWS_A_CHUNK) if hasattr(table, "to_batches") else [table]
        for batch in batches:
            yield from batch.to_pylist()
    else:
        for begin in range(0, len(table), ROWS_A_CHUNK):
            chunk = table.iloc[begin : begin + ROWS_A_CHUNK]
            yield from chunk.astype(object).where(chunk.notna(), None).to_dict("records")


# ---------------------------------------------------------------- policies and instants
def policy_of(given: Policy | Mapping[str, Any] | str | Path) -> Policy:
    """The policy that a Policy, the id of a shipped one, a path, a TOML text or its tables give. Raises PolicyError."""
    if isinstance(given, Policy):
        return given
    if isinstance(given, Mapping):
        return parse("".join(f"{name} = {_toml(value)}\n" for name, value in given.items()))
    if isinstance(given, str) and "\n" in given:
        return parse(given)
    return models.load(given)


def _toml(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(name))} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return orjson.dumps(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def instant_of(given: str | int | date | None) -> int | None:
    """An instant in milliseconds since the epoch; a date is its midnight, a datetime without an offset is UTC.

    Raises ValueError.
    """
    if given is None or isinstance(given, int):
        return given
    return units.parse_time(given if isinstance(given, str) else _plain(given))
