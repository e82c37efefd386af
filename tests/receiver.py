"""A receiver of a webhook that follows a script: it answers, or is slow, or does not answer at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    headers: dict[str, str]
    body: bytes
    at: float
    answered: int
    path: str


class Answer(NamedTuple):
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    after_seconds: float = 0.0
    body: bytes = b""


OK = Answer(200)


@dataclass
class Receiver:
    """Gives the answers of `script` in turn, then `otherwise`; or what `answers` returns for a request's body."""

    script: list[Answer] = field(default_factory=list)
    otherwise: Answer = OK
    answers: Callable[[bytes], Answer] | None = None
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def taken(self) -> list[bytes]:
        """The bodies that were accepted, in order."""
        return [one.body for one in self.requests if one.answered < 300]

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with self._lock:
            if self.answers is not None:
                chosen = self.answers(body)
            else:
                chosen = self.script.pop(0) if self.script else self.otherwise
            self.requests.append(Request(headers, body, time.monotonic(), chosen.status, path))
            return chosen


@contextmanager
def receiving(
    *script: Answer, otherwise: Answer = OK, answers: Callable[[bytes], Answer] | None = None
) -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver(list(script), otherwise, answers)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            chosen = receiver.answer(self.path, headers, body)
            ended.wait(chosen.after_seconds)
            try:
                self.send_response(chosen.status)
                for name, value in chosen.headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(chosen.body)))
                self.end_headers()
                self.wfile.write(chosen.body)
            except OSError:
                self.close_connection = True  # the client did not wait

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/alerts"
    try:
        yield receiver
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
