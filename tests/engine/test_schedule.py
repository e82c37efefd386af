"""When customers are due: never late, never twice, in one order, and without cost for customers that are not due."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from models.customer import NEVER_MS
from streams.engine.batch import Changes
from streams.engine.schedule import Schedule

moves = st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.integers(0, 100), st.just(NEVER_MS))), max_size=60)


def due_at(due_at_ms: int) -> bytes:
    """A state with only the fields that a schedule reads."""
    return struct.pack(">Bq", 2, due_at_ms)


def replace(
    customers: dict[bytes, bytes], schedule: Schedule, states: dict[bytes, bytes], advanced: Iterable[bytes] = ()
) -> None:
    """Change customers and schedule as a batch does."""
    changes = Changes(customers, advanced)
    for key, state in states.items():
        changes.add(key, state)
    schedule.enter(changes.due)
    customers.update(changes.states)


@given(moves, st.lists(st.integers(0, 120), max_size=6))
def test_every_look_finds_all_due_customers_by_due_time_and_id(moved: list[tuple[str, int]], looks: list[int]) -> None:
    customers: dict[bytes, bytes] = {}
    schedule, due = Schedule(customers), dict[bytes, int]()

    def move(changed: dict[bytes, int], advanced: list[bytes]) -> None:
        encoded = {key: due_at(due_at_ms) for key, due_at_ms in changed.items()}
        replace(customers, schedule, encoded, advanced)
        due.update(changed)

    every = max(1, len(moved) // (len(looks) + 1))
    looks = sorted(looks)
    for number, (name, due_at_ms) in enumerate(moved):
        move({name.encode(): due_at_ms}, [])
        if number % every == every - 1 and looks:
            until_ms = looks.pop(0)
            wanted = sorted((at, key) for key, at in due.items() if at <= until_ms)
            found = list(schedule.due(until_ms))
            assert found == [key for _, key in wanted]
            # Some are due again after the time looked at, some never.
            move({key: until_ms + 1 + n if n % 2 else NEVER_MS for n, key in enumerate(found)}, found)
    assert list(schedule.due(NEVER_MS - 1)) == [
        key for at, key in sorted((at, key) for key, at in due.items()) if at != NEVER_MS
    ]


@given(moves)
def test_a_rebuilt_schedule_gives_the_same_order_as_one_kept_up_to_date(moved: list[tuple[str, int]]) -> None:
    customers: dict[bytes, bytes] = {}
    kept_up = Schedule(customers)
    for name, due_at_ms in moved:
        replace(customers, kept_up, {name.encode(): due_at(due_at_ms)})
    assert list(kept_up.due(60)) == list(Schedule(customers).due(60))


def test_a_customer_whose_due_time_moves_later_again_and_again_takes_one_place() -> None:
    customers: dict[bytes, bytes] = {}
    schedule = Schedule(customers)
    for due_at_ms in range(10, 10_000, 10):
        replace(customers, schedule, {b"busy": due_at(due_at_ms)})
    assert len(schedule) == 1
    assert list(schedule.due(9_000)) == []
    assert schedule.next_ms() == 9_990


@given(moves, st.integers(0, 120), st.integers(0, 120))
def test_due_customers_are_counted_without_being_taken(
    moved: list[tuple[str, int]], looked_ms: int, until_ms: int
) -> None:
    customers = {name.encode(): due_at(due_at_ms) for name, due_at_ms in moved}
    schedule = Schedule(customers)
    list(schedule.due(looked_ms))
    counted = schedule.count_due(until_ms, 1_000)
    assert counted == len(list(schedule.due(until_ms)))
    assert not schedule.count_due(until_ms, 1_000)


def test_the_count_of_due_customers_is_limited_only_in_the_open_hour() -> None:
    hour_ms = 3_600_000
    customers = {b"early-%d" % number: due_at(number) for number in range(50)}
    customers |= {b"late-%d" % number: due_at(2 * hour_ms + number) for number in range(300)}
    schedule = Schedule(customers)
    list(schedule.due(0))
    assert schedule.count_due(hour_ms, 1_000) == 49
    assert schedule.count_due(hour_ms, 10) == 10
    assert schedule.count_due(3 * hour_ms, 10) == 10 + 300
