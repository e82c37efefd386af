"""The schedule with realistic times: entries months ahead are kept by the hour, and hours or months pass at once."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from models.customer import NEVER_MS
from streams.engine.schedule import ENTRIES_AHEAD, Schedule
from tests.builders import DAY, HOUR, ms
from tests.engine.test_schedule import due_at, replace

NOW_MS = ms("2026-11-22T05:17:43.210Z")
NAMES = st.sampled_from([f"c{number:02d}".encode() for number in range(12)])
BOUNDARIES = st.integers(-2, 3).map(lambda hours: hours * HOUR - (NOW_MS % HOUR))
AHEAD_MS = st.one_of(
    st.sampled_from([0, 1, HOUR - 1, HOUR, HOUR + 1, 2 * HOUR, DAY, 30 * DAY, 365 * DAY]),
    st.integers(-HOUR, 3 * HOUR),
    st.integers(-DAY, 400 * DAY),
    st.tuples(BOUNDARIES, st.integers(-1, 1)).map(sum),
)
PASSED_MS = st.one_of(
    st.sampled_from([0, 1, 250, 1000, HOUR - 1, HOUR, HOUR + 1, DAY, 31 * DAY, 400 * DAY]),
    st.integers(0, HOUR),
    st.integers(0, 90 * DAY),
)


class Kept:
    """Customers, their schedule and, by brute force, when each customer is due."""

    def __init__(self, due: dict[bytes, int] | None = None) -> None:
        self.due: dict[bytes, int] = dict(due or {})
        self.customers = {key: due_at(due_at_ms) for key, due_at_ms in self.due.items()}
        self.schedule = Schedule(self.customers)

    def move(self, due: dict[bytes, int], advanced: list[bytes] | None = None) -> None:
        encoded = {key: due_at(due_at_ms) for key, due_at_ms in due.items()}
        replace(self.customers, self.schedule, encoded, advanced or [])
        self.due.update(due)

    def wanted(self, until_ms: int) -> list[bytes]:
        return [key for at_ms, key in sorted((at_ms, key) for key, at_ms in self.due.items()) if at_ms <= until_ms]

    def look(self, until_ms: int) -> None:
        """Every due customer is found, and is then due again at the time that `again` gives."""
        found = list(self.schedule.due(until_ms))
        assert found == self.wanted(until_ms)
        self.move(
            {key: NEVER_MS if number % 3 == 2 else until_ms + 1 + number * HOUR for number, key in enumerate(found)},
            found,
        )


class AScheduleKeptUp(RuleBasedStateMachine):
    """Customers move earlier, later, to never and back; time passes by a bit, by hours or by months."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = Kept()
        self.now_ms = NOW_MS

    @rule(moved=st.dictionaries(NAMES, AHEAD_MS | st.none(), min_size=1, max_size=6))
    def customers_move(self, moved: dict[bytes, int | None]) -> None:
        self.kept.move({key: NEVER_MS if ahead is None else self.now_ms + ahead for key, ahead in moved.items()})

    @rule(passed_ms=PASSED_MS)
    def time_passes_and_everybody_due_is_advanced(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self.kept.look(self.now_ms)

    @rule(passed_ms=PASSED_MS, most=st.integers(0, 3))
    def only_the_first_few_are_taken(self, passed_ms: int, most: int) -> None:
        self.now_ms += passed_ms
        wanted = self.kept.wanted(self.now_ms)
        found: list[bytes] = []
        if most:
            for key in self.kept.schedule.due(self.now_ms):
                found.append(key)
                if len(found) == most:
                    break
        assert found == wanted[:most]
        self.kept.move({key: self.now_ms + 1 + 40 * DAY for key in found}, found)

    @rule(name=NAMES, ahead_ms=AHEAD_MS, more_ms=AHEAD_MS)
    def one_due_is_advanced_to_an_instant_before_now_and_is_due_again(
        self, name: bytes, ahead_ms: int, more_ms: int
    ) -> None:
        self.kept.move({name: self.now_ms - HOUR})
        found = list(self.kept.schedule.due(self.now_ms))
        assert found == self.kept.wanted(self.now_ms)
        self.kept.move(dict.fromkeys(found, self.now_ms + ahead_ms), found)
        self.kept.move({name: self.now_ms + more_ms})

    @rule(earlier_ms=st.integers(0, 3 * HOUR), name=NAMES)
    def somebody_looks_at_an_earlier_time_than_before(self, earlier_ms: int, name: bytes) -> None:
        until_ms = self.now_ms - earlier_ms
        found = list(self.kept.schedule.due(until_ms))
        assert found == self.kept.wanted(until_ms)
        self.kept.move({**dict.fromkeys(found, NEVER_MS), name: self.now_ms + HOUR}, found)

    @rule()
    def it_is_made_anew(self) -> None:
        self.kept.schedule.rebuild()

    @invariant()
    def nobody_is_due_before_the_next_instant(self) -> None:
        assert self.kept.schedule.next_ms() <= min(self.kept.due.values(), default=NEVER_MS)

    def teardown(self) -> None:
        assert list(self.kept.schedule.due(NEVER_MS - 1)) == self.kept.wanted(NEVER_MS - 1)


TestAScheduleKeptUp = AScheduleKeptUp.TestCase


@given(st.dictionaries(NAMES, AHEAD_MS, min_size=1), st.lists(PASSED_MS, min_size=1, max_size=8))
def test_one_look_finds_the_same_customers_as_many_looks(ahead: dict[bytes, int], passed: list[int]) -> None:
    due = {key: NOW_MS + ahead_ms for key, ahead_ms in ahead.items()}
    at_once, on_the_way = Kept(due), Kept(due)
    now_ms, found = NOW_MS, []
    for passed_ms in passed:
        now_ms += passed_ms
        here = list(on_the_way.schedule.due(now_ms))
        on_the_way.move(dict.fromkeys(here, NEVER_MS), here)
        found += here
    event(f"{len(found)} found")
    assert list(at_once.schedule.due(now_ms)) == found


@given(st.permutations(range(40)))
def test_customers_due_at_the_same_instant_are_found_in_the_order_of_their_ids(order: list[int]) -> None:
    due = {f"c{number:02d}".encode(): NOW_MS + 5 * DAY for number in order}
    kept = Kept(due)
    assert list(kept.schedule.due(NOW_MS + 5 * DAY - 1)) == []
    assert list(kept.schedule.due(NOW_MS + 5 * DAY)) == sorted(due)


def near(schedule: Schedule) -> int:
    """How many entries are in the heap."""
    return len(schedule._near)


def test_far_entries_are_kept_by_the_hour_and_not_in_the_heap() -> None:
    hours = 50
    kept = Kept({f"{number:05d}".encode(): NOW_MS + (2 + number % hours) * HOUR for number in range(10_000)})
    assert list(kept.schedule.due(NOW_MS)) == []
    assert near(kept.schedule) == 0
    assert len(kept.schedule) == 10_000
    assert len(kept.schedule._far) == len(kept.schedule._far_slots) == hours


def test_a_customer_that_moved_later_is_not_put_into_the_heap_at_the_former_hour() -> None:
    kept = Kept({f"{number:05d}".encode(): NOW_MS + 2 * HOUR + number for number in range(1_000)})
    kept.move(dict.fromkeys(kept.due, NOW_MS + 10 * DAY))
    for hours in range(12):
        assert list(kept.schedule.due(NOW_MS + hours * HOUR // 2)) == []
        assert near(kept.schedule) == 0
        assert len(kept.schedule) == 1_000
    assert kept.schedule.next_ms() > NOW_MS + 9 * DAY
    kept.look(NOW_MS + 10 * DAY)


def test_a_customer_takes_one_entry_however_often_they_move_later_in_months_of_looks() -> None:
    kept = Kept({b"busy": NOW_MS + DAY})
    for hours in range(24 * 60):
        now_ms = NOW_MS + hours * HOUR
        kept.move({b"busy": now_ms + DAY})
        assert list(kept.schedule.due(now_ms)) == []
        assert len(kept.schedule) == 1
    assert list(kept.schedule.due(NOW_MS + 90 * DAY)) == [b"busy"]
    assert len(kept.schedule) == 0


def test_the_next_hour_is_opened_by_a_few_entries_a_look() -> None:
    in_the_hour = 7 * ENTRIES_AHEAD + 3
    next_hour_ms = NOW_MS - NOW_MS % HOUR + HOUR
    due = {f"{number:06d}".encode(): next_hour_ms + number * 997 % HOUR for number in range(in_the_hour)}
    kept = Kept(due)
    opened = 0
    for look in range(1, 9):
        assert list(kept.schedule.due(NOW_MS + look)) == []
        assert near(kept.schedule) - opened <= ENTRIES_AHEAD
        opened = near(kept.schedule)
        assert opened == min(look * ENTRIES_AHEAD, in_the_hour)
        assert len(kept.schedule) == in_the_hour
    kept.look(next_hour_ms + HOUR // 2)
    kept.look(next_hour_ms + HOUR)


def test_an_hour_that_was_opened_in_part_is_complete_when_it_is_due() -> None:
    next_hour_ms = NOW_MS - NOW_MS % HOUR + HOUR
    due = {f"{number:06d}".encode(): next_hour_ms + number * 997 % HOUR for number in range(3 * ENTRIES_AHEAD)}
    kept = Kept(due)
    kept.look(NOW_MS)
    # In the meantime some customers move within the hour, out of it and into it; some are already in the heap.
    keys = sorted(due)
    kept.move({key: next_hour_ms + number for number, key in enumerate(keys[::3])})
    kept.move({key: next_hour_ms + 3 * HOUR + number for number, key in enumerate(keys[1::9])})
    kept.move({key: NEVER_MS for key in keys[2::27]})
    kept.move({f"new{number}".encode(): next_hour_ms + number for number in range(700)})
    kept.look(NOW_MS + 1)
    kept.look(next_hour_ms)
    kept.look(next_hour_ms + HOUR - 1)
    kept.look(next_hour_ms + 4 * HOUR)

    kept = Kept()
    for day in range(1_000):
        now_ms = NOW_MS + day * DAY
        assert list(kept.schedule.due(now_ms)) == []
        kept.move({b"busy": now_ms + 60 * DAY})
        kept.move({b"busy": now_ms + 40 * DAY})
    # At most one outdated entry a day may wait for the hour in which it is found to be outdated.
    assert len(kept.schedule) <= 2 * 60
