"""The table's recovery: what has a marker is state, what has none is not, and what does not decode stops the worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import models
from models.customer import NEVER_MS, Customer, Facts, Standing
from streams.table import CUSTOMER, MARKER, ChangelogError, CustomerStore, Marker

STATE = models.encode(Customer(NEVER_MS, 0, 0, 1, b"", Facts(), Standing("none", 0)))
NEWER = models.encode(Customer(NEVER_MS, 5, 1, 2, b"", Facts(), Standing("none", 0)))


class App:
    """What a store needs of the app."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.taken: set[int] = set()
        self.conf = SimpleNamespace()

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)

    def take_partitions(self, numbers: set[int]) -> None:
        self.taken |= numbers


@pytest.fixture
def store() -> CustomerStore:
    store = CustomerStore.__new__(CustomerStore)
    store.app = App()
    store.__post_init__()
    return store


def marker(batch: int, offset: int, profiled: bool = True) -> tuple[bytes, bytes]:
    return MARKER, msgspec.json.encode(Marker(batch, {"purchases": offset}, 7, "p@1", profiled))


def restore(store: CustomerStore, *records: tuple[bytes, bytes | None], partition: int = 0) -> None:
    of_broker = [SimpleNamespace(key=key, value=value, offset=offset) for offset, (key, value) in enumerate(records)]
    event: Any = SimpleNamespace(message=SimpleNamespace(partition=partition, topic="changelog"), value=of_broker)
    store.apply_changelog_batch([event], bytes, bytes)


def test_customers_are_state_once_their_marker_came(store: CustomerStore) -> None:
    restore(store, (CUSTOMER + b"ada", STATE))
    assert store.partition(0).customers == {}
    restore(store, marker(1, 41))
    assert store.partition(0).customers == {b"ada": STATE}
    assert store.partition(0).marker.offsets == {"purchases": 41}


def test_the_latest_state_of_a_customer_counts(store: CustomerStore) -> None:
    restore(store, (CUSTOMER + b"ada", STATE), marker(1, 1), (CUSTOMER + b"ada", NEWER), marker(2, 2))
    assert store.partition(0).customers == {b"ada": NEWER}


async def _recovered(store: CustomerStore) -> None:
    await store.on_recovery_completed(set(), set())


def test_customers_without_a_marker_are_forgotten_when_recovery_ends(store: CustomerStore) -> None:
    import asyncio

    restore(store, (CUSTOMER + b"ada", STATE), marker(1, 1), (CUSTOMER + b"ada", NEWER))
    asyncio.run(_recovered(store))
    restore(store, marker(3, 3))
    assert store.partition(0).customers == {b"ada": STATE}


def test_partitions_are_kept_apart_and_given_up_whole(store: CustomerStore) -> None:
    restore(store, (CUSTOMER + b"ada", STATE), marker(1, 1), partition=0)
    restore(store, (CUSTOMER + b"bob", STATE), marker(1, 1), partition=3)
    assert list(store.partition(3).customers) == [b"bob"]
    store.drop_all()
    assert store.partition(0).customers == store.partition(3).customers == {}


def test_customers_changed_since_the_last_profiles_are_published_again(store: CustomerStore) -> None:
    restore(store, (CUSTOMER + b"ada", STATE), marker(1, 1, True), (CUSTOMER + b"bob", STATE), marker(2, 2, False))
    assert store.partition(0).unprofiled == {b"ada", b"bob"}
    restore(store, (CUSTOMER + b"cy", STATE), marker(3, 3, True))
    assert store.partition(0).unprofiled == {b"cy"}


@pytest.mark.parametrize(
    "record",
    [
        (CUSTOMER + b"ada", b""),
        (CUSTOMER + b"ada", b"\xff123456789"),
        (b"x", b"y"),
        (MARKER, b"{}"),
        (CUSTOMER + b"a", None),
    ],
    ids=["empty", "unknown schema", "unknown key", "marker", "tombstone"],
)
def test_a_record_that_does_not_decode_stops_the_worker_and_names_itself(
    store: CustomerStore, record: tuple[bytes, bytes | None]
) -> None:
    with pytest.raises(ChangelogError, match=r"changelog, partition 0, offset 1.*new TIERSTREAM_APP_VERSION"):
        restore(store, (CUSTOMER + b"bob", STATE), record)
    assert len(store.app.failures) == 1
