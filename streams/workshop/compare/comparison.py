"""Compares two policies over one log, in one pass: the tier of every customer under each, and what each announced.

Every record is read and decoded once, and folded twice. Announcements are only counted, so only the states of customers
grow with the log, and the results of several processes can be added.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

import models
from models import buckets, explain, units
from models.bodies import Command
from models.customer import NEVER_MS, Customer
from models.events import Event, Rejected
from models.outputs import ALERTS, CHURN_RISK, TIER_CHANGES
from models.policy import Policy
from streams.engine.batch import Batch
from streams.engine.merge import Record
from streams.sources.logs import Decodes, Log, LogError
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import in_turns
from streams.workshop.replay.shares import Agree, Share, run_shares

K = TypeVar("K")

YEAR_MS: Final = 365 * units.DAY_MS
MOVES: Final = ("upgrade", "downgrade")
RAISED: Final = ("raised", "escalated")
POLICY_DEPENDENT: Final = (
    "unknown_currency",
    "too_many_decimals",
    "amount_out_of_range",
    "unknown_tier",
    "bad_edition",
)
"""The reason codes with which one policy may reject a record that another accepts."""
UNKNOWN: Final = "–"
"""The tier of a customer if a policy accepted none of their events: all were too late, or in a currency that it does not
accept.
"""

NOWHERE: Final = ""
"""The region or the segment of customers who have none."""


@dataclass
class Group:
    """A group of customers: their revenue of a year, and how many are higher or lower under the second policy."""

    customers: int = 0
    revenue_minor: int = 0
    up: int = 0
    up_minor: int = 0
    down: int = 0
    down_minor: int = 0

    def add(self, other: Group) -> None:
        """Add the customers of another group."""
        self.customers += other.customers
        self.revenue_minor += other.revenue_minor
        self.up += other.up
        self.up_minor += other.up_minor
        self.down += other.down
        self.down_minor += other.down_minor


def _add_groups(groups: dict[K, Group], others: dict[K, Group]) -> None:
    for name, other in others.items():
        groups.setdefault(name, Group()).add(other)


class Mover(NamedTuple):
    """A customer whose tiers differ. Movers are ordered by lifetime value, the most valuable being the greatest."""

    lifetime_minor: int
    revenue_minor: int
    customer_id: str
    tiers: tuple[str, str]
    region: str
    why: tuple[str, str]
    """Under each policy, what keeps the tier, or what the tier of the other policy would take."""


@dataclass
class Side:
    """The counts of one policy over the log."""

    tiers: Counter[str] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Upgrades and downgrades by month."""
    alerts: Counter[int] = field(default_factory=Counter)
    """Alerts by day since the epoch (UTC): those opened or, if the policy has no alerts, risks raised and escalated."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Records that could not be used, by reason."""

    def add(self, other: Side) -> None:
        """Add the counts of other customers."""
        self.tiers.update(other.tiers)
        self.moves.update(other.moves)
        self.alerts.update(other.alerts)
        self.rejected.update(other.rejected)

    def count(self, batch: Batch, has_alerts: bool) -> None:
        """Count what a batch announced."""
        for one in batch.outputs:
            if one.topic == TIER_CHANGES:
                if one.change in MOVES:
                    self.moves[month_of(one.occurred_at_ms), one.change] += 1
            elif one.change == "opened" if has_alerts else one.change in RAISED:
                if one.topic == (ALERTS if has_alerts else CHURN_RISK):
                    self.alerts[one.occurred_at_ms // units.DAY_MS] += 1
        for dead_letter in batch.dead_letters:
            self.rejected[dead_letter.code] += 1


@dataclass
class Comparison:
    """The result of a comparison, over a log or over some of its customers."""

    most_movers: int
    sides: tuple[Side, Side] = field(default_factory=lambda: (Side(), Side()))
    events: int = 0
    begins_ms: int = NEVER_MS
    flows: dict[tuple[str, str], Group] = field(default_factory=dict)
    """By the tiers under each policy."""
    cohorts: dict[str, Group] = field(default_factory=dict)
    """By the month of the first purchase."""
    regions: dict[str, Group] = field(default_factory=dict)
    """NOWHERE is for customers without a known region."""
    segments: tuple[dict[str, Group], dict[str, Group]] = field(default_factory=lambda: ({}, {}))
    """Under each policy; empty if it has no segments. NOWHERE is for customers in no segment."""
    movers: list[Mover] = field(default_factory=list)
    """The most valuable movers, the most valuable first."""

    def add(self, other: Comparison) -> None:
        """Add the result for other customers."""
        for ours, theirs in zip(self.sides, other.sides, strict=True):
            ours.add(theirs)
        self.events += other.events
        self.begins_ms = min(self.begins_ms, other.begins_ms)
        _add_groups(self.flows, other.flows)
        _add_groups(self.cohorts, other.cohorts)
        _add_groups(self.regions, other.regions)
        for segments, others in zip(self.segments, other.segments, strict=True):
            _add_groups(segments, others)
        self.movers = heapq.nlargest(self.most_movers, [*self.movers, *other.movers])

    @property
    def all(self) -> Group:
        """All customers as one group."""
        everybody = Group()
        for group in self.flows.values():
            everybody.add(group)
        return everybody


class Comparing:
    """Folds the same records under two policies."""

    def __init__(
        self, policies: tuple[Policy, Policy], most_movers: int, with_recorded_thresholds: bool = False
    ) -> None:
        self.policies = policies
        self.found = Comparison(most_movers)
        self._replays = tuple(Replay(policy, with_recorded_thresholds, without_bodies=True) for policy in policies)
        self._second_decoder = policies[1].decoder()
        first, second = policies
        self._decoded_twice = {"commands"} if first.ladder.tier_names != second.ladder.tier_names else set()
        if (first.currency, first.rates) != (second.currency, second.rates):
            self._decoded_twice.add("purchases")

    @property
    def clock_ms(self) -> int:
        """The latest time of the records so far."""
        return max(replay.partition.clock_ms for replay in self._replays)

    def fold(self, records: list[Record]) -> None:
        """Fold records under both policies. Commands in the log that change the policy are ignored."""
        records = [record for record in records if not _changes_policy(record)]
        self.found.events += len(records)
        if self.found.begins_ms == NEVER_MS:
            times = [record.occurred_at_ms for record in records if record.occurred_at_ms >= 0]
            self.found.begins_ms = min(times, default=NEVER_MS)
        twice = self._decoded_twice
        others = [self._decode_again(one) if one.topic in twice else one for one in records] if twice else records
        self._count(0, self._replays[0].fold(records))
        self._count(1, self._replays[1].fold(others))

    def finish(self, as_of_ms: int) -> Comparison:
        """Advance all customers to an instant, and compare their tiers."""
        for number, replay in enumerate(self._replays):
            self._count(number, replay.finish(as_of_ms))
        ours, theirs = (replay.partition.customers for replay in self._replays)
        best: list[tuple[int, int, bytes]] = []
        for key in ours.keys() | theirs.keys():
            pair = _known(ours.get(key), as_of_ms), _known(theirs.get(key), as_of_ms)
            mover = self._compare(pair, as_of_ms)
            if mover is not None:
                worth = (*mover, key)
                if len(best) < self.found.most_movers:
                    heapq.heappush(best, worth)
                else:
                    heapq.heappushpop(best, worth)
        for lifetime_minor, revenue_minor, key in sorted(best, reverse=True):
            pair = _known(ours.get(key), as_of_ms), _known(theirs.get(key), as_of_ms)
            self.found.movers.append(self._mover(key, pair, lifetime_minor, revenue_minor))
        return self.found

    def _decode_again(self, record: Record) -> Record:
        """The record as the second policy decodes it, unless it was rejected for a reason that no policy affects."""
        if isinstance(record.decoded, Rejected) and record.decoded.code not in POLICY_DEPENDENT:
            return record
        decoded = self._second_decoder.decode(record.topic, record.value, record.key, record.timestamp_ms)
        return Record(
            record.topic, record.partition, record.offset, record.key, record.value, record.timestamp_ms, decoded
        )

    def _count(self, number: int, batches: Iterator[Batch]) -> None:
        side, has_alerts = self.found.sides[number], self.policies[number].alerts is not None
        for batch in batches:
            side.count(batch, has_alerts)

    # ------------------------------------------------------------ customers
    def _compare(self, pair: Pair, as_of_ms: int) -> tuple[int, int] | None:
        """Count a customer; returns the lifetime value and the revenue of one who moves, else None."""
        if pair[0] is None and pair[1] is None:
            return None
        tiers = _tiers(pair)
        for side, tier in zip(self.found.sides, tiers, strict=True):
            side.tiers[tier] += 1
        policy, customer = (self.policies[0], pair[0]) if pair[0] is not None else (self.policies[1], pair[1])
        assert customer is not None
        facts = customer.facts
        group = Group(1, revenue_minor := revenue_of(policy, customer, as_of_ms))
        way = direction(self.policies, tiers)
        if way > 0:
            group.up, group.up_minor = 1, revenue_minor
        elif way < 0:
            group.down, group.down_minor = 1, revenue_minor
        found = self.found
        found.flows.setdefault(tiers, Group()).add(group)
        if facts.first_purchase_ms >= 0:
            found.cohorts.setdefault(month_of(facts.first_purchase_ms), Group()).add(group)
        region = NOWHERE if facts.region is None else facts.region.name
        found.regions.setdefault(region, Group()).add(group)
        for number, one in enumerate(pair):
            if one is not None and self.policies[number].segments:
                segment = self._segment(number, one, as_of_ms) or NOWHERE
                found.segments[number].setdefault(segment, Group()).add(group)
        if not way:
            return None
        rank = policy.ladder.rank_of(customer.standing.tier)
        return policy.value.lifetime_minor(policy.risk, facts, rank, as_of_ms), revenue_minor

    def _segment(self, number: int, customer: Customer, as_of_ms: int) -> str | None:
        """The segment under one policy, by the thresholds in force, as the profile shows it."""
        policy = self._replays[number].partition.editions.current
        return policy.segment_of(policy.view(customer.facts, as_of_ms).at(as_of_ms))

    def _mover(self, key: bytes, pair: Pair, lifetime_minor: int, revenue_minor: int) -> Mover:
        first, second = pair
        assert first is not None, "both policies know a mover"
        assert second is not None, "both policies know a mover"
        ours, theirs = self.policies
        why = (_what_divides(ours, first, theirs, second), _what_divides(theirs, second, ours, first))
        region = explain.region_name(first.facts) or ""
        return Mover(lifetime_minor, revenue_minor, key.decode(), _tiers(pair), region, why)


Pair = tuple[Customer | None, Customer | None]


class UnlikeError(LogError):
    """The comparison can't be divided among processes."""


def compare(
    logs: Sequence[Log],
    policies: tuple[Policy, Policy],
    as_of_ms: int | None,
    most_movers: int,
    workers: int,
    progress: bool,
) -> tuple[Comparison, int]:
    """Compare two policies over logs, as of an instant or of the latest event; returns that instant (ms) too. Raises
    LogError.
    """
    relative = [policy.ref for policy in policies if policy.relative is not None]
    if workers > 1 and relative:
        raise UnlikeError(
            f"the thresholds of {relative[0]} depend on all customers, so one process has to see them all"
        )

    def share(number: int, agree: Agree) -> tuple[Comparison, int]:
        comparing, decoder = Comparing(policies, most_movers), policies[0].decoder()
        shares = [Share(decoder, number, workers) for _ in logs]
        keep = [one.is_mine for one in shares]
        compare_logs(logs, shares, comparing, as_of_ms, progress and number == 0, keep)
        until_ms = agree(comparing.clock_ms) if as_of_ms is None else agree(as_of_ms)
        return comparing.finish(until_ms), until_ms

    if workers > 1:
        whole, *others = run_shares(workers, share)
        for part, _ in others:
            whole[0].add(part)
        return whole
    comparing = Comparing(policies, most_movers)
    compare_logs(logs, [policies[0].decoder()] * len(logs), comparing, as_of_ms, progress)
    until_ms = comparing.clock_ms if as_of_ms is None else as_of_ms
    return comparing.finish(until_ms), until_ms


def compare_logs(
    logs: Sequence[Log],
    decoders: Sequence[Decodes],
    comparing: Comparing,
    as_of_ms: int | None,
    progress: bool,
    keep: Sequence[Callable[[Record], bool]] | None = None,
) -> None:
    """Fold logs under both policies, up to `as_of_ms`. Raises LogError."""
    for records in in_turns(logs, decoders, progress, keep, "comparing"):
        if as_of_ms is not None:
            records = [record for record in records if record.occurred_at_ms <= as_of_ms]  # noqa: PLW2901
        comparing.fold(records)


def revenue_days(policy: Policy) -> int:
    """The number of days over which revenue is counted: a year, or what the policy's window keeps."""
    return min(YEAR_MS, policy.window.keep_ms) // units.DAY_MS


def revenue_of(policy: Policy, customer: Customer, as_of_ms: int) -> int:
    """Net spend in the `revenue_days` before an instant, by the window's buckets, in minor units."""
    first = (as_of_ms - revenue_days(policy) * units.DAY_MS) // policy.window.bucket_ms + 1
    return buckets.total(customer.facts.buckets, first, NEVER_MS)[0]


def direction(policies: tuple[Policy, Policy], tiers: tuple[str, str]) -> int:
    """Whether the second tier is above (1) or below (-1) the first: by the first policy's ladder where it has both,
    else by the second's, else by their places from the bottom. 0 for the same name, or where there is nothing to
    compare.
    """
    before, after = tiers
    if before == after or UNKNOWN in tiers:
        return 0
    for policy in policies:
        names = policy.ladder.tier_names
        if before in names and after in names:
            return 1 if names.index(after) > names.index(before) else -1
    places = (policies[0].ladder.rank_of(before), policies[1].ladder.rank_of(after))
    return (places[1] > places[0]) - (places[1] < places[0])


def _what_divides(policy: Policy, customer: Customer, others: Policy, other: Customer) -> str:
    """Under a policy, what separates a customer from the other policy's tier, or from the tier of the same rank."""
    name, names = other.standing.tier, policy.ladder.tier_names
    if name not in names:
        name = names[min(others.ladder.rank_of(name), len(names) - 1)]
    return explain.what_divides(policy, customer, name)


def _changes_policy(record: Record) -> bool:
    body = record.decoded.body if isinstance(record.decoded, Event) else None
    return isinstance(body, Command) and body.command == "use_edition" and body.breakpoints is None


def month_of(at_ms: int) -> str:
    """The month (UTC) of an instant, as 2026-03."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")


def _known(state: bytes | None, as_of_ms: int) -> Customer | None:
    """A customer as of an instant; None if the customer is unknown or was erased."""
    if state is None:
        return None
    customer = models.decode(state)
    if customer.erased_at_ms == customer.clock_ms:
        return None
    customer.clock_ms = max(customer.clock_ms, as_of_ms)
    return customer


def _tiers(pair: Pair) -> tuple[str, str]:
    first, second = pair
    return UNKNOWN if first is None else first.standing.tier, UNKNOWN if second is None else second.standing.tier
