"""A shadow policy: folded beside the policy in force, it shows what would be announced if it were activated now.

    the table's batch -> the same records, folded under the shadow policy -> *-shadow topics, a changelog of its own

A shadow begins as an activation does (models.policy.editions), with the table as it is at that moment, and from then on
shares the table's batches: records decoded once, one journal entry, one transaction. Customers are taken over from the
table one by one, before the table changes them; so a customer that is not in the shadow's changelog is in the table as
when the shadow began. A shadow that missed a batch, for instance because the worker ran without it, begins again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from models.customer import NEVER_MS
from models.policy import Policy
from models.policy.editions import EditionError, Editions
from streams.engine.batch import Batch
from streams.engine.journal import Entry, JournalError
from streams.engine.partition import Outcome
from streams.engine.plan import MOST_DUE, ROOM_PER_CUSTOMER, Plan
from streams.engine.schedule import Review, ShadowBacklog
from streams.engine.table import (
    ChangelogError,
    ChangelogRecord,
    Marker,
    RestoredTable,
    Table,
    TableRestorer,
    changelog_records,
)
from streams.topics import shadow_of
from streams.worker.context import Outgoing, PartitionDelivery
from streams.worker.delivery import by_topic

log = logging.getLogger(__name__)

EPOCH_BYTES: Final = 8
"""Each value in a shadow's changelog begins with the time at which the shadow began (ms), which tells earlier shadows
apart.
"""


class ShadowState(Enum):
    """Whether a partition has a shadow. The value of TO_BEGIN is what /stats says."""

    TO_BEGIN = "the shadow to begin"
    FOLDING = "folding"
    REFUSED = "the shadow policy can't follow the one in force"


class Shadow:
    """The customers of one partition under the shadow policy."""

    def __init__(self, policy: Policy, delivery: PartitionDelivery, number: int) -> None:
        self.policy = policy
        self.delivery = delivery
        self.log = logging.LoggerAdapter(log, {"partition": number})
        self.number = number
        self.table: Table | None = None
        """None while the shadow has not begun."""
        self.waiting: ShadowBacklog = ShadowBacklog({}, {})
        """The customers that still have to be taken over from the table."""
        self.refusal: str | None = None
        """Why the policy can't follow the one in force; None if it can, or if that was not tried yet."""
        self._epoch_ms = 0
        self._customers: ShadowCustomers = ShadowCustomers({}, {})

    # ------------------------------------------------------------ begin and resume
    def resume(self, restoring: ShadowRestorer, main: Table, own: Policy) -> None:
        """Continue with the shadow in the changelog, if it missed no batch since; `own` is the table's own policy."""
        self._epoch_ms, self.table, self.refusal = restoring.epoch_ms, None, None
        if restoring.epoch_ms == 0:
            return
        try:
            restoring.check()
            restored = restoring.finish()
            editions = Editions.from_wire(own, restored.marker.editions, is_last=True)
        except (ChangelogError, EditionError) as error:
            self.log.warning("partition %d: the shadow begins again: %s", self.number, error)
            return
        latest = editions.latest
        if (latest.text, latest.parameters) != (self.policy.text, self.policy.fitted):
            return  # the shadow was another policy
        if editions.needs_table_policy and restored.marker.policy not in ("", own.ref):
            return
        if restored.marker.batch >= main.marker.batch:
            self._start_with(Table(restored, editions), main)

    async def ensure_begun(self, main: Table, policy: str) -> None:
        """Begin the shadow if it has not begun or missed a batch; `policy` is the one under which the table was
        made.
        """
        if self.table is not None and self.table.marker.batch != main.marker.batch:
            self.table = None
        if self.state is ShadowState.TO_BEGIN:
            await self._begin(main, policy)

    async def _begin(self, main: Table, policy: str) -> None:
        """Begin with the table as it is now. If the policy can't follow the one in force, log why; then there is no
        shadow.
        """
        try:
            editions = main.editions.with_trial(self.policy, main.marker.clock_ms)
        except EditionError as error:
            self.refusal = str(error)
            self.log.error("partition %d: no shadow: %s. The worker goes on without it", self.number, error)
            return
        self._epoch_ms = max(time.time_ns() // 1_000_000, self._epoch_ms + 1)
        marker = msgspec.structs.replace(
            main.marker, policy=policy, profiled=True, journal=0, customers=0, checksum=0, editions=editions.as_wire()
        )
        await self.delivery.begin([])
        await self.delivery.append_shadow(self.records({}, marker))
        await self.delivery.commit({})
        self._start_with(Table(RestoredTable(marker), editions), main)
        message = "partition %d: the shadow %s begins, with %d customers to be judged"
        self.log.info(message, self.number, self.policy.ref, len(self.waiting))

    def _start_with(self, table: Table, main: Table) -> None:
        self.table, self.refusal = table, None
        self._customers = ShadowCustomers(table.customers, main.customers)
        self.waiting = ShadowBacklog(table.customers, main.customers)
        table.review = Review({}, 0)  # customers of the shadow are judged as they are taken over

    @property
    def state(self) -> ShadowState:
        """Whether this partition has a shadow."""
        if self.table is not None:
            return ShadowState.FOLDING
        return ShadowState.TO_BEGIN if self.refusal is None else ShadowState.REFUSED

    # ------------------------------------------------------------ a batch
    @property
    def customers(self) -> Mapping[bytes, bytes]:
        """All customers: as they are under the shadow policy, or, if not taken over yet, as the table has them."""
        return self._customers

    def plan(self, main: Plan, max_bytes: int) -> Plan:
        """The shadow's part of a batch: customers due under it; customers to take over, because the table changes them
        or because they are next; and the same records. `max_bytes` limits the customers that the table does not change.
        """
        table, due = self.active_table, []
        for key in table.schedule.due(main.until_ms):
            due.append(key)
            max_bytes -= len(table.customers[key]) + ROOM_PER_CUSTOMER
            if max_bytes <= 0 or len(due) >= MOST_DUE:
                break
        # In the order in which the table changes them, each once.
        taken_over = dict.fromkeys(key for key in (*main.due, *main.review) if key not in table.customers)
        for key in self.waiting.take(MOST_DUE - len(due) if max_bytes > 0 else 0):
            taken_over[key] = None
            max_bytes -= len(self._customers[key]) + ROOM_PER_CUSTOMER
            if max_bytes <= 0:
                break
        return Plan(main.until_ms, due, list(taken_over), main.records, strays=main.strays)

    def plan_again(self, entry: Entry, main: Plan, where: str) -> Plan | None:
        """The shadow's plan from a journal entry; None if that batch is done, or had no shadow. Raises JournalError."""
        if entry.shadow is None:
            self.table = None
        if entry.shadow is None or self.table is None or self.table.marker.batch >= entry.batch:
            return None
        due = list(islice(self.table.schedule.due(main.until_ms), entry.shadow.due))
        review = [key.encode() for key in entry.shadow.review]
        if len(due) != entry.shadow.due or any(key not in self._customers for key in review):
            raise JournalError(
                f"{where}, batch {entry.batch}: the shadow's part of the journal does not fit its changelog. Start the "
                "worker once without --shadow; when it is started with it again, the shadow begins again"
            )
        return Plan(main.until_ms, due, review, main.records, strays=main.strays)

    def next_ms(self) -> int:
        """A time before which no customer is due under the shadow policy."""
        return NEVER_MS if self.table is None else self.table.schedule.next_ms()

    def waits_for(self, clock_ms: int) -> list[str]:
        """What is still to be done, in words; empty if nothing is."""
        if self.table is None:
            return [self.state.value] if self.state is ShadowState.TO_BEGIN else []
        found = []
        if not self.waiting.is_over():
            found.append(f"{len(self.waiting)} customers to be judged under the shadow policy")
        if self.next_ms() <= clock_ms:
            found.append("customers that are due under the shadow policy")
        return found

    @property
    def active_table(self) -> Table:
        """The shadow's table; it has to have begun."""
        assert self.table is not None
        return self.table

    def records(self, changed: Mapping[bytes, bytes], marker: Marker) -> Iterator[tuple[bytes, bytes]]:
        """A batch as records of the shadow's changelog."""
        epoch = self._epoch_ms.to_bytes(EPOCH_BYTES, "big")
        return ((key, epoch + value) for key, value in changelog_records(changed, marker))


class ShadowBatch:
    """The shadow's part of a batch, from plan to commit."""

    def __init__(self, shadow: Shadow, plan: Plan) -> None:
        self.plan = plan
        self.batch = Batch(shadow.active_table.editions, shadow.customers)
        self._shadow = shadow
        self._appended: tuple[Outcome, Marker] | None = None

    def outputs(self, main: Batch) -> dict[str, list[Outgoing]]:
        """The shadow's announcements, and the dead letters that the table's batch does not have, as records by
        topic.
        """
        known = {(one.code, id(one.record)) for one in main.dead_letters}
        dead_letters = [one for one in self.batch.dead_letters if (one.code, id(one.record)) not in known]
        return {shadow_of(topic): records for topic, records in by_topic(self.batch.outputs, dead_letters).items()}

    async def append(self, main: Marker) -> None:
        """Write the changed customers of the shadow; `main` is the marker of the table's batch."""
        table, shadow = self._shadow.active_table, self._shadow
        changes, editions = self.batch.changes(table.customers), self.batch.editions
        if shadow.waiting.is_over():
            editions = editions.latest_only()
        outcome = Outcome(
            changes,
            editions,
            main.clock_ms,
            max(table.latest_ms, self.batch.latest_ms),
            len(table.customers) + changes.new,
            table.checksum ^ changes.checksum,
        )
        marker = msgspec.structs.replace(
            main,
            profiled=not table.unprofiled,
            journal=0,
            customers=outcome.customers,
            checksum=outcome.checksum,
            editions=editions.as_wire(),
        )
        self._appended = (outcome, marker)
        await shadow.delivery.append_shadow(shadow.records(changes.states, marker))

    def apply(self) -> Batch:
        """Apply the batch after it was committed; returns it."""
        assert self._appended is not None
        self._shadow.active_table.commit(*self._appended)
        return self.batch


class ShadowCustomers(Mapping[bytes, bytes]):
    """The customers of a shadow: its own states, and the table's for customers that it has not taken over yet."""

    def __init__(self, own: Mapping[bytes, bytes], main: Mapping[bytes, bytes]) -> None:
        self._own = own
        self._main = main

    def __getitem__(self, key: bytes) -> bytes:
        state = self.get(key)
        if state is None:
            raise KeyError(key)
        return state

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        """A customer's state."""
        state = self._own.get(key)
        return self._main.get(key, default) if state is None else state

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._main)

    def __len__(self) -> int:
        return len(self._main)


class _Record(NamedTuple):
    key: bytes | None
    value: bytes
    offset: int


class ShadowRestorer(TableRestorer):
    """Restores the latest shadow in a changelog."""

    def __init__(self, topic: str, number: int) -> None:
        super().__init__(topic, number)
        self.epoch_ms = 0
        """When the latest shadow began; 0 if the changelog has none."""
        self._damage: ChangelogError | None = None

    def feed(self, records: Iterable[ChangelogRecord]) -> None:
        """Take over records up to one that is damaged, for which `check` raises: a damaged shadow can begin again."""
        try:
            super().feed(self._latest(records))
        except ChangelogError as error:
            self._damage = error

    def check(self) -> None:
        """Raises ChangelogError if a record was damaged."""
        if self._damage is not None:
            raise self._damage

    def _latest(self, records: Iterable[ChangelogRecord]) -> Iterator[_Record]:
        for record in records:
            value = record.value or b""
            epoch_ms = int.from_bytes(value[:EPOCH_BYTES], "big")
            if epoch_ms > self.epoch_ms:
                self.epoch_ms, self._damage = epoch_ms, None
                self.start_over()
            if epoch_ms == self.epoch_ms:
                yield _Record(record.key, value[EPOCH_BYTES:], record.offset)
