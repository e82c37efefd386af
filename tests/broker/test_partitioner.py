"""The partition of a key, compared with two independent clients."""

from __future__ import annotations

from aiokafka.partitioner import murmur2 as by_aiokafka
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as by_kafka_python

from streams.broker.partitioner import murmur2, partition_of


@given(st.binary(max_size=64))
def test_murmur2_is_that_of_other_clients(key: bytes) -> None:
    assert murmur2(key) == by_kafka_python(key) & 0xFFFFFFFF == by_aiokafka(key) & 0xFFFFFFFF


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_a_partition_is_one_of_the_existing_ones(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
