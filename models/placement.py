"""Where customers live: the partition that a key belongs to, as the common clients of Kafka choose it.

- murmur2: Java's clients, and what copies them: Kafka Connect, Flink, kafkajs, franz-go, kafka-python, aiokafka
  (org.apache.kafka.common.utils.Utils.murmur2)
- crc32: librdkafka by default: confluent-kafka for Python, Go, .NET; node-rdkafka, kcat
  (its partitioners `consistent` and `consistent_random`)
- fnv1a: sarama for Go by default (its NewHashPartitioner; librdkafka's `fnv1a`)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args
from zlib import crc32

from mypy_extensions import i64

from models.bodies import EVERYBODY

SEED: Final[i64] = 0x9747B28C
MULTIPLIER: Final[i64] = 0x5BD1E995
WORD: Final[i64] = 0xFFFFFFFF
FNV_OFFSET: Final[i64] = 0x811C9DC5
FNV_PRIME: Final[i64] = 0x01000193

Partitioner = Literal["murmur2", "crc32", "fnv1a"]
PARTITIONERS: Final[tuple[str, ...]] = get_args(Partitioner)
EVERYBODY_KEY: Final = EVERYBODY.encode()
"""The key of commands to all customers, which every partition has."""


class Placement:
    """How an installation places its customers: which partition is the home of each."""

    def __init__(self, partitions: int, partitioner: str = "murmur2") -> None:
        self.partitions = partitions
        self.partitioner = partitioner

    def home_of(self, key: bytes, partition: int) -> int:
        """The partition where the customer with this key lives; `partition`, where the record is, for everybody."""
        if key == EVERYBODY_KEY:
            return partition
        return partition_of(key, self.partitions, self.partitioner)

    def strangers(self, placed: Iterable[tuple[bytes, int]]) -> dict[str, int]:
        """By partitioner, how many keys it would not place into the partition beside them."""
        found = dict.fromkeys(PARTITIONERS, 0)
        for key, partition in placed:
            for name in PARTITIONERS:
                if partition_of(key, self.partitions, name) != partition:
                    found[name] += 1
        return found


def partition_of(key: bytes, partitions: int, partitioner: str = "murmur2") -> int:
    """The partition, out of `partitions`, that producers with this partitioner choose for a key.

    >>> [partition_of(key, 4) for key in (b"1516", b"ada", "Zoë".encode(), b"")]
    [3, 1, 2, 1]
    >>> [partition_of(b"ada", 12, partitioner) for partitioner in PARTITIONERS]
    [5, 0, 7]
    """
    if partitioner == "murmur2":
        return (murmur2(key) & 0x7FFFFFFF) % partitions
    if partitioner == "crc32":
        return crc32(key) % partitions
    return _without_sign(fnv1a(key), partitions)


def _without_sign(hashed: int, partitions: int) -> int:
    """The remainder of a signed 32-bit number, without its sign, as Go computes it."""
    return (hashed if hashed < 0x80000000 else 0x100000000 - hashed) % partitions


def murmur2(key: bytes) -> int:
    """The 32-bit MurmurHash2 of a key, as an unsigned number."""
    length: i64 = len(key)
    hashed: i64 = (SEED ^ length) & WORD
    place: i64 = 0
    while place + 4 <= length:
        word: i64 = key[place] | key[place + 1] << 8 | key[place + 2] << 16 | key[place + 3] << 24
        word = (word * MULTIPLIER) & WORD
        word = ((word ^ word >> 24) * MULTIPLIER) & WORD
        hashed = ((hashed * MULTIPLIER) & WORD) ^ word
        place += 4
    left: i64 = length - place
    if left > 0:
        if left > 2:
            hashed ^= key[place + 2] << 16
        if left > 1:
            hashed ^= key[place + 1] << 8
        hashed = ((hashed ^ key[place]) * MULTIPLIER) & WORD
    hashed = ((hashed ^ hashed >> 13) * MULTIPLIER) & WORD
    return int(hashed ^ hashed >> 15)


def fnv1a(key: bytes) -> int:
    """The 32-bit FNV-1a hash of a key, as an unsigned number."""
    hashed: i64 = FNV_OFFSET
    for byte in key:
        hashed = ((hashed ^ byte) * FNV_PRIME) & WORD
    return int(hashed)
