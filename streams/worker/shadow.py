"""A shadow policy: what another policy would bring if it were activated now, folded beside the first and told apart.

    the table's batch -> the same records, folded under the shadow policy -> *-shadow topics, a changelog of its own

A shadow begins as an activation does (models.policy.editions), on the table as it is then, and shares its batches from there on: decoded
once, in one journal entry, in one transaction. Customers are taken over from the table one by one, before the table changes
them; so whoever is not in the shadow's changelog is in the table still as they were when the shadow began. A shadow that missed
a batch, as when the worker ran without it, begins anew.
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
from streams.engine.schedule import Unseen
from streams.engine.table import ChangelogError, ChangelogRecord, Marker, Restored, Restoring, Table, changelog_records
from streams.topics import shadow_of
from streams.worker.context import Outgoing, PartitionDelivery
from streams.worker.delivery import by_topic

log = logging.getLogger(__name__)

EPOCH_BYTES: Final = 8
"""What the values of a shadow's changelog begin with: when it began (ms), so that what an earlier one left is not taken for it."""


class ShadowState(Enum):
    """Whether a partition has a shadow."""

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
        """None: it is still to begin."""
        self.waiting: Unseen = Unseen({}, {})
        """Who is still to be taken over."""
        self.refusal: str | None = None
        """Why the policy can't follow the one in force; None if it can, as far as is known."""
        self._epoch_ms = 0
        self._beside: Beside = Beside({}, {})

    # ------------------------------------------------------------ coming and going
    def restored(self, restoring: RestoringShadow, main: Table, own: Policy) -> None:
        """Go on with what its changelog holds, if nothing was missed since."""
        self._epoch_ms, self.table, self.refusal = restoring.epoch_ms, None, None
        if restoring.epoch_ms == 0:
            return
        try:
            restoring.check()
            restored = restoring.finish()
            editions = Editions.from_wire(own, restored.marker.editions, is_last=True)
        except (ChangelogError, EditionError) as error:
            self.log.warning("partition %d: the shadow begins anew: %s", self.number, error)
            return
        latest = editions.latest
        if (latest.text, latest.parameters) != (self.policy.text, self.policy.fitted):
            return  # another policy was the shadow
        if editions.needs_table_policy and restored.marker.policy not in ("", own.ref):
            return
        if restored.marker.batch >= main.marker.batch:
            self._take_up(Table(restored, editions), main)

    async def keep_up(self, main: Table, policy: str) -> None:
        """Begin, if that is still to be done or something was missed; `policy` is the one under which the table was made."""
        if self.table is not None and self.table.marker.batch != main.marker.batch:
            self.table = None
        if self.state is ShadowState.TO_BEGIN:
            await self._begin(main, policy)

    async def _begin(self, main: Table, policy: str) -> None:
        """Begin with the table as it is now. If the policy can't follow the one in force there is no shadow, and the log says why."""
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
        self._take_up(Table(Restored(marker), editions), main)
        said = "partition %d: the shadow %s begins, with %d customers to be judged"
        self.log.info(said, self.number, self.policy.ref, len(self.waiting))

    def _take_up(self, table: Table, main: Table) -> None:
        self.table, self.refusal = table, None
        self._beside = Beside(table.customers, main.customers)
        self.waiting = Unseen(table.customers, main.customers)

    @property
    def state(self) -> ShadowState:
        """Whether there is a shadow here."""
        if self.table is not None:
            return ShadowState.FOLDING
        return ShadowState.TO_BEGIN if self.refusal is None else ShadowState.REFUSED

    # ------------------------------------------------------------ a batch
    @property
    def customers(self) -> Mapping[bytes, bytes]:
        """All of them, as they are under it, or would be taken over."""
        return self._beside

    def plan(self, main: Plan, max_bytes: int) -> Plan:
        """What it does beside the table: who is due under it, who is taken over because the table moves them or because it is
        their turn, and the same records. `max_bytes` are for those whom the table does not move.
        """
        table, due = self.held, []
        for key in table.schedule.due(main.until_ms):
            due.append(key)
            max_bytes -= len(table.customers[key]) + ROOM_PER_CUSTOMER
            if max_bytes <= 0 or len(due) >= MOST_DUE:
                break
        # In the order in which the table moves them, each once.
        taken_over = dict.fromkeys(key for key in (*main.due, *main.review) if key not in table.customers)
        for key in self.waiting.take(MOST_DUE - len(due) if max_bytes > 0 else 0):
            taken_over[key] = None
            max_bytes -= len(self._beside[key]) + ROOM_PER_CUSTOMER
            if max_bytes <= 0:
                break
        return Plan(main.until_ms, due, list(taken_over), main.records)

    def plan_again(self, entry: Entry, main: Plan, where: str) -> Plan | None:
        """What the journal says of it; None if that is done already, or was not done beside the table. Raises JournalError."""
        if entry.shadow is None:
            self.table = None
        if entry.shadow is None or self.table is None or self.table.marker.batch >= entry.batch:
            return None
        due = list(islice(self.table.schedule.due(main.until_ms), entry.shadow.due))
        review = [key.encode() for key in entry.shadow.review]
        if len(due) != entry.shadow.due or any(key not in self._beside for key in review):
            raise JournalError(
                f"{where}, batch {entry.batch}: what the journal says of the shadow does not fit its changelog. Start the "
                "worker without --shadow once; with it again, the shadow begins anew"
            )
        return Plan(main.until_ms, due, review, main.records)

    def next_ms(self) -> int:
        """Nobody is due under it before this."""
        return NEVER_MS if self.table is None else self.table.schedule.next_ms()

    def waits_for(self, clock_ms: int) -> list[str]:
        """What is still to be done, in words."""
        if self.table is None:
            return [self.state.value] if self.state is ShadowState.TO_BEGIN else []
        found = []
        if not self.waiting.is_over():
            found.append(f"{len(self.waiting)} customers to be judged under the shadow policy")
        if self.next_ms() <= clock_ms:
            found.append("customers who are due under the shadow policy")
        return found

    @property
    def held(self) -> Table:
        """Its table, while it takes part."""
        assert self.table is not None
        return self.table

    def records(self, changed: Mapping[bytes, bytes], marker: Marker) -> Iterator[tuple[bytes, bytes]]:
        """A batch as its changelog holds it."""
        epoch = self._epoch_ms.to_bytes(EPOCH_BYTES, "big")
        return ((key, epoch + value) for key, value in changelog_records(changed, marker))


class ShadowBatch:
    """The shadow's part of a batch, from the plan to what is committed."""

    def __init__(self, shadow: Shadow, plan: Plan) -> None:
        self.plan = plan
        self.batch = Batch(shadow.held.editions, shadow.customers)
        self._shadow = shadow
        self._written: tuple[Outcome, Marker] | None = None

    def outputs(self, main: Batch) -> dict[str, list[Outgoing]]:
        """Its announcements as records by topic, and the dead letters that are not the table's as well."""
        known = {(one.code, id(one.record)) for one in main.dead_letters}
        letters = [one for one in self.batch.dead_letters if (one.code, id(one.record)) not in known]
        return {shadow_of(topic): records for topic, records in by_topic(self.batch.outputs, letters).items()}

    async def append(self, main: Marker) -> None:
        """Write its customers, beside what gets the marker `main` in the table."""
        table, shadow = self._shadow.held, self._shadow
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
        self._written = (outcome, marker)
        await shadow.delivery.append_shadow(shadow.records(changes.states, marker))

    def apply(self) -> Batch:
        """Take over what is committed; gives what was folded."""
        assert self._written is not None
        self._shadow.held.commit(*self._written)
        return self.batch


class Beside(Mapping[bytes, bytes]):
    """The customers of a shadow: its own, and of those that it has not taken over yet the table's."""

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


class RestoringShadow(Restoring):
    """A shadow being restored from its changelog: the latest one in it."""

    def __init__(self, topic: str, number: int) -> None:
        super().__init__(topic, number)
        self.epoch_ms = 0
        """When it began; 0 if there is none."""
        self._damage: ChangelogError | None = None

    def feed(self, records: Iterable[ChangelogRecord]) -> None:
        """Take records over, up to one that is neither a customer nor a marker, which `check` tells of: a shadow can begin anew."""
        try:
            super().feed(self._latest(records))
        except ChangelogError as error:
            self._damage = error

    def check(self) -> None:
        """Raises ChangelogError if there was something that could not be taken over."""
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
