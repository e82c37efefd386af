"""A batch of events folded into customers: what the worker and the replay have in common.

What a batch will do is settled before anything is folded (`Plan`): first time, then events. So a journal can say it in
advance. Customers are bytes outside and decoded once per batch, however many of its events are theirs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from librt.strings import read_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from models import units
from models.bodies import EVERYBODY, Command
from models.customer import NEVER_MS, Customer
from models.editions import Editions
from models.events import Event, Rejected
from models.fold import NOTHING, advance_own, apply_own, new_customer, switch_own
from models.outputs import Output
from models.state import decode, due_at_ms_of, edition_of, encode
from streams.engine.merge import Record

NOBODY: Final[Mapping[bytes, bytes]] = {}
ROOM_PER_CUSTOMER: Final = 256
ROOM_PER_EVENT: Final = 192
"""Bytes by which a customer's encoded state can be expected to grow, at the most, per batch and per event."""
_ALL_BITS: Final = 2**64 - 1
# Final, so that compiled code need not look for them.
_digest: Final = xxh3_64_digest
_digest_of_key: Final[Callable[[bytes], Any]] = xxh3_64_intdigest
EVERYBODY_KEY: Final = EVERYBODY.encode()
SLOT_MS: Final = units.HOUR_MS
ENTRIES_AHEAD: Final = 500
"""Entries of the next hour taken into the heap at each look, which are at least a few a second."""
MOST_DUE: Final = 500
"""Customers advanced in one batch; those that are left are due in the next."""
LOOKS_PER_REVIEW: Final = 20
"""How many customers who were judged already are passed over for each that is still to be."""
STEPS_A_TURN: Final = 100
"""Customers and records folded before others get a turn: appends under way, pages, timers."""


class DeadLetter(NamedTuple):
    """A rejected record and why."""

    code: str
    detail: str
    record: Record


class Plan(NamedTuple):
    """What a batch will do, in this order: advance customers to a time, judge some under a new edition, fold records."""

    until_ms: int
    due: list[bytes]
    """The customers to advance, in the order in which they are due."""
    review: list[bytes]
    """Customers of an older edition of the policy."""
    records: list[Record]
    shadow: Plan | None = None
    """What the table of the shadow policy does in the same batch, with the same records."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        shadow = self.shadow
        return not self.due and not self.review and not self.records and (shadow is None or shadow.is_empty)

    def step(self, number: int) -> bytes | Record:
        """The customer or the record whose turn comes after so many others."""
        customers = [*self.due, *self.review]
        return customers[number] if number < len(customers) else self.records[number - len(customers)]


class Turns:
    """Customers who are dealt with one after the other, unless that happens in the meantime for an event of theirs."""

    def __init__(self, waiting: list[bytes]) -> None:
        self._waiting = waiting

    def _is_done(self, key: bytes) -> bool:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> Iterator[bytes]:
        """The next so many, removed as they are asked for; who is done with is passed over, a few for each."""
        looks = LOOKS_PER_REVIEW * most
        while self._waiting and most > 0 and looks > 0:
            looks -= 1
            key = self._waiting.pop()
            if not self._is_done(key):
                most -= 1
                yield key

    def is_over(self) -> bool:
        """Whether everybody is done with; looks at those whose turn is next."""
        while self._waiting and self._is_done(self._waiting[-1]):
            self._waiting.pop()
        return not self._waiting


class Review(Turns):
    """The customers who are still to be judged under the edition in force."""

    def __init__(self, customers: Mapping[bytes, bytes], number: int) -> None:
        # No more than a copy of references, so that an edition does not stop the stream; who is left is found out bit by bit.
        super().__init__(list(customers) if number else [])
        self._customers = customers
        self._number = number

    def _is_done(self, key: bytes) -> bool:
        return edition_of(self._customers[key]) == self._number


class Unseen(Turns):
    """The customers whom a shadow has still to take over from the table."""

    def __init__(self, own: Mapping[bytes, bytes], main: Mapping[bytes, bytes]) -> None:
        super().__init__([key for key in main if key not in own])
        self._own = own

    def _is_done(self, key: bytes) -> bool:
        return key in self._own


def make_plan(
    customers: Mapping[bytes, bytes],
    schedule: Schedule,
    review: Review,
    until_ms: int,
    records: Iterator[Record],
    max_events: int,
    max_bytes: int,
    beside: Mapping[bytes, bytes] = NOBODY,
) -> Plan:
    """Some due customers, then as many records as fit into a batch whose customers take at most `max_bytes`.

    Not all who are due, if they are many: events don't wait until everybody's time has come. One whose event it is, is
    advanced with it. Where the records are folded into customers `beside` as well, those have to fit likewise.
    """
    due: list[bytes] = []
    taken: list[Record] = []
    seen: set[bytes] = set()
    left_bytes = max_bytes
    for key in schedule.due(until_ms):
        due.append(key)
        seen.add(key)
        left_bytes -= len(customers[key]) + ROOM_PER_CUSTOMER
        if left_bytes <= 0 or len(due) >= MOST_DUE:
            break
    reviewed = list(review.take(MOST_DUE - len(due))) if left_bytes > 0 else []
    for key in reviewed:
        seen.add(key)
        left_bytes -= len(customers[key]) + ROOM_PER_CUSTOMER
    while len(taken) < max_events and left_bytes > 0:
        record = next(records, None)
        if record is None:
            break
        taken.append(record)
        left_bytes -= ROOM_PER_EVENT
        event = record.decoded
        if isinstance(event, Event) and event.key not in seen:
            seen.add(event.key)
            left_bytes -= max(len(customers.get(event.key, b"")), len(beside.get(event.key, b""))) + ROOM_PER_CUSTOMER
    return Plan(until_ms, due, reviewed, taken)


def fingerprint(key: bytes, state: bytes) -> int:
    """64 bits that stand for a customer's id and state."""
    return unsigned(read_i64_be(_digest(state, _digest_of_key(key)), 0))


def unsigned(word: i64) -> int:
    """A machine word's 64 bits as a number that is not negative."""
    return int(word) & _ALL_BITS


class Changes:
    """Customers that changed, as they are kept, and what the table has to know about that."""

    def __init__(self, kept: Mapping[bytes, bytes], advanced: Iterable[bytes] = ()) -> None:
        self._kept_of: Callable[[bytes], bytes | None] = kept.get
        self._advanced = set(advanced)
        """Whose entries in the schedule are gone."""
        self.states: dict[bytes, bytes] = {}
        self.new = 0
        """How many of them were not there before."""
        self._checksum: i64 = 0
        self.due: list[tuple[int, bytes]] = []
        """The entries that the schedule lacks: one that moved later keeps its own."""

    def add(self, key: bytes, state: bytes) -> None:
        """A customer's state; nothing if it is as before."""
        kept = self._kept_of(key)
        if kept == state and key not in self._advanced:
            return
        due_at_ms = due_at_ms_of(state)
        seed = _digest_of_key(key)  # as in `fingerprint`, once for both
        if kept is None:
            self.new += 1
            self.due.append((due_at_ms, key))
        else:
            self._checksum ^= read_i64_be(_digest(kept, seed), 0)
            if due_at_ms < due_at_ms_of(kept) or key in self._advanced:
                self.due.append((due_at_ms, key))
        self._checksum ^= read_i64_be(_digest(state, seed), 0)
        self.states[key] = state

    @property
    def checksum(self) -> int:
        """The fingerprints of their states before and after, xored."""
        return unsigned(self._checksum)


class Batch:
    """Customers being folded, from the first event to the bytes that are kept."""

    def __init__(self, editions: Editions, customers: Mapping[bytes, bytes], quietly: bool = False) -> None:
        self._quietly = quietly
        """Outputs without ids and bodies."""
        self.editions = editions
        """Those after what was folded."""
        self._policy = editions.current
        self._edition = editions.number
        self._kept = customers
        self._kept_of: Callable[[bytes], bytes | None] = customers.get
        self._advanced: list[bytes] = []
        self._customers: dict[bytes, Customer] = {}
        self.outputs: list[Output] = []
        self.dead_letters: list[DeadLetter] = []
        self.repeats: Counter[str] = Counter()
        """Events that had been counted before and changed nothing, by topic."""
        self.events = 0
        self.latest_ms = -1
        """The latest `occurred_at` folded."""
        self.steps = 0
        """How many customers and records of the plan are done with."""

    def fold(self, plan: Plan) -> Iterator[None]:
        """Do what the plan says; yields now and then, so that others get a turn."""
        self._advanced = plan.due
        for key in plan.due:
            self._advance(key, plan.until_ms)
            self.steps += 1
            if self.steps % STEPS_A_TURN == 0:
                yield
        for key in plan.review:
            self._customer(key)
            self.steps += 1
            if self.steps % STEPS_A_TURN == 0:
                yield
        for record in plan.records:
            self._fold(record)
            self.steps += 1
            if self.steps % STEPS_A_TURN == 0:
                yield

    def _advance(self, key: bytes, until_ms: int) -> None:
        customer = self._customer(key)
        assert customer is not None, "who is due is known"
        self.outputs.extend(advance_own(customer, until_ms, self._policy, key.decode(), self._quietly))

    def _fold(self, record: Record) -> None:
        event = record.decoded
        if isinstance(event, Rejected):
            self.events += 1
            self.dead_letters.append(DeadLetter(event.code, event.detail, record))
            return
        self.latest_ms = max(self.latest_ms, event.occurred_at_ms)
        key = event.key
        if key == EVERYBODY_KEY and isinstance(event.body, Command):
            self._begin_edition(event.body, event.occurred_at_ms, record)
            return
        self.events += 1
        customer = self._customer(key)
        is_new = customer is None
        if customer is None:
            customer = new_customer(self._policy, event.occurred_at_ms)
        result = apply_own(customer, event, self._policy, self._quietly)
        if isinstance(result, Rejected):
            self.dead_letters.append(DeadLetter(result.code, result.detail, record))
            return
        if is_new:
            self._customers[key] = customer
        if result:
            self.outputs.extend(result)
        elif result is NOTHING:
            self.repeats[record.topic] += 1

    def _customer(self, key: bytes) -> Customer | None:
        customer = self._customers.get(key)
        if customer is None:
            kept = self._kept_of(key)
            if kept is None:
                return None
            customer = self._customers[key] = decode(kept)
        if customer.edition != self._edition:
            for before, edition in self.editions.steps_from(customer.edition):
                after, effective_ms = edition.policy, edition.effective_ms
                self.outputs.extend(switch_own(customer, before, after, effective_ms, key.decode(), self._quietly))
        return customer

    def _begin_edition(self, command: Command, at_ms: int, record: Record) -> None:
        """From here on customers are judged under another edition, each when their turn comes."""
        if command.edition is not None and command.edition <= self._edition:
            return  # sent twice
        try:
            self.editions = self.editions.begun_with(command, at_ms)
        except ValueError as error:
            self.events += 1
            self.dead_letters.append(DeadLetter("bad_edition", str(error), record))
            return
        self._policy, self._edition = self.editions.current, self.editions.number

    def changes(self, kept: Mapping[bytes, bytes] | None = None) -> Changes:
        """The customers that changed; from what is `kept` in a table, if that is not where they were taken from."""
        changes = Changes(self._kept if kept is None else kept, self._advanced)
        for key, customer in self._customers.items():
            changes.add(key, encode(customer))
        return changes


class Schedule:
    """Which customers are due when. Costs grow with the number due, not with the number of customers.

    Every customer with a due time has an entry no later than it; an entry that turns out too early is put back. What is far
    off lies unsorted by the hour, eight bytes a customer; what is near is a heap. An hour is opened little by little in the
    hour before it, so that it does not matter how many customers are due in one.
    """

    def __init__(self, customers: Mapping[bytes, bytes]) -> None:
        self._customers = customers
        self._near: list[tuple[int, bytes]] = []
        """A heap of due time and id: the entries of all slots before `_open`, and some of that."""
        self._far: dict[int, list[bytes]] = {}
        self._far_slots: list[int] = []
        """A heap of the keys of `_far`."""
        self._open = 0
        self.rebuild()

    def __len__(self) -> int:
        return len(self._near) + sum(map(len, self._far.values()))

    def rebuild(self) -> None:
        """Enter every customer anew."""
        self._near, self._far, self._far_slots, self._open = [], {}, [], 0
        for key, kept in self._customers.items():
            self._enter(due_at_ms_of(kept), key)

    def enter(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Enter customers at their due times."""
        for due_at_ms, key in entries:
            self._enter(due_at_ms, key)

    def next_ms(self) -> int:
        """No customer is due before this."""
        near_ms = self._near[0][0] if self._near else NEVER_MS
        return min(near_ms, self._far_slots[0] * SLOT_MS) if self._far_slots else near_ms

    def count_due(self, until_ms: int, most: int) -> int:
        """About how many customers are due up to `until_ms`; of those of the hour in hand no more than `most` are counted.

        Some may have bought since they were entered, and will turn out not to be due.
        """
        near, found, look_at = self._near, 0, [0]
        while look_at and found < most:
            place = look_at.pop()
            if place < len(near) and near[place][0] <= until_ms:
                found += 1
                look_at += (2 * place + 1, 2 * place + 2)  # nothing below an entry of a heap is earlier
        if self._far_slots and self._far_slots[0] < until_ms // SLOT_MS:
            found += sum(len(keys) for slot, keys in self._far.items() if slot < until_ms // SLOT_MS)
        return found

    def due(self, until_ms: int) -> Iterator[bytes]:
        """The customers due up to `until_ms`, in the order of due time and id, removed as they are asked for."""
        self._open_up_to(until_ms // SLOT_MS)
        near = self._near
        while near and near[0][0] <= until_ms:
            entry = heapq.heappop(near)
            while near and near[0] == entry:
                heapq.heappop(near)
            entered_ms, key = entry
            due_at_ms = self._due_at_ms(key)
            if due_at_ms == entered_ms:
                yield key
            elif entered_ms < due_at_ms:
                self._enter(due_at_ms, key)

    def _due_at_ms(self, key: bytes) -> int:
        kept = self._customers.get(key)
        return NEVER_MS if kept is None else due_at_ms_of(kept)

    def _enter(self, due_at_ms: int, key: bytes) -> None:
        if due_at_ms == NEVER_MS:
            return
        slot = due_at_ms // SLOT_MS
        if slot < self._open:
            heapq.heappush(self._near, (due_at_ms, key))
            return
        keys = self._far.get(slot)
        if keys is None:
            self._far[slot] = [key]
            heapq.heappush(self._far_slots, slot)
        else:
            keys.append(key)

    def _open_up_to(self, slot: int) -> None:
        """Have all slots up to this one in the heap, and a part of the next."""
        while self._far_slots and self._far_slots[0] <= slot:
            opened = heapq.heappop(self._far_slots)
            self._open = opened + 1
            # A customer who moved to and fro is in it several times; put back once, they don't become ever more.
            for key in dict.fromkeys(self._far.pop(opened)):
                self._enter_near(key, opened)
        self._open = max(self._open, slot + 1)
        ahead = self._far.get(self._open)
        if ahead:
            for _ in range(min(ENTRIES_AHEAD, len(ahead))):
                self._enter_near(ahead.pop(), self._open)

    def _enter_near(self, key: bytes, slot: int) -> None:
        """Take over an entry of a slot, at the time when the customer is due now; put back if that is later."""
        due_at_ms = self._due_at_ms(key)
        if due_at_ms // SLOT_MS <= slot:
            heapq.heappush(self._near, (due_at_ms, key))
        else:
            self._enter(due_at_ms, key)
