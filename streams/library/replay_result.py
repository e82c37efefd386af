"""Replays events under a policy; the result has the lines that `tierstream replay` writes, decoded on access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, overload

import msgspec

from models import contracts
from models.contracts import (
    OUTPUT_BODIES,
    AlertChange,
    BehaviourChange,
    Erasure,
    Profile,
    QualificationChange,
    RiskChange,
    StageChange,
    TierChange,
)
from models.outputs import ALERTS, ANNOUNCEMENTS, CHURN_RISK, DEAD_LETTERS, LIFE_CYCLE, PROFILES, TIER_CHANGES
from models.policy import Policy
from streams.library import columns, dataframes
from streams.library.inputs import Events, instant_of, logs_of, policy_of
from streams.workshop.replay.results import OUTPUT_FILES, Results, files_of
from streams.workshop.replay.run import replay_into

T = TypeVar("T")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that can't be used, and why."""

    topic: str
    """Empty if the event names none."""
    file: str | None = None
    """The name of its file; of an event in memory its topic, or `events`."""
    line: int | None = None
    """Its line in the file, or its number among the events, from 1."""
    partition: int | None = None
    offset: int | None = None
    """Its offset in a topic."""
    reason: str
    """A stable reason code."""
    detail: str
    value: str | None
    """The original text."""


TABLES: Final[dict[str, tuple[type[msgspec.Struct], ...]]] = {**OUTPUT_BODIES, DEAD_LETTERS: (DeadLetter,)}
"""The outputs of a replay, and the classes of their records."""
_decode_dead_letter: Final = msgspec.json.Decoder(DeadLetter).decode


class _CustomerId(msgspec.Struct):
    customer_id: str


_decode_customer_id: Final = msgspec.json.Decoder(_CustomerId).decode


class Records(Sequence[T], Generic[T]):
    """The records of an output, in order. A record is decoded when it is accessed; `lines` are the encoded records."""

    __slots__ = ("lines", "name")

    def __init__(self, name: str, lines: Sequence[bytes]) -> None:
        self.name = name
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Records[T]: ...
    def __getitem__(self, place: int | slice) -> T | Records[T]:
        if isinstance(place, slice):
            return Records(self.name, self.lines[place])
        return self._decoded(self.lines[place])

    def __iter__(self) -> Iterator[T]:
        return map(self._decoded, self.lines)

    def __repr__(self) -> str:
        return f"<{len(self):,} {self.name}>"

    def _decoded(self, line: bytes) -> T:
        record: Any = _decode_dead_letter(line) if self.name == DEAD_LETTERS else contracts.decode(self.name, line)
        return record  # type: ignore[no-any-return]


LifeCycleChange = StageChange | BehaviourChange | QualificationChange
Announcement = TierChange | Erasure | RiskChange | LifeCycleChange | AlertChange


@dataclass(frozen=True)
class Story:
    """One customer: the announcements about them, in order, and their profile at the end."""

    customer_id: str
    announcements: tuple[Announcement, ...]
    profile: Profile | None
    """None after an erasure."""

    def __str__(self) -> str:
        return "\n".join(f"{one.occurred_at:%Y-%m-%d}  {one.change:20}  {_summarised(one)}".rstrip() for one in self)

    def __iter__(self) -> Iterator[Announcement]:
        return iter(self.announcements)


def _summarised(one: Announcement) -> str:
    if isinstance(one, TierChange):
        moved = "" if one.before.tier == one.after.tier else f"{one.before.tier} → "
        return f"{moved}{one.after.tier}" + ("" if one.needs is None else f"; {one.needs.text}")
    if isinstance(one, RiskChange):
        cause = f", mostly by {one.main_cause}" if one.change in ("raised", "escalated") else ""
        return f"risk {one.before.level} → {one.after.level} ({one.after.probability:.0%}){cause}"
    if isinstance(one, AlertChange):
        what = "" if one.after.action is None else f"; {one.after.action.do}"
        return f"alert {one.after.number} is {one.after.state}{what if one.change == 'opened' else ''}"
    if isinstance(one, StageChange):
        return f"{one.before.stage or 'new here'} → {one.after.stage}"
    return ""


@dataclass(frozen=True, repr=False)
class Replayed:
    """The result of a replay of events under a policy. It is immutable; records are decoded when they are accessed."""

    policy: Policy
    summary: Mapping[str, Any]
    """The figures of the replay, as `tierstream replay --json` prints them."""
    lines: Mapping[str, tuple[bytes, ...]]
    """By output, the lines that `tierstream replay` writes, without line ends."""

    def __repr__(self) -> str:
        tiers = ", ".join(f"{self.summary['tiers'].get(name, 0):,} {name}" for name in self.policy.ladder.tier_names)
        return f"<{self.policy.ref}: {self.summary['events']:,} events of {self.summary['customers']:,} customers; {tiers}>"

    @property
    def tier_changes(self) -> Records[TierChange | Erasure]:
        """The changes of tiers, and erasures."""
        return Records(TIER_CHANGES, self.lines[TIER_CHANGES])

    @property
    def churn_risk(self) -> Records[RiskChange]:
        """The changes of risk levels."""
        return Records(CHURN_RISK, self.lines[CHURN_RISK])

    @property
    def life_cycle(self) -> Records[LifeCycleChange]:
        """The changes of stages, behaviour and qualification, under a policy with `[life_cycle]`."""
        return Records(LIFE_CYCLE, self.lines[LIFE_CYCLE])

    @property
    def alerts(self) -> Records[AlertChange]:
        """The changes of alerts, under a policy with `[alerts]`."""
        return Records(ALERTS, self.lines[ALERTS])

    @property
    def profiles(self) -> Records[Profile]:
        """The profile of every customer at the end, in the order of their ids."""
        return Records(PROFILES, self.lines[PROFILES])

    @property
    def dead_letters(self) -> Records[DeadLetter]:
        """The events that could not be used, and why."""
        return Records(DEAD_LETTERS, self.lines[DEAD_LETTERS])

    def customer(self, customer_id: str) -> Story:
        """The announcements about a customer, and their profile. Raises LookupError."""
        found = self._by_customer.get(customer_id)
        if found is None:
            raise LookupError(f"no customer {customer_id!r} is known")
        bodies = [contracts.decode(name, self.lines[name][place]) for name, place in found]
        announcements = [one for one in bodies if not isinstance(one, Profile)]
        profile = next((one for one in bodies if isinstance(one, Profile)), None)
        return Story(customer_id, tuple(sorted(announcements, key=lambda one: one.seq)), profile)

    @cached_property
    def _by_customer(self) -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = {}
        for name in (*ANNOUNCEMENTS, PROFILES):
            for place, line in enumerate(self.lines[name]):
                found.setdefault(_decode_customer_id(line).customer_id, []).append((name, place))
        return found

    def to_arrow(self, name: str) -> Any:
        """An output as an Arrow table: `tier_changes`, `churn_risk`, `life_cycle`, `alerts`, `profiles` or
        `dead_letters`.
        """
        output = name.replace("_", "-")
        if output not in TABLES:
            known = ", ".join(one.replace("-", "_") for one in TABLES)
            raise LookupError(f"there is no table {name!r}; the tables are {known}")
        rows: Records[Any] = Records(output, self.lines[output])
        return columns.arrow_table(TABLES[output], rows, self.policy)

    def to_pandas(self, name: str) -> Any:
        """The same as a pandas DataFrame."""
        return dataframes.to_pandas(self.to_arrow(name))

    def to_polars(self, name: str) -> Any:
        """The same as a Polars DataFrame."""
        return dataframes.to_polars(self.to_arrow(name))

    def write(self, folder: str | Path) -> None:
        """Write the files that `tierstream replay` would write."""
        into = Path(folder)
        into.mkdir(parents=True, exist_ok=True)
        for name, lines in self.lines.items():
            (into / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


class _Lines(list[bytes]):
    def write(self, line: bytes) -> None:
        self.append(line[:-1])


def replay(
    events: Events,
    policy: Policy | Mapping[str, Any] | str | Path,
    until: str | int | date | None = None,
    *,
    maps: Sequence[str] = (),
    recorded_lines: bool = False,
) -> Replayed:
    """Fold events under a policy, as `tierstream replay` does. Raises ValueError that says what is wrong and what to
    do.

    `events` are dicts or JSON texts in the order of their arrival, one for each event (with its `topic`, unless only
    one topic has such fields); a path or several; a table of pandas, Polars or Arrow with such columns; or a mapping
    from topics to dicts or tables. Several logs are merged by time. `policy` is a Policy, the id of a shipped one, a
    path, a TOML text or its tables. At the end every customer is advanced to `until`; without it, to the time of the
    latest event.

    >>> result = replay([{"event_id": "1", "order_id": "1", "kind": "purchase", "customer_id": "ada", "amount": "150.0",
    ...                   "currency": "USD", "occurred_at": "2026-01-05T00:00:00Z"}], "annual-spend")
    >>> [(one.customer_id, one.before.tier, one.after.tier) for one in result.tier_changes]
    [('ada', 'member', 'silver')]
    """
    chosen, until_ms = policy_of(policy), instant_of(until)
    sinks = {name: _Lines() for name in OUTPUT_FILES}
    logs = logs_of(events, maps)
    summary = replay_into(Results(chosen, sinks, files_of(logs)), logs, until_ms, False, recorded_lines)
    return Replayed(chosen, summary, MappingProxyType({name: tuple(lines) for name, lines in sinks.items()}))
