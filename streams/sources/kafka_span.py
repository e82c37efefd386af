"""Which part of a broker's topics is read: `kafka://HOST:PORT?from=2026-01-01&topics=purchases`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from models import units
from streams.sources.logs import LogError
from streams.topics import INPUTS

SCHEME: Final = "kafka://"
PARAMETERS: Final = ("topics", "from", "to", "from-offset", "to-offset")
_PLACE: Final = re.compile(r"(?:(?:([a-z]+)/)?(\d+):)?(\d+)")


class Offsets(NamedTuple):
    """Offsets by topic and partition; None stands for any topic or any partition."""

    by_place: dict[tuple[str | None, int | None], int]

    def of(self, name: str, number: int) -> int | None:
        """The offset for a partition: the one for its topic and number, else for its number, else for all; None if
        there is none.
        """
        places = ((name, number), (None, number), (None, None))
        return next((self.by_place[place] for place in places if place in self.by_place), None)


class Span(NamedTuple):
    """A part of the input topics."""

    topics: tuple[str, ...] = INPUTS
    from_ms: int | None = None
    """Begin with the first record whose timestamp is this or later ..."""
    to_ms: int | None = None
    """... and end before the first record whose timestamp is this or later."""
    from_offsets: Offsets = Offsets({})
    to_offsets: Offsets = Offsets({})
    """The first offsets that are not read."""


WHOLE: Final = Span()


def parse_kafka_url(url: str) -> tuple[str, Span]:
    """The broker and the part of its topics in a URL. Raises LogError."""
    broker, _, query = url.removeprefix(SCHEME).partition("?")
    try:
        # A plus is part of a UTC offset here, not a space.
        pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query))
        given = dict(pairs)
        if unknown := next((name for name in given if name not in PARAMETERS), None):
            raise ValueError(f"{unknown!r} is not among {', '.join(PARAMETERS)}")
        if len(given) < len(pairs):
            raise ValueError("a parameter is given twice")
        span = Span(
            _topics(given["topics"]) if "topics" in given else INPUTS,
            units.parse_time(given["from"]) if "from" in given else None,
            units.parse_time(given["to"]) if "to" in given else None,
            _offsets(given.get("from-offset", "")),
            _offsets(given.get("to-offset", "")),
        )
        if span.from_ms is not None and span.to_ms is not None and span.from_ms >= span.to_ms:
            raise ValueError("`from` is not before `to`")
    except ValueError as error:
        raise LogError(f"{url}: {error}; docs/replay.md has examples") from None
    return broker.rstrip("/"), span


def _topics(text: str) -> tuple[str, ...]:
    wanted = text.split(",")
    if unknown := next((name for name in wanted if name not in INPUTS), None):
        raise ValueError(f"topic {unknown!r} is not among {', '.join(INPUTS)}")
    return tuple(name for name in INPUTS if name in wanted)


def _offsets(text: str) -> Offsets:
    found: dict[tuple[str | None, int | None], int] = {}
    for part in text.split(",") if text else []:
        match = _PLACE.fullmatch(part)
        if not match or (match[1] is not None and match[1] not in INPUTS):
            raise ValueError(f"{part!r} is no offset; write 100, 0:100 (PARTITION:OFFSET) or purchases/0:100")
        found[match[1], None if match[2] is None else int(match[2])] = int(match[3])
    return Offsets(found)
