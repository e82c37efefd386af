"""A connection that was closed while a client used it means only that the broker or Redis can't be reached."""

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
from streams.view.customers import is_redis_away


def test_a_request_on_a_closed_connection_fails_as_an_unreachable_broker() -> None:
    aiokafka_patches.install()

    async def request(port: int) -> None:
        connection = AIOKafkaConnection("127.0.0.1", port)
        connecting = asyncio.ensure_future(connection.connect())
        while connection._writer is None:
            await asyncio.sleep(0.01)
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        # Before the connection itself has noticed.
        with pytest.raises(KafkaConnectionError, match="is closed"):
            connection.send(ApiVersionRequest())
        assert not connection.connected()
        with pytest.raises(KafkaConnectionError):
            await connecting

    with socket.create_server(("127.0.0.1", 0)) as server:
        uvloop.run(request(server.getsockname()[1]))


def test_an_event_loops_error_for_a_closed_connection_counts_as_unreachable_redis() -> None:
    async def write(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.abort()
        await asyncio.sleep(0)
        writer.write(b"PING")

    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(RuntimeError) as error:
        uvloop.run(write(server.getsockname()[1]))
    assert is_redis_away(error.value)
    assert is_redis_away(RedisAway("gone"))
    assert not is_redis_away(RuntimeError("dictionary changed size during iteration"))
