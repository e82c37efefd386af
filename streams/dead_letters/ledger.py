"""The ledger of dead letters: which exist, where each came from, and whether and how it was settled."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from msgspec import Struct

Address = tuple[int, int]
"""Partition and offset of a record in the topic of dead letters."""
Source = tuple[str, int, int]
"""Topic (without its prefix), partition and offset of the record that could not be used."""


class DeadLettersError(RuntimeError):
    """A dead letter can't be used as asked, or the broker fails; the message says what to do."""


class ValueTruncated(DeadLettersError):
    """A dead letter has only the beginning of its value, and its source record is gone."""


def parse_address(text: str) -> Address:
    """Parse the address of a dead letter. Raises ValueError.

    >>> parse_address("3:1042")
    (3, 1042)
    """
    partition, _, offset = text.partition(":")
    if not (text.isascii() and partition.isdigit() and offset.isdigit()):
        raise ValueError(
            f"{text!r} is not the address of a dead letter; write PARTITION:OFFSET as `list` shows it, as in 0:42"
        )
    return int(partition), int(offset)


def format_address(address: Address) -> str:
    """The text of an address, which `parse_address` reads."""
    return f"{address[0]}:{address[1]}"


class Settled(Struct, frozen=True, gc=False):
    """How a dead letter was settled."""

    how: str
    """`resent`, `repaired` or `dismissed`."""
    by: str
    at_ms: int
    note: str | None
    to: str | None
    """topic:partition:offset of the record that was sent in its place; None if it was dismissed."""


class DeadLetter(Struct):
    """A dead letter without its value, so that many fit into memory."""

    address: Address
    at_ms: int
    topic: str
    source: Source | None
    """None if its headers do not say so."""
    key: str | None
    """Decoded for people, and shortened if it is longer than any id."""
    reason: str
    detail: str
    value_bytes: int | None
    """The length of the whole value, if the dead letter has only its beginning."""
    settled: Settled | None = None

    @property
    def name(self) -> str:
        """Its address as text."""
        return format_address(self.address)

    @property
    def where(self) -> str:
        """Its source as text."""
        return ":".join(map(str, self.source)) if self.source else f"{self.topic}:?"


class Ledger:
    """Dead letters by address, with how they were settled. Repetitions after a crash count as one, at the first
    address.
    """

    def __init__(self) -> None:
        self._by_address: dict[Address, DeadLetter] = {}
        self._by_source: dict[Source, DeadLetter] = {}
        self._repeats: dict[Address, DeadLetter] = {}

    def take(self, address: Address, at_ms: int, key: bytes | None, headers: Mapping[str, str]) -> None:
        """Take the next record of a partition: a dead letter, or a note that settles one. Other records are ignored."""
        if "reason" in headers:
            self._take_dead_letter(address, at_ms, key, headers)
        elif "settles" in headers:
            self._take_note(at_ms, headers)

    def find(self, address: Address) -> DeadLetter | None:
        """The dead letter at an address, its first one or that of a repetition; None if no dead letter has it."""
        return self._by_address.get(address) or self._repeats.get(address)

    def select(
        self, reason: str | None = None, topic: str | None = None, since_ms: int = 0, settled: bool = False
    ) -> list[DeadLetter]:
        """The open dead letters that fit, in the order of their times; with `settled`, settled ones too."""
        found = (
            dead_letter
            for dead_letter in self._by_address.values()
            if (settled or dead_letter.settled is None)
            and reason in (None, dead_letter.reason)
            and topic in (None, dead_letter.topic)
            and dead_letter.at_ms >= since_ms
        )
        return sorted(found, key=lambda dead_letter: (dead_letter.at_ms, dead_letter.address))

    def _take_dead_letter(self, address: Address, at_ms: int, key: bytes | None, headers: Mapping[str, str]) -> None:
        topic, partition, offset = (headers.get(name, "") for name in ("topic", "partition", "offset"))
        source = (
            (sys.intern(topic), int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None
        )
        if source is not None and (first := self._by_source.get(source)) is not None:
            self._repeats[address] = first
            return
        value_bytes = headers.get("value_bytes", "")
        dead_letter = self._by_address[address] = DeadLetter(
            address,
            at_ms,
            sys.intern(topic),
            source,
            None if key is None else key[:128].decode(errors="replace"),
            sys.intern(headers["reason"]),
            headers.get("detail", "")[:1_000],
            int(value_bytes) if value_bytes.isdecimal() else None,
        )
        if source is not None:
            self._by_source[source] = dead_letter

    def _take_note(self, at_ms: int, headers: Mapping[str, str]) -> None:
        try:
            dead_letter = self.find(parse_address(headers["settles"]))
        except ValueError:
            return
        if dead_letter is not None:
            dead_letter.settled = Settled(
                headers.get("how", "?"), headers.get("by", "?"), at_ms, headers.get("note"), headers.get("to")
            )
