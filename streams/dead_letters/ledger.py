"""The ledger of dead letters: which there are, where each came from, and what became of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from msgspec import Struct

Address = tuple[int, int]
"""Partition and offset of a record in the dead letters' topic."""
Source = tuple[str, int, int]
"""Topic (without its prefix), partition and offset of the record that could not be used."""


class DeadLettersError(RuntimeError):
    """Something that can't be done, or a broker that fails; the message says what to do."""


class Cut(DeadLettersError):
    """A letter whose value was cut, and whose source record is gone."""


def parse_address(text: str) -> Address:
    """An address as it is written. Raises ValueError.

    >>> parse_address("3:1042")
    (3, 1042)
    """
    partition, _, offset = text.partition(":")
    if not (text.isascii() and partition.isdigit() and offset.isdigit()):
        raise ValueError(f"{text!r} is not a letter's address; write PARTITION:OFFSET as `list` shows it, as in 0:42")
    return int(partition), int(offset)


def format_address(address: Address) -> str:
    """The way `parse_address` reads it."""
    return f"{address[0]}:{address[1]}"


class Settled(Struct, frozen=True, gc=False):
    """What became of a letter."""

    how: str
    """`resent`, `repaired` or `dismissed`."""
    by: str
    at_ms: int
    note: str | None
    to: str | None
    """topic:partition:offset of the record that was sent for it."""


class Letter(Struct):
    """A dead letter without its value, so that many fit into memory."""

    address: Address
    at_ms: int
    topic: str
    source: Source | None
    """None if its headers don't tell."""
    key: str | None
    """For people: decoded, and cut if it is longer than any id."""
    reason: str
    detail: str
    value_bytes: int | None
    """The whole length of a value that was cut."""
    settled: Settled | None = None

    @property
    def name(self) -> str:
        """Its address, written."""
        return format_address(self.address)

    @property
    def where(self) -> str:
        """Where it came from, written."""
        return ":".join(map(str, self.source)) if self.source else f"{self.topic}:?"


class Ledger:
    """Letters, and what became of them. After a crash a letter may be there twice: it is one, at its first address."""

    def __init__(self) -> None:
        self._letters: dict[Address, Letter] = {}
        self._by_source: dict[Source, Letter] = {}
        self._repeats: dict[Address, Letter] = {}

    def take(self, address: Address, at_ms: int, key: bytes | None, headers: Mapping[str, str]) -> None:
        """Book the next record of a partition: a letter, a note, or something else, which is passed over."""
        if "reason" in headers:
            self._take_letter(address, at_ms, key, headers)
        elif "settles" in headers:
            self._take_note(at_ms, headers)

    def letter(self, address: Address) -> Letter | None:
        """The letter at an address, be it the letter's first or that of a repetition."""
        return self._letters.get(address) or self._repeats.get(address)

    def select(
        self, reason: str | None = None, topic: str | None = None, since_ms: int = 0, settled: bool = False
    ) -> list[Letter]:
        """The open letters of a kind, in the order in which they came; with `settled`, those too."""
        found = (
            letter
            for letter in self._letters.values()
            if (settled or letter.settled is None)
            and reason in (None, letter.reason)
            and topic in (None, letter.topic)
            and letter.at_ms >= since_ms
        )
        return sorted(found, key=lambda letter: (letter.at_ms, letter.address))

    def _take_letter(self, address: Address, at_ms: int, key: bytes | None, headers: Mapping[str, str]) -> None:
        topic, partition, offset = (headers.get(name, "") for name in ("topic", "partition", "offset"))
        source = (
            (sys.intern(topic), int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None
        )
        if source is not None and (first := self._by_source.get(source)) is not None:
            self._repeats[address] = first
            return
        value_bytes = headers.get("value_bytes", "")
        letter = self._letters[address] = Letter(
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
            self._by_source[source] = letter

    def _take_note(self, at_ms: int, headers: Mapping[str, str]) -> None:
        try:
            letter = self.letter(parse_address(headers["settles"]))
        except ValueError:
            return
        if letter is not None:
            letter.settled = Settled(
                headers.get("how", "?"), headers.get("by", "?"), at_ms, headers.get("note"), headers.get("to")
            )
