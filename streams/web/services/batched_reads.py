"""Reads of Redis in batches: commands that arrive during a round trip are sent together in the next one.

A separate round trip costs the client more than it costs Redis, mostly for taking a connection and for waiting. Here
one connection is kept open, and the busier the console is, the more commands share a round trip.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

MOST_AT_ONCE: Final = 100
"""With more, the first answer would wait for the last."""
CONNECT_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 5.0

Command = tuple[str, ...]


class BatchedReads:
    """Sends commands that only read, so that each may be sent again after a connection was lost."""

    def __init__(self, url: str) -> None:
        # The client's own timeouts are per command and cost as much as a command; one timeout per batch replaces them.
        self._pool: Any = ConnectionPool.from_url(url, socket_timeout=None, socket_connect_timeout=CONNECT_SECONDS)
        self._connection: Any = None
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    def ask(self, *command: str) -> asyncio.Future[Any]:
        """The raw answer of Redis to a command. Awaiting it raises RedisError or OSError."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def close(self) -> None:
        """Close the connection, once all commands are answered."""
        if self._task is not None:
            await self._task
        await self._drop()

    async def _run(self) -> None:
        while self._waiting:
            turn, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            try:
                answers = await self._answers_with_retry([command for command, _ in turn])
            except (RedisError, OSError, RuntimeError) as error:  # uvloop raises RuntimeError for a closed connection
                answers = [error] * len(turn)
            for (_, future), answer in zip(turn, answers, strict=True):
                if future.done():
                    continue  # the caller was cancelled
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        self._task = None

    async def _answers_with_retry(self, commands: list[Command]) -> list[Any]:
        """The answers; over a new connection if the kept one turns out to be closed."""
        was_open = self._connection is not None
        try:
            return await self._answers(commands)
        except (RedisConnectionError, OSError, RuntimeError):
            if not was_open:
                raise
            return await self._answers(commands)

    async def _answers(self, commands: list[Command]) -> list[Any]:
        try:
            if self._connection is None:
                self._connection = await self._pool.get_connection()
            connection = self._connection
            async with asyncio.timeout(PATIENCE_SECONDS):
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await self._answer(connection) for _ in commands]
        except BaseException:
            await self._drop()  # answers that may still come over it belong to no command
            raise

    @staticmethod
    async def _answer(connection: Any) -> Any:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
