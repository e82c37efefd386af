"""A TCP proxy in front of the broker, which can fail as networks do."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16


class Proxy:
    """Carries bytes between clients and the target, in a thread of its own.

    The broker has to advertise the proxy's address, so that clients connect here. `target_port` may be changed at any
    time; while nothing listens on it, connections are closed.
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
        """The address that clients connect to."""
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

    # ------------------------------------------------------------ failures
    def cut(self) -> None:
        """Abort all connections; bytes in transit are lost."""
        self._loop.call_soon_threadsafe(self._cut)

    def stall(self) -> None:
        """Hold back all bytes until `resume`; connections stay open."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def refuse(self) -> None:
        """Abort all connections, and accept no new ones until `resume`."""
        self._is_refusing = True
        self.cut()

    def resume(self) -> None:
        """End what `stall` or `refuse` began."""
        self._is_refusing = False
        self._loop.call_soon_threadsafe(self._flows.set)

    # ------------------------------------------------------------ within the thread
    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _close(self) -> None:
        # The server is closed last: otherwise the socket of a connection that is just being accepted would stay open.
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        self._cut()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            # The task of a connection that is just being accepted is not cancelled: its socket would stay open.
            for task in tasks & self._serving:
                task.cancel()
            await asyncio.wait(tasks)
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._serving.add(asyncio.current_task())
        try:
            # The listening socket stays open: if it were closed to refuse connections, another process could take the port.
            if self._is_refusing:
                return
            target_reader, target_writer = await asyncio.open_connection(HOST, self.target_port)
            self._open.add(target_writer)
            try:
                await asyncio.gather(self._carry(reader, target_writer), self._carry(target_reader, writer))
            finally:
                self._open.discard(target_writer)
                target_writer.transport.abort()
        except OSError:
            return
        finally:
            self._open.discard(writer)
            self._serving.discard(asyncio.current_task())
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction. At its end the connection ends: Kafka's clients never close only one half."""
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
