"""The journal: in which order a partition's inputs and its clock were folded.

Before a batch's outputs are written, one small record says what the batch does: how many customers are advanced, to
which time, then which records are folded, in which order. With it, a batch that a crash interrupted is repeated
exactly, and a replay reproduces history byte for byte, in whichever order the inputs arrived at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import msgspec
from msgspec import Struct

from streams.engine.merge import Record
from streams.engine.plan import Plan, Strays
from streams.engine.schedule import Schedule

Run = tuple[str, int, int]
"""Consecutive records of one topic: topic, first offset, last offset. Offsets may have gaps, so there may be fewer
records than numbers in the range; no record in the range is left out.
"""


class ShadowEntry(Struct, frozen=True):
    """What a batch does to the customers of a shadow policy: it advances `due` of them, takes over those in `review`
    from the table, and folds the same records.
    """

    due: int
    review: list[str]


class Entry(Struct, frozen=True, omit_defaults=True):
    """What one batch does, in this order: under `policy`, advance `due` customers to `until_ms`, judge those in
    `review` under the edition in force, then fold `runs`.
    """

    batch: int
    """The batch's number in its partition, from 1; the table's marker has the same number afterwards."""
    generation: int
    """The consumer group's generation in which it was written. Of several entries for one batch the highest one
    counts.
    """
    policy: str
    until_ms: int
    due: int
    """How many customers are advanced: the first ones in the order of due time and id."""
    runs: list[Run]
    review: list[str] = []
    """Customers of an older edition, by their ids."""
    shadow: ShadowEntry | None = None
    """What the batch does under a shadow policy, if there is one. The table does not depend on it."""
    strays: Strays = "fold"
    """What the batch does with records of customers who live in another partition."""

    def encode(self) -> bytes:
        """The value of the journal's record."""
        return msgspec.json.encode(self)


_decode = msgspec.json.Decoder(Entry).decode


class JournalError(ValueError):
    """A journal that can't be read or does not fit the inputs; the message says where, and what to do."""


def entry_of(plan: Plan, batch: int, generation: int, policy: str) -> Entry:
    """The journal's entry for a plan."""
    runs: list[Run] = []
    for record in plan.records:
        if runs and runs[-1][0] == record.topic:
            runs[-1] = (record.topic, runs[-1][1], record.offset)
        else:
            runs.append((record.topic, record.offset, record.offset))
    shadow = None
    if plan.shadow is not None:
        shadow = ShadowEntry(len(plan.shadow.due), [key.decode() for key in plan.shadow.review])
    review = [key.decode() for key in plan.review]
    return Entry(batch, generation, policy, plan.until_ms, len(plan.due), runs, review, shadow, plan.strays)


def plan_of(
    entry: Entry,
    customers: Mapping[bytes, bytes],
    schedule: Schedule,
    take_up_to: Callable[[str, int], Iterable[Record]],
    where: str,
) -> Plan:
    """The plan that an entry describes, with the records that `take_up_to` (topic, offset) returns.

    Raises JournalError, naming `where`, if other customers are due, or records are gone.
    """
    due = list(islice(schedule.due(entry.until_ms), entry.due))
    reviewed = [key for key in (one.encode() for one in entry.review) if key in customers]
    records: list[Record] = []
    missing = []
    for topic, _, last in entry.runs:
        records += take_up_to(topic, last)
        if not records or (records[-1].topic, records[-1].offset) != (topic, last):
            missing.append(topic)
    if len(due) != entry.due or len(reviewed) != len(entry.review) or missing:
        raise JournalError(
            f"{where}, batch {entry.batch} does not fit the inputs: the journal says {entry.due} customers were due and "
            f"{len(due)} are; {len(entry.review)} were to be judged again and {len(reviewed)} exist; "
            f"topics with missing records: {', '.join(missing) or 'none'}. Were inputs deleted, or was {entry.policy} "
            "changed without a new version? A new TIERSTREAM_APP_VERSION, or a replay without --journal, needs no journal"
        )
    return Plan(entry.until_ms, due, reviewed, records, strays=entry.strays)


def decode_entry(value: bytes | None, where: str) -> Entry:
    """The entry in a journal record's value. Raises JournalError, which says `where` the record is."""
    try:
        return _decode(value or b"")
    except msgspec.MsgspecError as error:
        raise JournalError(f"the journal can't be read at {where}: {error}") from None


def one_entry_a_batch(entries: Iterable[Entry], after: int = 0) -> Iterator[Entry]:
    """The entries of the batches after number `after`, one per batch, in order. Raises JournalError if a batch has
    none.

    A worker that lost its partition without knowing may have written an entry that the next owner did not find. Of
    several entries for one batch, the one of the latest generation is what happened.
    """
    latest: Entry | None = None
    for entry in entries:
        if latest is None or entry.batch == latest.batch:
            if entry.batch > after and (latest is None or entry.generation > latest.generation):
                latest = entry
        elif entry.batch > latest.batch:
            yield latest
            after, latest = latest.batch, entry
        if latest is not None and latest.batch != after + 1:
            raise JournalError(f"the journal has no entry for batch {after + 1}, but one for batch {latest.batch}")
    if latest is not None:
        yield latest
