"""Prints what becomes of a record, for `--check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from models.events import Rejected
from streams.terminal import printable, say, say_json

MOST_SHOWN: Final = 2_000
"""How many characters of a refused record are shown."""


def show_record(
    where: str,
    events: Sequence[tuple[str, bytes]],
    refused: Sequence[Rejected],
    outcome: str,
    unmapped: bytes | None,
    as_json: bool,
) -> None:
    """Print a record's place, the topics and bodies of its events, what is refused, and the record if it can't be mapped.

    `outcome` says what becomes of a record of which nothing is refused.
    """
    if as_json:
        say_json(
            {
                "record": where,
                "events": [{"topic": name, "body": orjson.loads(body)} for name, body in events],
                "refused": [{"reason": one.code, "detail": one.detail} for one in refused],
                "outcome": "refused" if refused else outcome,
            }
        )
        return
    for name, body in events:
        say(printable(f"{where}  {name}  {orjson.dumps(orjson.loads(body)).decode()}"))
    if not events and not refused:
        say(printable(f"{where}  {outcome.replace('_', ' ')}"))
    for one in refused:
        say(printable(f"{where}  refused, {one.code}: {one.detail}"))
    if unmapped is not None:
        say(printable(f"    the record: {unmapped[:MOST_SHOWN].decode(errors='backslashreplace')}"))
