"""A batch: customers advanced by time, then events folded into customers.

What a batch will do is decided before anything is folded (`Plan`), so that a journal can record it in advance. Outside
a batch customers are encoded states; a batch decodes each of its customers once, however many events they have in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from librt.strings import read_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from models.bodies import Command
from models.customer import Customer
from models.events import Rejected
from models.fold import NOTHING, advance_in_place, apply_in_place, new_customer, switch_in_place
from models.outputs import Output
from models.placement import EVERYBODY_KEY
from models.policy.editions import Editions
from models.state import decode, due_at_ms_of, encode
from streams.engine.merge import Record
from streams.engine.plan import Plan, Strays

_ALL_BITS: Final = 2**64 - 1
# Final, so that compiled code need not look for them.
_digest: Final = xxh3_64_digest
_digest_of_key: Final[Callable[[bytes], Any]] = xxh3_64_intdigest
STEPS_A_TURN: Final = 100
"""How many customers and records are folded before other tasks run: appends in progress, pages, timers."""


class DeadLetter(NamedTuple):
    """A rejected record, with the reason."""

    code: str
    detail: str
    record: Record


def fingerprint(key: bytes, state: bytes) -> int:
    """A 64-bit hash of a customer's id and state."""
    return unsigned(read_i64_be(_digest(state, _digest_of_key(key)), 0))


def unsigned(word: i64) -> int:
    """The 64 bits of a machine word as a non-negative number."""
    return int(word) & _ALL_BITS


class Changes:
    """The encoded states of the customers that changed, and how they change the table's count, checksum and
    schedule.
    """

    def __init__(self, kept: Mapping[bytes, bytes], advanced: Iterable[bytes] = ()) -> None:
        self._kept_of: Callable[[bytes], bytes | None] = kept.get
        self._advanced = set(advanced)
        """Customers whose entries the plan took from the schedule."""
        self.states: dict[bytes, bytes] = {}
        self.new = 0
        """How many of them the table did not have before."""
        self._checksum: i64 = 0
        self.due: list[tuple[int, bytes]] = []
        """Entries to add to the schedule. A customer whose due time moved later keeps the entry that the schedule
        has.
        """

    def add(self, key: bytes, state: bytes) -> None:
        """Add a customer's state, unless it did not change."""
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
        """The fingerprints of the states before and after, xored."""
        return unsigned(self._checksum)


class Batch:
    """Folds a plan: decodes its customers, collects outputs and dead letters, and encodes the customers that
    changed.
    """

    def __init__(self, editions: Editions, customers: Mapping[bytes, bytes], without_bodies: bool = False) -> None:
        self._without_bodies = without_bodies
        """Whether outputs are made without ids and bodies."""
        self.editions = editions
        """The editions after what was folded so far."""
        self._policy = editions.current
        self._edition = editions.number
        self._kept = customers
        self._kept_of: Callable[[bytes], bytes | None] = customers.get
        self._advanced: list[bytes] = []
        self._customers: dict[bytes, Customer] = {}
        self.outputs: list[Output] = []
        self.dead_letters: list[DeadLetter] = []
        self.strays: list[Record] = []
        """Records to be carried to the partitions where their customers live."""
        self._records: list[Record] = []
        self._stray_rule: Strays = "fold"
        self.repeats: Counter[str] = Counter()
        """How many events were repeats, which change nothing; by topic."""
        self.events = 0
        self.latest_ms = -1
        """The latest `occurred_at` folded."""
        self.steps = 0
        """How many customers and records of the plan are done."""

    def fold(self, plan: Plan) -> Iterator[None]:
        """Fold the plan; yields after every STEPS_A_TURN steps, so that the caller can let other tasks run."""
        self._advanced = plan.due
        self._records, self._stray_rule = plan.records, plan.strays
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
        assert customer is not None, "every customer that is due has a state"
        self.outputs.extend(advance_in_place(customer, until_ms, self._policy, key.decode(), self._without_bodies))

    def _fold(self, record: Record) -> None:
        event = record.decoded
        if isinstance(event, Rejected):
            self.events += 1
            self.dead_letters.append(DeadLetter(event.code, event.detail, record))
            return
        if record.is_stray and self._stray_rule != "fold":
            self._set_aside(record)
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

    def _set_aside(self, stray: Record) -> None:
        if self._stray_rule == "carry":
            self.strays.append(stray)
            return
        self.events += 1
        detail = (
            f"the record is in partition {stray.partition}, its customer in {stray.home}: its producer has another "
            "partitioner than TIERSTREAM_PARTITIONER says (docs/clients.md)"
        )
        self.dead_letters.append(DeadLetter("wrong_partition", detail, stray))

    @property
    def carried(self) -> list[Record]:
        """The records of the plan that were carried here from other partitions."""
        return [record for record in self._records if record.origin is not None]

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
        """Begin an edition: from now on each customer is judged under it, when it is next decoded."""
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
        """The customers that changed, compared with the states in `kept`; without it, with the states that the batch
        read.
        """
        changes = Changes(self._kept if kept is None else kept, self._advanced)
        for key, customer in self._customers.items():
            changes.add(key, encode(customer))
        return changes
