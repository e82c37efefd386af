"""Who is due when: never late, never twice, and no cost for those who are not due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.customer import NEVER_MS
from streams.folding import Schedule

moves = st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.integers(0, 100), st.just(NEVER_MS))), max_size=60)


@given(moves, st.lists(st.integers(0, 120), max_size=6))
def test_everybody_due_is_found_at_every_look_whatever_moved_before(
    moved: list[tuple[str, int]], looks: list[int]
) -> None:
    schedule, due = Schedule(), dict[bytes, int]()
    every = max(1, len(moved) // (len(looks) + 1))
    looks = sorted(looks)
    for number, (name, due_at_ms) in enumerate(moved):
        key = name.encode()
        schedule.moved(key, due.get(key, NEVER_MS), due_at_ms)
        due[key] = due_at_ms
        if number % every == every - 1 and looks:
            until_ms = looks.pop(0)
            wanted = {key for key, at in due.items() if at <= until_ms}
            found = []
            for key in schedule.due(until_ms, lambda key: due[key]):
                found.append(key)
                due[key] = NEVER_MS
                schedule.moved(key, NEVER_MS, NEVER_MS)
            assert sorted(found) == sorted(wanted)
    assert {key for key in schedule.due(NEVER_MS - 1, lambda key: due[key])} == {
        key for key, at in due.items() if at != NEVER_MS
    }


def test_a_customer_whose_due_time_moves_later_again_and_again_takes_one_place() -> None:
    schedule = Schedule()
    was = NEVER_MS
    for due_at_ms in range(10, 10_000, 10):
        schedule.moved(b"busy", was, due_at_ms)
        was = due_at_ms
    assert len(schedule) == 1
    assert list(schedule.due(9_000, lambda key: was)) == []
    assert schedule.next_ms() == was
