"""The journal: the entry of a plan, and which of several entries for a batch counts."""

from __future__ import annotations

import pytest

from models.customer import NEVER_MS, Customer, Facts, Standing
from models.events import Rejected
from models.state import encode
from streams.engine.journal import Entry, JournalError, decode_entry, entry_of, one_entry_a_batch
from streams.engine.merge import Record
from streams.engine.plan import ROOM_PER_CUSTOMER, ROOM_PER_EVENT, Plan, make_plan
from streams.engine.schedule import Review, Schedule


def record(topic: str, offset: int) -> Record:
    return Record(topic, 0, offset, None, b"", None, Rejected("not_json", ""))


def entry(batch: int, generation: int = 1, until_ms: int = 0) -> Entry:
    return Entry(batch, generation, "p@1", until_ms, 0, [])


def test_an_entry_has_records_as_runs_in_the_order_of_folding() -> None:
    plan = Plan(
        99,
        [b"ada"],
        [b"bob", b"eve"],
        [record("purchases", 3), record("purchases", 7), record("complaints", 1), record("purchases", 8)],
    )
    made = entry_of(plan, 5, 2, "p@1")
    assert made == Entry(
        5, 2, "p@1", 99, 1, [("purchases", 3, 7), ("complaints", 1, 1), ("purchases", 8, 8)], ["bob", "eve"]
    )
    assert decode_entry(made.encode(), "journal") == made


def test_of_several_entries_of_a_batch_the_latest_generation_counts() -> None:
    late = entry(2, generation=4, until_ms=44)
    entries = [
        entry(1),
        entry(2, generation=3),
        late,
        entry(2, generation=3),
        entry(3, generation=4),
        entry(2, generation=3),
    ]
    assert list(one_entry_a_batch(entries)) == [entry(1), late, entry(3, generation=4)]


def test_entries_that_the_table_already_holds_are_left_out() -> None:
    assert list(one_entry_a_batch([entry(1), entry(2), entry(3)], after=2)) == [entry(3)]
    assert list(one_entry_a_batch([entry(1), entry(2)], after=2)) == []
    assert list(one_entry_a_batch([], after=2)) == []


def test_a_missing_entry_is_an_error() -> None:
    with pytest.raises(JournalError, match="no entry for batch 2, but one for batch 3"):
        list(one_entry_a_batch([entry(1), entry(3)]))


def test_an_entry_that_does_not_decode_says_where_it_is() -> None:
    with pytest.raises(JournalError, match="journal, partition 0, offset 4"):
        decode_entry(b"{", "journal, partition 0, offset 4")


def test_a_plan_has_due_customers_first_then_as_many_records_as_fit() -> None:
    kept = encode(Customer(5, 0, 0, 1, b"", Facts(), Standing("none", 0)))
    later = encode(Customer(NEVER_MS, 0, 0, 1, b"", Facts(), Standing("none", 0)))
    customers = {b"ada": kept, b"bob": kept, b"cy": later}
    records = [record("purchases", offset) for offset in range(10)]

    def planned(max_events: int, max_bytes: int) -> tuple[list[bytes], int]:
        plan = make_plan(customers, Schedule(customers), Review(customers, 0), 5, iter(records), max_events, max_bytes)
        return plan.due, len(plan.records)

    a_customer = len(kept) + ROOM_PER_CUSTOMER
    assert planned(100, 1_000_000) == ([b"ada", b"bob"], 10)
    assert planned(3, 1_000_000) == ([b"ada", b"bob"], 3)
    assert planned(100, a_customer) == ([b"ada"], 0)
    assert planned(100, 2 * a_customer + 4 * ROOM_PER_EVENT) == ([b"ada", b"bob"], 4)
