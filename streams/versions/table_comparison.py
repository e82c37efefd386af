"""Compares the tables of two app versions, customer by customer, as of the same records and the same time.

Running versions are never equally far. So records that only one of them has folded are folded in memory before the
comparison; nothing is written, and no worker is disturbed. A customer's facts depend only on the set of their events
(models.customer.Facts); announcements also depend on how far the clock was when each event was folded. So the same
policy gives the same customers, except where a record came late: then one version may have announced something that the
other had no reason to announce.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

import models
from models.customer import Customer, copied
from models.policy import Policy
from models.policy.editions import Editions
from streams.engine.merge import Record, merged
from streams.engine.partition import Partition
from streams.engine.table import Marker, RestoredTable
from streams.settings import CARRIED, Settings
from streams.topics import FOLDED, INPUTS
from streams.versions.offline_partition import TO_THE_END, LogBetween, read_table
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import EVENTS_A_BATCH

EXAMPLES: Final = 5
"""How many customers are named per kind of difference."""

EQUAL: Final = "equal"
ANNOUNCED_OTHERWISE: Final = "told otherwise"
STANDING: Final = "another standing"
FACTS: Final = "other facts"
ONLY_OLD: Final = "only in the old version"
ONLY_NEW: Final = "only in the new version"
KINDS: Final = {
    EQUAL: "the same in everything",
    ANNOUNCED_OTHERWISE: "the same events, tier, risk, stage and alert; announced in another order, or as of another "
    "instant, because records came late in one of the versions",
    STANDING: "the same events, but another tier, risk, stage or alert: what was announced before a late record came "
    "can't be taken back, and grace periods run from it; or the program changed",
    FACTS: "other events were counted: some came too late in one version and not in the other, or were "
    "repeated after more than 64 others; or inputs were deleted, or the program changed",
    ONLY_OLD: "the inputs no longer have events of them, or these events are no longer accepted",
    ONLY_NEW: "their events were not accepted by the old version, and are now",
}
"""What each kind means under one policy. The keys are also those of the JSON output, so they don't change."""
HARMLESS: Final = frozenset({EQUAL, ANNOUNCED_OTHERWISE})


class Version(NamedTuple):
    """An app version and the policy that its table is made under."""

    settings: Settings
    policy: Policy

    @property
    def number(self) -> int:
        """The TIERSTREAM_APP_VERSION."""
        return self.settings.app_version


class Difference(NamedTuple):
    """A customer that differs between the versions; tier and risk level in each, None where the customer is not
    known.
    """

    customer_id: str
    kind: str
    tiers: tuple[str | None, str | None]
    levels: tuple[str | None, str | None]


@dataclass
class TableComparison:
    """The counts of a comparison."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Customers by kind of difference; under two policies, customers in both versions are EQUAL or of another
    STANDING.
    """
    tiers: Counter[tuple[str, str]] = field(default_factory=Counter)
    levels: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Customers in both versions, by tier, and by risk level, in the old and the new version."""
    records: tuple[int, int] = (0, 0)
    """How many records of each version were folded in memory for the comparison."""

    @property
    def customers(self) -> int:
        """How many customers either version has."""
        return self.kinds.total()

    @property
    def moved(self) -> int:
        """Customers in both whose tiers differ."""
        return sum(count for (before, after), count in self.tiers.items() if before != after)

    @property
    def is_harmless(self) -> bool:
        """Whether the order of records alone explains all differences."""
        return set(+self.kinds) <= HARMLESS


def furthest(markers: tuple[Marker, Marker]) -> tuple[dict[str, int], int]:
    """The earliest position and time that neither table is beyond."""
    first, second = markers
    offsets = {topic: max(first.offsets.get(topic, -1), second.offsets.get(topic, -1)) for topic in INPUTS}
    return offsets, max(first.clock_ms, second.clock_ms)


Strays = Mapping[int, list[Record]]
"""Records, by the partitions where their customers live, in the order of time."""


def strays_on_their_way(
    old: Version, new: Version, old_markers: Iterable[Marker], new_markers: Iterable[Marker]
) -> tuple[Strays, Strays]:
    """Of each version, the strays in the inputs that it has not carried home yet, up to the position to compare at."""
    found: tuple[dict[int, list[Record]], dict[int, list[Record]]] = ({}, {})
    for number, markers in enumerate(zip(old_markers, new_markers, strict=True)):
        offsets, _ = furthest(markers)
        for version, marker, strays in zip((old, new), markers, found, strict=True):
            with closing(LogBetween(version.settings, number, marker.offsets, offsets)) as log:
                log.begin(INPUTS)
                decoder = version.policy.decoder()
                for name in INPUTS:
                    for record in log.placed_records(name, number, decoder, lambda _: None):
                        if record.is_stray:
                            strays.setdefault(record.home, []).append(_folded_at_home(record))
    for strays in found:
        for records in strays.values():
            records.sort(key=lambda record: record.occurred_at_ms)
    return found


def _folded_at_home(stray: Record) -> Record:
    return Record(
        stray.topic, stray.home, stray.offset, stray.key, stray.value, stray.timestamp_ms, stray.decoded, stray.home
    )


async def compare_partition(
    old: Version, new: Version, number: int, found: TableComparison, strays: tuple[Strays, Strays]
) -> list[Difference]:
    """Compare one partition; adds to `found`, and returns the customers whose difference is not harmless.

    Raises the errors of reading tables and inputs.
    """
    tables = [await read_table(one.settings, number) for one in (old, new)]
    offsets, until_ms = furthest((tables[0].marker, tables[1].marker))
    sides = [
        _fold_up_to(version, number, table, offsets, until_ms, on_their_way.get(number, []))
        for version, table, on_their_way in zip((old, new), tables, strays, strict=True)
    ]
    found.records = (found.records[0] + sides[0][1], found.records[1] + sides[1][1])
    same_policy = old.policy.ref == new.policy.ref
    return list(differences(sides[0][0].customers, sides[1][0].customers, same_policy, found))


def differences(
    old: Mapping[bytes, bytes], new: Mapping[bytes, bytes], same_policy: bool, found: TableComparison
) -> Iterator[Difference]:
    """Compare customers; adds to `found`, and yields those whose difference is not harmless."""
    for key in sorted(old.keys() | new.keys()):
        states = [models.decode(side[key]) if key in side else None for side in (old, new)]
        before, after = states
        if before is None or after is None:
            kind = ONLY_NEW if before is None else ONLY_OLD
        elif same_policy:
            kind = EQUAL if old[key] == new[key] else _kind(before, after)
        else:
            kind = EQUAL if _tier_and_level(before) == _tier_and_level(after) else STANDING
        found.kinds[kind] += 1
        if before is not None and after is not None:
            found.tiers[before.standing.tier, after.standing.tier] += 1
            found.levels[before.standing.risk_level, after.standing.risk_level] += 1
        if kind not in HARMLESS:
            (tier, level), (new_tier, new_level) = map(_tier_and_level, states)
            yield Difference(key.decode(), kind, (tier, new_tier), (level, new_level))


def _fold_up_to(
    version: Version,
    number: int,
    table: RestoredTable,
    offsets: Mapping[str, int],
    until_ms: int,
    on_their_way: list[Record],
) -> tuple[Partition, int]:
    """A table in memory, folded up to a position and a time, with the strays that are on their way to it; and how many
    records that took.
    """
    policy, marker = version.policy, table.marker
    partition = Partition(Editions.from_wire(policy, marker.editions), table.customers, marker.clock_ms)
    replay = Replay(policy, with_recorded_thresholds=True, partition=partition, without_bodies=True)
    folded = 0
    with closing(LogBetween(version.settings, number, marker.offsets, dict(offsets) | {CARRIED: TO_THE_END})) as log:
        log.begin(FOLDED)
        decoder = policy.decoder()
        streams = [log.placed_records(name, number, decoder, lambda _: None) for name in FOLDED]
        records = merged([*(_at_home(stream) for stream in streams), iter(on_their_way)], FOLDED)
        while turn := list(islice(records, EVENTS_A_BATCH)):
            folded += len(turn)
            for _ in replay.fold(turn):
                pass
    for _ in replay.finish(until_ms):
        pass
    return replay.partition, folded


def _at_home(records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if not record.is_stray)


def _tier_and_level(one: Customer | None) -> tuple[str | None, str | None]:
    """Tier and risk level; None for a customer that is not known."""
    return (None, None) if one is None else (one.standing.tier, one.standing.risk_level)


def _standing(one: Customer) -> tuple[object, ...]:
    """What has been announced of a customer, as of now."""
    standing = one.standing
    alert = None if standing.alert is None else standing.alert.state
    return standing.tier, standing.risk_level, standing.stage, alert, standing.lock, standing.qualification


def _events(one: Customer) -> tuple[object, ...]:
    """The facts of a customer, which do not depend on when each event was folded."""
    facts = one.facts
    return (
        facts.first_purchase_ms, facts.last_purchase_ms, facts.purchase_days, facts.orders, facts.spend_minor,
        facts.complaints, facts.satisfaction, facts.prospecting, facts.last_day_minor, facts.region, one.erased_at_ms,
    )  # fmt: skip


def _kind(before: Customer, after: Customer) -> str:
    if _without_bounds(before) == _without_bounds(after):
        return EQUAL
    if _events(before) != _events(after):
        return FACTS
    return ANNOUNCED_OTHERWISE if _standing(before) == _standing(after) else STANDING


def _without_bounds(customer: Customer) -> bytes:
    """A state without its due times, for which any earlier instant would do as well."""
    plain = copied(customer)
    plain.due_at_ms = plain.tier_due_ms = 0
    return models.encode(plain)
