"""The tables of two app versions side by side, customer by customer, as of the same records and the same time.

Versions that run are never equally far. So what one has folded and the other has not, is folded in memory before they are
compared; nothing is written and nobody is disturbed. What is known of a customer depends on the set of their events
(models.customer.Facts), what was announced also on the order in which those met the clock. So the same policy gives the same
customers, but where a record came late: then one version may have told what the other had no reason to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

import models
from models.customer import Customer, copied
from models.policy import Policy
from models.policy.editions import Editions
from streams.engine.merge import merged
from streams.engine.partition import Partition
from streams.engine.table import Marker, Restored
from streams.settings import Settings
from streams.topics import INPUTS
from streams.versions.offline_partition import LogBetween, read_table
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import EVENTS_A_BATCH

EXAMPLES: Final = 5
"""Customers named of each kind of difference."""

EQUAL: Final = "equal"
TOLD_OTHERWISE: Final = "told otherwise"
STANDING: Final = "another standing"
FACTS: Final = "other facts"
ONLY_OLD: Final = "only in the old version"
ONLY_NEW: Final = "only in the new version"
KINDS: Final = {
    EQUAL: "the same in everything",
    TOLD_OTHERWISE: "the same events, tier, risk, stage and alert; told in another order, or as of another instant: records that came late "
    "met the clock otherwise",
    STANDING: "the same events, but another tier, risk, stage or alert: what was announced for a record that came late can't "
    "be unsaid, and graces run from it; or the program changed",
    FACTS: "not the same events counted: some came too late in one order and not in the other, or more than 64 after their repeat; "
    "or inputs were deleted, or the program changed",
    ONLY_OLD: "the inputs have nothing of them any more, or what they have is not accepted now",
    ONLY_NEW: "what was not accepted then is now",
}
"""What each means under one policy."""
HARMLESS: Final = frozenset({EQUAL, TOLD_OTHERWISE})


class Version(NamedTuple):
    """An app version and the policy that its table is made under."""

    settings: Settings
    policy: Policy

    @property
    def number(self) -> int:
        """As in TIERSTREAM_APP_VERSION."""
        return self.settings.app_version


class Difference(NamedTuple):
    """A customer of whom the versions say something else; tier and risk level in each, None where they are not known."""

    customer_id: str
    kind: str
    tiers: tuple[str | None, str | None]
    levels: tuple[str | None, str | None]


@dataclass
class Found:
    """What a comparison found."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Customers, by how they compare; under two policies those in both are EQUAL or of another STANDING."""
    tiers: Counter[tuple[str, str]] = field(default_factory=Counter)
    levels: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Customers in both, by tier and by risk level in the old version and the new."""
    records: tuple[int, int] = (0, 0)
    """Folded in memory, to get each side to where they are compared."""

    @property
    def customers(self) -> int:
        """All that there are in either."""
        return self.kinds.total()

    @property
    def moved(self) -> int:
        """Customers in both whose tiers differ."""
        return sum(count for (before, after), count in self.tiers.items() if before != after)

    @property
    def is_harmless(self) -> bool:
        """Whether there is nothing that the order of records alone does not account for."""
        return set(+self.kinds) <= HARMLESS


def reach(markers: tuple[Marker, Marker]) -> tuple[dict[str, int], int]:
    """The least position and time that neither table is beyond."""
    first, second = markers
    offsets = {topic: max(first.offsets.get(topic, -1), second.offsets.get(topic, -1)) for topic in INPUTS}
    return offsets, max(first.clock_ms, second.clock_ms)


async def compare_partition(old: Version, new: Version, number: int, found: Found) -> list[Difference]:
    """Compare one partition; adds to `found`, and gives the customers who differ in a way that is not harmless.

    Raises what reading tables and inputs raises.
    """
    tables = [await read_table(one.settings, number) for one in (old, new)]
    offsets, until_ms = reach((tables[0].marker, tables[1].marker))
    sides = [
        _taken_to(version, number, table, offsets, until_ms) for version, table in zip((old, new), tables, strict=True)
    ]
    found.records = (found.records[0] + sides[0][1], found.records[1] + sides[1][1])
    same_policy = old.policy.ref == new.policy.ref
    return list(differences(sides[0][0].customers, sides[1][0].customers, same_policy, found))


def differences(
    old: Mapping[bytes, bytes], new: Mapping[bytes, bytes], same_policy: bool, found: Found
) -> Iterator[Difference]:
    """Customers compared; adds to `found`, and gives those who differ in a way that is not harmless."""
    for key in sorted(old.keys() | new.keys()):
        states = [models.decode(side[key]) if key in side else None for side in (old, new)]
        before, after = states
        if before is None or after is None:
            kind = ONLY_NEW if before is None else ONLY_OLD
        elif same_policy:
            kind = EQUAL if old[key] == new[key] else _kind(before, after)
        else:
            kind = EQUAL if _known_as(before) == _known_as(after) else STANDING
        found.kinds[kind] += 1
        if before is not None and after is not None:
            found.tiers[before.standing.tier, after.standing.tier] += 1
            found.levels[before.standing.risk_level, after.standing.risk_level] += 1
        if kind not in HARMLESS:
            (tier, level), (new_tier, new_level) = map(_known_as, states)
            yield Difference(key.decode(), kind, (tier, new_tier), (level, new_level))


def _taken_to(
    version: Version, number: int, table: Restored, offsets: Mapping[str, int], until_ms: int
) -> tuple[Partition, int]:
    """A table in memory, taken to a position and a time; and how many records that took."""
    policy, marker = version.policy, table.marker
    partition = Partition(Editions.from_wire(policy, marker.editions), table.customers, marker.clock_ms)
    replay = Replay(policy, with_recorded_thresholds=True, partition=partition, without_bodies=True)
    folded = 0
    with closing(LogBetween(version.settings, number, marker.offsets, offsets)) as log:
        records = merged(log.streams(policy.decoder(), lambda _: None), INPUTS)
        while turn := list(islice(records, EVENTS_A_BATCH)):
            folded += len(turn)
            for _ in replay.fold(turn):
                pass
    for _ in replay.finish(until_ms):
        pass
    return replay.partition, folded


def _known_as(one: Customer | None) -> tuple[str | None, str | None]:
    """Tier and risk level."""
    return (None, None) if one is None else (one.standing.tier, one.standing.risk_level)


def _standing(one: Customer) -> tuple[object, ...]:
    """What others know a customer by, as of now."""
    standing = one.standing
    alert = None if standing.alert is None else standing.alert.state
    return standing.tier, standing.risk_level, standing.stage, alert, standing.lock, standing.qualification


def _events(one: Customer) -> tuple[object, ...]:
    """What is known of a customer that does not depend on when they were looked at."""
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
    return TOLD_OTHERWISE if _standing(before) == _standing(after) else STANDING


def _without_bounds(customer: Customer) -> bytes:
    """A state but for when to look at it next, which any earlier instant will do for."""
    plain = copied(customer)
    plain.due_at_ms = plain.tier_due_ms = 0
    return models.encode(plain)
