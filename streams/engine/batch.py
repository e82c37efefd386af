"""A batch of events folded into customers: what the worker and the replay have in common.

What a batch will do is settled before anything is folded (`Plan`): first time, then events. So a journal can say it in
advance. Customers are bytes outside and decoded once per batch, however many of its events are theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from librt.strings import read_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from models.bodies import EVERYBODY, Command
from models.customer import Customer
from models.events import Rejected
from models.fold import NOTHING, advance_in_place, apply_in_place, new_customer, switch_in_place
from models.outputs import Output
from models.policy.editions import Editions
from models.state import decode, due_at_ms_of, encode
from streams.engine.merge import Record
from streams.engine.plan import Plan

_ALL_BITS: Final = 2**64 - 1
# Final, so that compiled code need not look for them.
_digest: Final = xxh3_64_digest
_digest_of_key: Final[Callable[[bytes], Any]] = xxh3_64_intdigest
EVERYBODY_KEY: Final = EVERYBODY.encode()
STEPS_A_TURN: Final = 100
"""Customers and records folded before others get a turn: appends under way, pages, timers."""


class DeadLetter(NamedTuple):
    """A rejected record and why."""

    code: str
    detail: str
    record: Record


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

    def __init__(self, editions: Editions, customers: Mapping[bytes, bytes], without_bodies: bool = False) -> None:
        self._without_bodies = without_bodies
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
        self.outputs.extend(advance_in_place(customer, until_ms, self._policy, key.decode(), self._without_bodies))

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
        result = apply_in_place(customer, event, self._policy, self._without_bodies)
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
                self.outputs.extend(
                    switch_in_place(customer, before, after, effective_ms, key.decode(), self._without_bodies)
                )
        return customer

    def _begin_edition(self, command: Command, at_ms: int, record: Record) -> None:
        """From here on customers are judged under another edition, each when their turn comes."""
        if command.edition is not None and command.edition <= self._edition:
            return  # sent twice
        try:
            self.editions = self.editions.extended_by(command, at_ms)
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
