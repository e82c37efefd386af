"""A connection that is closed under a client's feet means a broker, or a Redis, that is away, and nothing worse."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest
from redis.exceptions import ConnectionError as RedisAway

from streams.broker import aiokafka_patches
from streams.view.customers import is_away


def test_a_request_on_a_connection_that_was_just_closed_says_that_the_broker_is_away() -> None:
    aiokafka_patches.install()

    async def request(port: int) -> None:
        connection = AIOKafkaConnection("127.0.0.1", port)
        connecting = asyncio.ensure_future(connection.connect())
        while connection._writer is None:
            await asyncio.sleep(0.01)
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        # Before the connection itself has heard of it.
        with pytest.raises(KafkaConnectionError, match="is closed"):
            connection.send(ApiVersionRequest())
        assert not connection.connected()
        with pytest.raises(KafkaConnectionError):
            await connecting

    with socket.create_server(("127.0.0.1", 0)) as server:
        uvloop.run(request(server.getsockname()[1]))


def test_redis_is_away_also_where_the_event_loop_says_that_its_connection_is_closed() -> None:
    async def write(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.abort()
        await asyncio.sleep(0)
        writer.write(b"PING")

    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(RuntimeError) as told:
        uvloop.run(write(server.getsockname()[1]))
    assert is_away(told.value)
    assert is_away(RedisAway("gone"))
    assert not is_away(RuntimeError("dictionary changed size during iteration"))
