"""Run the console until it is stopped."""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any

import uvicorn

from streams.engine.gc_tuning import collect_rarely
from streams.settings import Settings
from streams.telemetry.tracing import CONSOLE, open_tracing
from streams.terminal import FAILED
from streams.web.api.fast_lookup import Quick
from streams.web.app import create_app
from streams.web.settings import ConsoleSettings
from streams.web.traced import Traced

STOP_SECONDS = 5


def serve(settings: Settings, console: ConsoleSettings) -> int:
    """Answer until a signal; returns the exit status. Raises FileError where keys or users can't be read, and SettingsError."""
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    spans = open_tracing(settings, CONSOLE)
    if spans is None:
        return run(Quick(create_app(settings, console)), console)
    try:
        return run(Traced(Quick(create_app(settings, console, spans=spans)), spans), console)
    finally:
        spans.close()


def run(app: Any, console: ConsoleSettings) -> int:
    """Answer with an ASGI application."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=console.host,
            port=console.port,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            # A line for each request would cost more than many a look-up; who saw what is in the audit trail.
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=console.proxies,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    collect_rarely()  # of what was made so far nothing becomes garbage; to look through it takes longer than many a look-up
    # Once it has stopped, uvicorn raises the signal again that asked for it; that is how it comes here.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # it could not listen, and has said why
        return FAILED
    return 0 if server.started else FAILED
