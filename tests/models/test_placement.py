"""The partition of a key, compared with other clients: librdkafka's own functions, aiokafka and kafka-python."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka.cimpl
import pytest
from aiokafka.partitioner import murmur2 as by_aiokafka
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as by_kafka_python

from models.placement import PARTITIONERS, murmur2, partition_of

# confluent-kafka carries librdkafka, whose partitioners are functions of its C interface.
LIBRDKAFKA = ctypes.CDLL(
    str(next(Path(confluent_kafka.cimpl.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*.so*")))
)
IN_LIBRDKAFKA = {"murmur2": "murmur2", "crc32": "consistent", "fnv1a": "fnv1a"}


def by_librdkafka(key: bytes, partitions: int, partitioner: str) -> Any:
    choose = LIBRDKAFKA[f"rd_kafka_msg_partitioner_{IN_LIBRDKAFKA[partitioner]}"]
    choose.restype = ctypes.c_int32
    choose.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return choose(None, key, len(key), partitions, None, None)


@given(st.binary(max_size=64))
def test_murmur2_is_that_of_other_clients(key: bytes) -> None:
    assert murmur2(key) == by_kafka_python(key) & 0xFFFFFFFF == by_aiokafka(key) & 0xFFFFFFFF


@pytest.mark.parametrize("partitioner", PARTITIONERS)
@given(key=st.binary(min_size=1, max_size=64), partitions=st.integers(1, 1000))
def test_a_key_lives_where_librdkafka_would_put_it(key: bytes, partitions: int, partitioner: str) -> None:
    assert partition_of(key, partitions, partitioner) == by_librdkafka(key, partitions, partitioner)
