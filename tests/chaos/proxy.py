"""A TCP proxy in front of the broker, which can misbehave as networks do."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16


def low_port() -> int:
    """A free port below those that the system gives to clients: none can take it while its server is down."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                return port


class Proxy:
    """Carries bytes between clients and the target, in a thread of its own.

    Clients have to be sent here: the broker advertises the proxy's address. `target_port` may be set, and change, at
    any time; while nothing listens there, clients are turned away.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.target_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._flows = asyncio.Event()
        self._is_refusing = False
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any] | None] = set()

    @property
    def address(self) -> str:
        """Where clients go."""
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._flows.set()
        self._server = self._call(asyncio.start_server(self._serve, HOST, self.port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ------------------------------------------------------------ misbehaviour
    def cut(self) -> None:
        """Close all connections at once, with what is under way in them."""
        self._loop.call_soon_threadsafe(self._cut)

    def stall(self) -> None:
        """Hold all bytes back until `resume`; connections stay open."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def refuse(self) -> None:
        """Cut all connections and let in no more until `resume`."""
        self._is_refusing = True
        self.cut()

    def resume(self) -> None:
        """Behave again."""
        self._is_refusing = False
        self._loop.call_soon_threadsafe(self._flows.set)

    # ------------------------------------------------------------ in the thread
    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _close(self) -> None:
        # The server is closed last: it would disown a connection that is just being accepted, whose socket would stay open.
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        self._cut()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            # One that is just being accepted is not ours to cancel: its socket would stay open.
            for task in tasks & self._serving:
                task.cancel()
            await asyncio.wait(tasks)
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._serving.add(asyncio.current_task())
        try:
            # Not the listening socket is closed to refuse: another process could take the port.
            if self._is_refusing:
                return
            there, back = await asyncio.open_connection(HOST, self.target_port)
            self._open.add(back)
            try:
                await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
            finally:
                self._open.discard(back)
                back.transport.abort()
        except OSError:
            return
        finally:
            self._open.discard(writer)
            self._serving.discard(asyncio.current_task())
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction. Its end is the connection's end: Kafka's clients never close only one half."""
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
