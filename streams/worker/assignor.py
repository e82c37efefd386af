"""Assigns partitions to workers: evenly, and each to its last owner if possible, so that a rebalance moves few.

A partition's number stands for that partition of every topic: all inputs of a customer are read by one worker. Each
member reports the numbers that it still has in memory; a partition stays with its last owner unless that worker has too
many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

VERSION: Final = 0


class HeldPartitions(msgspec.Struct, frozen=True):
    """The partitions that a member has in memory, and the group's generation of that."""

    generation: int = 0
    numbers: tuple[int, ...] = ()


def share(numbers: Iterable[int], members: Mapping[str, HeldPartitions]) -> dict[str, list[int]]:
    """The numbers of each member: as even as possible, and with as few as possible taken from their last owner.

    >>> share(range(4), {"a": HeldPartitions(1, (0, 1, 2, 3)), "b": HeldPartitions()})
    {'a': [0, 1], 'b': [2, 3]}
    """
    last_owner: dict[int, str] = {}
    for member, held in sorted(members.items(), key=lambda one: (one[1].generation, one[0])):
        last_owner.update(dict.fromkeys(held.numbers, member))
    wanted = sorted(numbers)
    least, more = divmod(len(wanted), len(members))
    owned: dict[str, list[int]] = {member: [] for member in sorted(members)}
    for number in wanted:
        if (owner := last_owner.get(number)) is not None:
            owned[owner].append(number)
    # If the numbers can't be shared evenly, the members that have most now get one more than the others.
    by_most = sorted(owned, key=lambda member: (-len(owned[member]), member))
    quota = {member: least + (place < more) for place, member in enumerate(by_most)}
    shares = {member: mine[: quota[member]] for member, mine in owned.items()}
    placed = {number for mine in shares.values() for number in mine}
    free = iter([number for number in wanted if number not in placed])
    for member, mine in shares.items():
        while len(mine) < quota[member]:
            mine.append(next(free))
    return {member: sorted(mine) for member, mine in shares.items()}


class Assignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """The group's assignment protocol."""

    name = "tierstream"

    def __init__(self, held: Callable[[], HeldPartitions]) -> None:
        self._held = held

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member reports to the group."""
        return ConsumerProtocolMemberMetadata(VERSION, sorted(topics), msgspec.json.encode(self._held()))

    def assign(self, cluster: ClusterMetadata, members: Mapping[str, Any]) -> dict[str, Any]:
        """What the leader decides for all members."""
        counts = {
            topic: len(cluster.partitions_for_topic(topic) or ())
            for one in members.values()
            for topic in one.subscription
        }
        shares = share(
            range(max(counts.values(), default=0)),
            {
                member: msgspec.json.decode(one.user_data or b"{}", type=HeldPartitions)
                for member, one in members.items()
            },
        )
        assigned: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        for topic, count in sorted(counts.items()):
            subscribed = [member for member in sorted(members) if topic in members[member].subscription]
            for owner, numbers in shares.items():
                for number in numbers:
                    if number < count:
                        # If only some workers feed a view, they also read the outputs of the other workers' partitions.
                        reader = owner if owner in subscribed else subscribed[number % len(subscribed)]
                        assigned[reader].setdefault(topic, []).append(number)
        return {
            member: ConsumerProtocolMemberAssignment(VERSION, sorted(topics.items()), b"")
            for member, topics in assigned.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        """Nothing: the consumer's listener informs the worker."""
