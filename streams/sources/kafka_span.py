"""Which part of a broker's topics is read: `kafka://HOST:PORT?from=2026-01-01&topics=purchases`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from models import units
from streams.sources.logs import LogError
from streams.topics import INPUTS

SCHEME: Final = "kafka://"
QUESTIONS: Final = ("topics", "from", "to", "from-offset", "to-offset")
_PLACE: Final = re.compile(r"(?:(?:([a-z]+)/)?(\d+):)?(\d+)")


class Offsets(NamedTuple):
    """Offsets by topic and partition; None stands for any."""

    by_place: dict[tuple[str | None, int | None], int]

    def of(self, name: str, number: int) -> int | None:
        """That of a partition: the one that is said most exactly."""
        places = ((name, number), (None, number), (None, None))
        return next((self.by_place[place] for place in places if place in self.by_place), None)


class Span(NamedTuple):
    """A part of the input topics."""

    topics: tuple[str, ...] = INPUTS
    from_ms: int | None = None
    """By the records' own timestamps, from the first that is not earlier ..."""
    to_ms: int | None = None
    """... to the first that is not earlier than this, which is left out."""
    from_offsets: Offsets = Offsets({})
    to_offsets: Offsets = Offsets({})
    """Likewise left out."""


WHOLE: Final = Span()


def parse_kafka_url(url: str) -> tuple[str, Span]:
    """The broker and the part of its topics in a URL. Raises LogError."""
    broker, _, query = url.removeprefix(SCHEME).partition("?")
    try:
        # A plus is part of a time's offset here, no space.
        pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query))
        asked = dict(pairs)
        if unknown := next((name for name in asked if name not in QUESTIONS), None):
            raise ValueError(f"{unknown!r} is not among {', '.join(QUESTIONS)}")
        if len(asked) < len(pairs):
            raise ValueError("something is said twice")
        span = Span(
            _topics(asked["topics"]) if "topics" in asked else INPUTS,
            units.parse_time(asked["from"]) if "from" in asked else None,
            units.parse_time(asked["to"]) if "to" in asked else None,
            _offsets(asked.get("from-offset", "")),
            _offsets(asked.get("to-offset", "")),
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
