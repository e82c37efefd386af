"""The cost of the hot path: a multiple of the cost of reading a purchase's JSON, and no more for a long history.

Counted are instructions, which neither a busy machine nor a slow one changes; where the kernel does not count them for
us, seconds of this process, with wider bounds. The measure of all is one typed JSON decode of the same records by
msgspec, which no change of this program makes quicker or slower.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import platform
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import msgspec
import pytest

from models import Customer, Event, Policy, _compiled, apply_in_place, buckets, decode, encode, new_customer
from models.bodies import Purchase
from models.policy.editions import Editions
from streams.engine.batch import Batch
from streams.engine.merge import Record
from streams.engine.plan import Plan
from streams.engine.schedule import Schedule
from streams.telemetry.stats import STEPS, Stats
from tests.builders import DAY, HOUR, Wire, ms, policy_text, purchase, shipped_text
from tests.running import events_of, policy_of

Made = TypeVar("Made")

PIECES = 400

PERF_EVENT_OPEN = 298
"""The number of the system call on x86_64."""
HARDWARE, INSTRUCTIONS = 0, 1
DISABLED_WITHOUT_KERNEL_AND_HYPERVISOR = 0b1100001
ENABLE = 0x2400
ATTR_BYTES = 128


@dataclass(frozen=True)
class Bound:
    """How many times as much something may cost: about 1.6 times what it cost on the reference machine when this was
    written.
    """

    compiled: float
    pure: float

    @property
    def times(self) -> float:
        return self.compiled if _compiled.is_in_use() else self.pure


DECODES = Bound(compiled=3.2, pure=8.8)
# In machine words, for the compiled form: plain Python takes longer for it than for a general codec.
DECODES_AND_ENCODES = Bound(compiled=2.6, pure=100.0)
FOLDS = {
    "small": Bound(compiled=2.6, pure=30.5),
    "annual-spend": Bound(compiled=3.0, pure=34.0),
    "retail-three-tier": Bound(compiled=2.6, pure=31.5),
    # Asks for active periods: every bucket in the window is looked at.
    "subscription-like": Bound(compiled=5.0, pure=105.0),
}
LONG_HISTORY = Bound(compiled=3.4, pure=1.5)
"""A purchase copies the bytes of the buckets, 60 kB for 5,000, and looks at few of them."""
MANY_CUSTOMERS = Bound(compiled=1.5, pure=1.5)
COUNTS_A_BATCH = Bound(compiled=70.0, pure=70.0)
"""The cost of counting a batch for /metrics and /stats, whatever its size."""
MANY_RECORDS = Bound(compiled=1.5, pure=1.5)


@dataclass(frozen=True)
class Meter:
    """What is counted, and by which factor bounds are relaxed because the count is inexact."""

    counts: str
    read: Callable[[], float]
    stretch: float
    rounds: int


@cache
def meter() -> Meter:
    """Counts instructions if the kernel allows it, else seconds."""
    descriptor = _instruction_counter()
    if descriptor is None:
        return Meter("seconds", time.process_time, stretch=3.0, rounds=40)
    return Meter("instructions", lambda: float(_count(descriptor)), stretch=1.0, rounds=5)


def _instruction_counter() -> int | None:
    """A descriptor for the number of user-space instructions of this thread; None where the kernel offers none."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 2**32:
        return None
    attr = bytearray(ATTR_BYTES)
    flags = DISABLED_WITHOUT_KERNEL_AND_HYPERVISOR
    struct.pack_into("IIQQQQQ", attr, 0, HARDWARE, ATTR_BYTES, INSTRUCTIONS, 0, 0, 0, flags)
    itself, any_cpu, no_group, no_flags = 0, -1, -1, 0
    buffer = (ctypes.c_char * ATTR_BYTES).from_buffer(attr)
    descriptor = ctypes.CDLL(None).syscall(PERF_EVENT_OPEN, buffer, itself, any_cpu, no_group, no_flags)
    if descriptor < 0:
        return None
    try:
        fcntl.ioctl(descriptor, ENABLE, 0)
        counted = _count(descriptor)
        if counted < _count(descriptor):
            return int(descriptor)
    except OSError:
        pass
    os.close(descriptor)  # some virtual machines let it be opened, but count nothing
    return None


def _count(descriptor: int) -> int:
    """The count so far."""
    return int.from_bytes(os.read(descriptor, 8), sys.byteorder)


def cost(prepare: Callable[[], Made], work: Callable[[Made], object], pieces: int = PIECES) -> float:
    """What one piece of some work costs, at the best of several rounds, each on something freshly prepared."""
    read, found = meter().read, []
    for _ in range(meter().rounds):
        prepared = prepare()
        before = read()
        work(prepared)
        found.append(read() - before)
    return min(found) / pieces


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ---------------------------------------------------------------- a customer and their purchases
POLICY = policy_of(policy_text(window={"kind": "trailing", "length": "365d", "bucket": "1d"}))
HOURLY = policy_of(policy_text(window={"kind": "trailing", "length": "365d", "bucket": "1h"}))
START_MS = ms("2026-01-01T08:00:00Z")


def bought(count: int, from_ms: int, every_ms: int) -> list[Wire]:
    """Purchases of Ada, one after another."""
    return [
        purchase("ada", f"{10 + number % 90}.{number % 100:02d}", on=from_ms + number * every_ms, id=f"at-{from_ms + number}")
        for number in range(count)
    ]  # fmt: skip


def values_of(wires: list[Wire]) -> list[bytes]:
    """Events as the bytes in the topic."""
    return [json.dumps({name: value for name, value in wire.items() if name != "topic"}).encode() for wire in wires]


VALUES = values_of(bought(PIECES, START_MS, 60_000))


def established(policy: Policy, purchases: int, every_ms: int) -> tuple[bytes, list[Event]]:
    """The state of a customer with so many purchases, and the events that come next."""
    customer = None
    # They have the highest tier from the beginning.
    first = purchase("ada", "1000000", on=START_MS, id="first")
    for event in events_of(policy, [first, *bought(purchases, START_MS, every_ms)]):
        if customer is None:
            customer = new_customer(policy, event.occurred_at_ms)
        apply_in_place(customer, event, policy)
    assert customer is not None
    from_ms = START_MS + (purchases - 1) * every_ms + 1000
    return encode(customer), events_of(policy, bought(PIECES, from_ms, 1000))


def fold_all(policy: Policy, customer: Customer, events: list[Event]) -> None:
    for event in events:
        apply_in_place(customer, event, policy)


def fold_cost(policy: Policy, state: bytes, events: list[Event]) -> float:
    """The cost of folding a purchase into a decoded customer."""
    return cost(lambda: decode(state), lambda customer: fold_all(policy, customer, events))


@cache
def reference() -> float:
    """The cost for msgspec of reading a purchase."""
    read = msgspec.json.Decoder(Purchase).decode

    def work(values: list[bytes]) -> None:
        for value in values:
            read(value)

    return cost(lambda: VALUES, work)


def assert_within(costs: float, bound: Bound, what: str) -> None:
    assert_at_most(costs / reference(), bound, f"{what} costs {{times}} times a JSON decode")


def assert_grows_within(times: float, bound: Bound, what: str) -> None:
    assert_at_most(times, bound, f"{what} costs {{times}} times as much")


def assert_at_most(times: float, bound: Bound, what: str) -> None:
    form = "compiled" if _compiled.is_in_use() else "pure"
    most = bound.times * meter().stretch
    message = f"{what.format(times=f'{times:.2f}')}; it may be {most:.2f} ({form}, by {meter().counts})"
    print(message)
    assert times <= most, message


# ---------------------------------------------------------------- tests
def test_decoding_a_purchase_costs_little_more_than_reading_its_json() -> None:
    decoder = POLICY.decoder()

    def work(values: list[bytes]) -> None:
        for value in values:
            decoder.decode("purchases", value, b"ada", START_MS)

    assert all(isinstance(decoder.decode("purchases", value, b"ada", START_MS), Event) for value in VALUES)
    assert_within(cost(lambda: VALUES, work), DECODES, "Decoder.decode of a purchase")


@pytest.mark.parametrize("name", FOLDS)
def test_folding_a_purchase_that_announces_nothing_costs_a_few_json_decodes(name: str) -> None:
    policy = POLICY if name == "small" else policy_of(shipped_text(name))
    state, events = established(policy, 60, DAY)
    customer = decode(state)
    assert all(not apply_in_place(customer, event, policy) for event in events)
    assert customer.events == 1 + 60 + PIECES
    assert buckets.count(customer.facts.buckets) >= 60
    assert_within(fold_cost(policy, state, events), FOLDS[name], f"apply_in_place of a purchase under {name}")


def test_reading_and_writing_a_state_costs_a_few_json_decodes() -> None:
    state, _ = established(POLICY, 60, DAY)

    def work(states: list[bytes]) -> None:
        for one in states:
            encode(decode(one))

    assert encode(decode(state)) == state
    assert_within(cost(lambda: [state] * PIECES, work), DECODES_AND_ENCODES, "decode and encode of a state")


def test_a_purchase_of_a_customer_with_a_long_history_costs_hardly_more() -> None:
    few = fold_cost(HOURLY, *established(HOURLY, 50, HOUR))
    many = fold_cost(HOURLY, *established(HOURLY, 5_000, HOUR))
    assert_grows_within(many / few, LONG_HISTORY, "apply_in_place with 5,000 buckets instead of 50")


def test_a_look_for_due_customers_costs_the_same_with_few_customers_or_many() -> None:
    now_ms = START_MS

    def costs(customers: int) -> float:
        due = {
            f"{number:06d}".encode(): struct.pack(">Bq", 2, now_ms + DAY + number % 2_000 * HOUR + number)
            for number in range(customers)
        }
        schedule = Schedule(due)
        assert list(schedule.due(now_ms)) == []

        def work(_: None) -> None:
            for passed_ms in range(PIECES):
                assert not list(schedule.due(now_ms + passed_ms))

        return cost(lambda: None, work)

    few, many = costs(1_000), costs(100_000)
    assert_grows_within(
        many / few, MANY_CUSTOMERS, "a look for due customers, with 100,000 customers instead of 1,000,"
    )


def folded(count: int) -> tuple[Batch, Plan]:
    """A batch of so many purchases of Ada, folded."""
    records = [
        Record("purchases", 0, event.occurred_at_ms, b"ada", b"", 0, event)
        for event in events_of(POLICY, bought(count, START_MS, 1000))
    ]
    batch, plan = Batch(Editions.from_wire(POLICY, []), {}), Plan(-1, [], [], records)
    for _ in batch.fold(plan):
        pass
    assert batch.events == count
    return batch, plan


def counting_cost(stats: Stats, records: int) -> float:
    """The cost of counting a batch of so many records."""
    batch, plan = folded(records)
    seconds = dict.fromkeys(STEPS, 0.01)

    def work(taken: dict[str, int]) -> None:
        for _ in range(PIECES):
            stats.count(batch, plan, taken, seconds)

    return cost(lambda: {"purchases": records, "complaints": 0}, work)


def test_counting_a_batch_costs_little_whatever_its_number_of_events() -> None:
    stats = Stats()
    few, many = counting_cost(stats, 10), counting_cost(stats, 4_000)
    assert_within(many, COUNTS_A_BATCH, "Stats.count of a batch of 4,000 purchases")
    assert_grows_within(many / few, MANY_RECORDS, "Stats.count of a batch of 4,000 purchases instead of 10,")
    assert stats.as_dict()["events"] == meter().rounds * PIECES * 4_010
