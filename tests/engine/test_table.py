"""Restoring the table: customers with a marker count, customers without one do not, and a damaged changelog is
refused.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import models
from models.customer import NEVER_MS, Customer, Facts, Standing
from models.policy.editions import Editions
from streams.engine.batch import Changes, fingerprint
from streams.engine.partition import Outcome
from streams.engine.table import (
    CUSTOMER,
    MARKER,
    ChangelogError,
    Marker,
    RestoredTable,
    Table,
    TableRestorer,
    changelog_records,
)
from tests.worker.doubles import ReadRecord

STATE = models.encode(Customer(NEVER_MS, 0, 0, 1, b"", Facts(), Standing("none", 0)))
NEWER = models.encode(Customer(5, 5, 1, 2, b"", Facts(), Standing("none", 0)))
EDITIONS = Editions.of(models.load("annual-spend"))

Written = tuple[bytes, bytes | None]


def marker(batch: int, profiled: bool = True, **changed: Any) -> Written:
    """A marker as version 0.1 wrote it: without a count and a checksum."""
    values = Marker(batch, {"purchases": 10 * batch}, 7, "p@1", profiled, **changed)
    return MARKER, msgspec.json.encode(values)


def restored(*records: Written) -> RestoredTable:
    restoring = TableRestorer("changelog", 0)
    restoring.feed(ReadRecord(n, key, value) for n, (key, value) in enumerate(records))
    return restoring.finish()


def test_customers_count_once_their_marker_was_read() -> None:
    assert restored((CUSTOMER + b"ada", STATE)).customers == {}
    partition = restored((CUSTOMER + b"ada", STATE), marker(1))
    assert partition.customers == {b"ada": STATE}
    assert partition.marker.offsets == {"purchases": 10}


def test_the_latest_state_of_a_customer_counts_and_is_in_the_schedule() -> None:
    partition = restored((CUSTOMER + b"ada", STATE), marker(1), (CUSTOMER + b"ada", NEWER), marker(2))
    assert partition.customers == {b"ada": NEWER}
    assert list(Table(partition, EDITIONS).schedule.due(5)) == [b"ada"]


def test_customers_without_a_marker_do_not_count() -> None:
    partition = restored((CUSTOMER + b"ada", STATE), marker(1), (CUSTOMER + b"ada", NEWER))
    assert partition.customers == {b"ada": STATE}


def test_a_batch_that_an_earlier_owner_wrote_too_late_is_skipped() -> None:
    partition = restored(
        (CUSTOMER + b"ada", NEWER),
        marker(1),
        (CUSTOMER + b"bob", STATE),
        marker(2),
        (CUSTOMER + b"ada", STATE),
        marker(1),
    )
    assert partition.customers == {b"ada": NEWER, b"bob": STATE}
    assert partition.marker.batch == 2


def test_customers_changed_since_the_last_profiles_are_published_again() -> None:
    first = ((CUSTOMER + b"ada", STATE), marker(1, True), (CUSTOMER + b"bob", STATE), marker(2, False))
    assert restored(*first).unprofiled == {b"ada", b"bob"}
    assert restored(*first, (CUSTOMER + b"cy", STATE), marker(3, True)).unprofiled == {b"cy"}


def written_by_a_worker() -> tuple[Table, list[Written]]:
    """Two batches as a worker writes them, with count and checksum in their markers."""
    table, written = Table(RestoredTable(), EDITIONS), list[Written]()
    for changed in ({b"ada": STATE, b"bob": STATE}, {b"ada": NEWER, b"cy": STATE}):
        changes = Changes(table.customers)
        for key, state in changed.items():
            changes.add(key, state)
        count, checksum = len(table.customers) + changes.new, table.checksum ^ changes.checksum
        outcome = Outcome(changes, EDITIONS, 7, 7, count, checksum)
        following = table.marker_after(outcome, {}, "p@1", 0, "murmur2")
        written += changelog_records(changes.states, following)
        table.commit(outcome, following)
    return table, written


def test_what_a_worker_writes_is_what_is_restored() -> None:
    partition, written = written_by_a_worker()
    found = restored(*written)
    assert found.customers == partition.customers == {b"ada": NEWER, b"bob": STATE, b"cy": STATE}
    assert found.checksum == partition.checksum
    compacted = [one for n, one in enumerate(written) if one[0] not in {key for key, _ in written[n + 1 :]}]
    assert restored(*compacted).customers == partition.customers


@pytest.mark.parametrize(
    "damage",
    [
        lambda written: [one for one in written if one[0] != CUSTOMER + b"bob"],
        lambda written: [one for one in written if one != (CUSTOMER + b"ada", NEWER)],
        lambda written: [*written[:-1], (CUSTOMER + b"dan", STATE), written[-1]],
    ],
    ids=["a customer is missing", "a customer's last state is missing", "a customer of another table"],
)
def test_a_changelog_that_lost_or_gained_something_is_refused_with_what_to_do(damage: Any) -> None:
    _, written = written_by_a_worker()
    with pytest.raises(ChangelogError, match=r"changelog, partition 0 is damaged.*new TIERSTREAM_APP_VERSION"):
        restored(*damage(written))


def test_a_checksum_does_not_depend_on_the_order_but_on_whose_state_it_is() -> None:
    assert fingerprint(b"ada", STATE) ^ fingerprint(b"bob", NEWER) != fingerprint(b"ada", NEWER) ^ fingerprint(
        b"bob", STATE
    )


@pytest.mark.parametrize(
    "record",
    [
        (CUSTOMER + b"ada", b""),
        (CUSTOMER + b"ada", b"\xff123456789"),
        (b"x", b"y"),
        (MARKER, b"{}"),
        (CUSTOMER + b"a", None),
        (None, b"y"),
    ],
    ids=["empty", "unknown schema", "unknown key", "marker", "tombstone", "no key"],
)
def test_a_record_that_does_not_decode_is_named_with_what_to_do(record: Any) -> None:
    with pytest.raises(ChangelogError, match=r"changelog, partition 0, offset 1.*new TIERSTREAM_APP_VERSION"):
        restored((CUSTOMER + b"bob", STATE), record)
