"""Kafka's default partitioner: the partition of a key, by murmur2 of its bytes
(org.apache.kafka.common.utils.Utils.murmur2).
"""

from __future__ import annotations

from typing import Final

SEED: Final = 0x9747B28C
MULTIPLIER: Final = 0x5BD1E995
WORD: Final = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, out of `partitions`, that Kafka's own producers choose for a key.

    >>> [partition_of(key, 4) for key in (b"1516", b"ada", "Zoë".encode(), b"")]
    [3, 1, 2, 1]
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(key: bytes) -> int:
    """The 32-bit MurmurHash2 of a key, as an unsigned number."""
    length = len(key)
    hashed = (SEED ^ length) & WORD
    whole = length - length % 4
    for place in range(0, whole, 4):
        word = int.from_bytes(key[place : place + 4], "little") * MULTIPLIER & WORD
        word = (word ^ word >> 24) * MULTIPLIER & WORD
        hashed = (hashed * MULTIPLIER & WORD) ^ word
    if whole < length:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * MULTIPLIER & WORD
    hashed = (hashed ^ hashed >> 13) * MULTIPLIER & WORD
    return hashed ^ hashed >> 15
