"""Runs the console until it is stopped."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from typing import Any

import uvicorn

from streams.engine.gc_tuning import collect_rarely
from streams.settings import Settings
from streams.telemetry.tracing import CONSOLE, open_tracing
from streams.terminal import FAILED
from streams.web.api.fast_lookup import FastLookup
from streams.web.app import create_app
from streams.web.request_tracing import RequestTracing
from streams.web.settings import ConsoleSettings
from streams.web.signin.people import read_users

STOP_SECONDS = 5

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A server that says where it is, once it listens."""

    def __init__(self, config: uvicorn.Config, console: ConsoleSettings) -> None:
        super().__init__(config)
        self._console = console

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; say where, and how people come in if nobody can yet. Raises FileError."""
        await super().startup(sockets)
        if self.started:
            log.info("the console is at %s", self._console.base_url)
            if self._console.oidc_issuer is None and not read_users(self._console.users_file):
                log.warning("nobody can sign in yet: tierstream console users add lin --role manager")


def serve(settings: Settings, console: ConsoleSettings) -> int:
    """Serve requests until a signal; returns the exit status. Raises FileError if keys or users can't be read, and
    SettingsError.
    """
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # It would tell of its own address, which may be that of a container, and of each step of its start.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
    spans = open_tracing(settings, CONSOLE)
    if spans is None:
        return run(FastLookup(create_app(settings, console)), console)
    try:
        return run(RequestTracing(FastLookup(create_app(settings, console, spans=spans)), spans), console)
    finally:
        spans.close()


def run(app: Any, console: ConsoleSettings) -> int:
    """Serve an ASGI application until a signal; returns the exit status."""
    server = Server(
        uvicorn.Config(
            app,
            host=console.host,
            port=console.port,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            # A log line for each request would cost more than a look-up; the audit trail says who saw which customer.
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=console.proxies,
            timeout_graceful_shutdown=STOP_SECONDS,
        ),
        console,
    )
    collect_rarely()  # nothing that exists by now becomes garbage; a full collection takes longer than a look-up
    # After its stop uvicorn raises the signal again that it was stopped by.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # it could not listen, and has logged why
        return FAILED
    return 0 if server.started else FAILED
