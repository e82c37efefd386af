"""Customers to begin a replay with: those of a worker's table, read from its changelog.

The changelog holds states, the very bytes that the fold works on, and the input offsets that they include. So a replay that
begins with them and reads on from those offsets announces what a replay of the whole log would have announced from there. The
serving view in Redis holds profiles, from which no state can be computed: a profile has no hashes of recent events and no due time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from models.policy import Policy
from models.policy.editions import Editions
from streams.engine.partition import Partition
from streams.engine.table import ChangelogError, TableRestorer
from streams.settings import load_settings
from streams.sources.kafka_log import KafkaLog
from streams.sources.kafka_span import SCHEME, WHOLE, Offsets, parse_kafka_url
from streams.sources.logs import LogError
from streams.topics import TABLE


class Seed(NamedTuple):
    """The customers of a table, its editions, and the input offsets that it includes."""

    customers: dict[bytes, bytes]
    clock_ms: int
    editions: Editions
    next_offsets: Offsets
    """The offsets from which the replay reads the inputs."""

    def partition(self) -> Partition:
        """All customers of the table in one partition, for a replay to go on with."""
        return Partition(self.editions, dict(self.customers), self.clock_ms)


class _ChangelogRecord(NamedTuple):
    """A record of the changelog, as `TableRestorer` takes it."""

    key: bytes | None
    value: bytes | None
    offset: int


def read_seed(name: str, policy: Policy) -> Seed:
    """The table of the worker whose changelog is at `kafka://HOST:PORT`. Raises LogError, also if that can't be a seed."""
    if not name.startswith(SCHEME):
        raise LogError(
            f"--seed {name.partition('://')[0]}: states are in the changelog of a worker's table: give kafka://HOST:PORT, and "
            "TIERSTREAM_APP_ID if it has another. Redis, and profiles.jsonl, hold profiles, which a state can't be made of"
        )
    broker, span = parse_kafka_url(name)
    if span != WHOLE:
        raise LogError(f"--seed {name}: it is the whole table: leave out what comes after the ?")
    log = KafkaLog(load_settings(broker=broker))
    log.begin([TABLE])
    customers: dict[bytes, bytes] = {}
    next_offsets: dict[tuple[str | None, int | None], int] = {}
    markers = []
    for number in log.partitions(TABLE):
        restoring = TableRestorer(f"{name}, {log.topic(TABLE)}", number)
        try:
            restoring.feed(_records_of(log.messages(TABLE, number)))
            restored = restoring.finish()
        except ChangelogError as error:
            raise LogError(str(error)) from None
        if not restored.marker.batch:
            continue  # nothing was ever folded there
        if restored.marker.policy != policy.ref:
            raise LogError(
                f"--seed {name}: the table was folded under {restored.marker.policy}, not {policy.ref}: "
                f"give --policy {restored.marker.policy}"
            )
        customers.update(restored.customers)
        markers.append(restored.marker)
        next_offsets |= {(topic, number): last + 1 for topic, last in restored.marker.offsets.items()}
    if not markers:
        raise LogError(f"--seed {name}: nothing was folded there yet; is TIERSTREAM_APP_ID {log.app_id}?")
    editions = {Editions.from_wire(policy, marker.editions).number for marker in markers}
    if len(editions) > 1:
        raise LogError(
            f"--seed {name}: the partitions are under several editions of the policy; wait until the workers have read on"
        )
    oldest = max(markers, key=lambda marker: len(marker.editions))
    return Seed(
        customers,
        max(marker.clock_ms for marker in markers),
        Editions.from_wire(policy, oldest.editions),
        Offsets(next_offsets),
    )


def _records_of(messages: Iterator[Any]) -> Iterator[Any]:
    for message in messages:
        yield _ChangelogRecord(message.key(), message.value(), message.offset())
