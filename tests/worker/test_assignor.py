"""Sharing partitions: evenly, completely, and with as few moves as that takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from streams.worker.assignor import Assignor, HeldPartitions, share

members = st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=8, unique=True)


@given(st.integers(0, 40), members, st.data())
def test_everything_is_shared_evenly_whatever_members_claim_to_hold(
    count: int, names: list[str], data: st.DataObject
) -> None:
    held = st.builds(
        HeldPartitions, st.integers(0, 3), st.lists(st.integers(0, 50), max_size=20, unique=True).map(tuple)
    )
    shares = share(range(count), {name: data.draw(held) for name in names})
    assert sorted(number for mine in shares.values() for number in mine) == list(range(count))
    sizes = [len(mine) for mine in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 40), members, members)
def test_only_what_must_move_moves(count: int, before: list[str], after: list[str]) -> None:
    old = share(range(count), dict.fromkeys(before, HeldPartitions()))
    new = share(range(count), {name: HeldPartitions(1, tuple(old.get(name, ()))) for name in after})
    least = count // len(after)
    stayed = sum(len(set(old.get(name, ())) & set(new[name])) for name in after)
    # A member that stays keeps at least an even share, or all it had if that was less.
    assert stayed >= sum(min(len(old.get(name, ())), least) for name in after)
    if set(before) == set(after):
        assert new == old


def test_of_two_members_that_claim_a_partition_the_later_generation_keeps_it() -> None:
    assert share(range(2), {"awoke": HeldPartitions(3, (0, 1)), "present": HeldPartitions(5, (0,))}) == {
        "awoke": [1],
        "present": [0],
    }


def metadata(topics: list[str], held: HeldPartitions = HeldPartitions()) -> Any:  # noqa: B008
    return Assignor(lambda: held).metadata(topics)


def assigned(members: dict[str, Any], counts: dict[str, int]) -> dict[str, set[tuple[str, int]]]:
    cluster: Any = SimpleNamespace(partitions_for_topic=lambda topic: set(range(counts[topic])))
    made = Assignor(HeldPartitions).assign(cluster, members)
    return {member: {(tp.topic, tp.partition) for tp in one.partitions()} for member, one in made.items()}


def test_a_partition_number_of_all_topics_goes_to_one_member() -> None:
    topics = ["purchases", "complaints", "tier-changes"]
    found = assigned({"a": metadata(topics), "b": metadata(topics, HeldPartitions(1, (0,)))}, dict.fromkeys(topics, 3))
    assert sorted(len(one) for one in found.values()) == [3, 6]
    assert {("purchases", 0), ("complaints", 0), ("tier-changes", 0)} <= found["b"]


def test_the_outputs_of_members_that_serve_no_view_are_served_by_those_that_do() -> None:
    found = assigned(
        {"a": metadata(["purchases"]), "b": metadata(["purchases", "profiles"])}, {"purchases": 4, "profiles": 4}
    )
    assert {number for topic, number in found["b"] if topic == "profiles"} == {0, 1, 2, 3}
    assert len([topic for topic, _ in found["a"]]) == 2


def test_a_member_that_reports_nothing_gets_its_share() -> None:
    silent = ConsumerProtocolMemberMetadata(0, ["purchases"], b"")
    assert {len(one) for one in assigned({"a": silent, "b": metadata(["purchases"])}, {"purchases": 2}).values()} == {1}
