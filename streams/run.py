"""Run a worker process from start to a clean stop."""

from __future__ import annotations

import logging
import sys
import time
import traceback

import faust
import uvloop
from aiokafka.errors import KafkaError

from models.policy import Policy
from streams.app import TierstreamApp, create_app
from streams.console import FAILED, warn
from streams.garbage import collect_rarely
from streams.settings import Settings
from streams.topics import TopicsError, create_topics

SECONDS_BETWEEN_COMPLAINTS = 10.0


def run_worker(settings: Settings, policy: Policy) -> int:
    """Fold until a signal or a failure; returns the exit status."""
    _set_up_logging(settings.log_level)
    if settings.create_topics:
        try:
            create_topics(settings)
        except TopicsError as error:
            warn(f"tierstream: {error}")
            return FAILED
    uvloop.install()
    app = create_app(settings, policy)
    collect_rarely()
    return _run(app)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("aiokafka", "kafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # What it warns of it tries again: a transaction begun right after another has to wait for a moment, every time.
    logging.getLogger("aiokafka.producer.sender").setLevel(logging.ERROR)
    if level != "DEBUG":
        for handler in logging.getLogger().handlers:
            handler.addFilter(_without_traces_of_outages)
            handler.addFilter(_Thinned())


class _Thinned(logging.Filter):
    """Lets what the clients say of an outage pass once in a while, not several times every 100 ms."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this is not what was said a moment ago."""
        if not record.name.startswith(("aiokafka", "kafka", "mode")):
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._said_at.get(key, -SECONDS_BETWEEN_COMPLAINTS) < SECONDS_BETWEEN_COMPLAINTS:
            return False
        self._said_at[key] = now
        return True


def _without_traces_of_outages(record: logging.LogRecord) -> bool:
    """Where a library was when the broker went away helps nobody: the error's own words stay, the stack trace goes."""
    if record.exc_info:
        error = record.exc_info[1]
        in_our_words = type(error).__module__.startswith("streams.")
        # A producer that was given up in the middle of an outage may still stumble, with nobody there to hear of it.
        steps = traceback.extract_tb(record.exc_info[2])
        of_given_up = record.name == "asyncio" and bool(steps) and "aiokafka" in steps[-1].filename
        if error is None or in_our_words or of_given_up or isinstance(error, KafkaError | OSError | TimeoutError):
            said = record.getMessage()
            record.msg = said if error is None or str(error) in said else f"{said}: {type(error).__name__}: {error}"
            record.args, record.exc_info, record.exc_text = (), None, None
    return True


class _Worker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which leaves logging as `run_worker` set it up."""

    def _setup_logging(self) -> None:
        return


def _run(app: TierstreamApp) -> int:
    worker = _Worker(app, quiet=True)
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        if app.failure is None:
            status = int(stopped.code or 0) if isinstance(stopped.code, int) else 0
            if status:
                warn("tierstream: the worker could not start; the reason is above")
            return status
    except (KafkaError, OSError) as error:
        if app.failure is None:
            server = app.settings.broker
            warn(f"tierstream: Kafka at {server} went away ({error}); start the worker again")
            return FAILED
    if app.failure is not None:
        warn(f"tierstream: stopped by {type(app.failure).__name__}: {app.failure}")
        return FAILED
    return 0
