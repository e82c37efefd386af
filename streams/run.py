"""Run a worker process from start to a clean stop."""

from __future__ import annotations

import logging
import sys
import tempfile

import faust
import uvloop

from models.policy import Policy
from streams.app import TierstreamApp, create_app
from streams.settings import Settings
from streams.topics import TopicsError, create_topics

FAILED = 1


def run_worker(settings: Settings, policy: Policy) -> int:
    """Fold until a signal or a failure; returns the exit status."""
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("aiokafka", "kafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    if settings.create_topics:
        try:
            create_topics(settings)
        except TopicsError as error:
            print(f"tierstream: {error}", file=sys.stderr)  # noqa: T201
            return FAILED
    uvloop.install()
    app = create_app(settings, policy)
    with tempfile.TemporaryDirectory(prefix="tierstream-") as scratch:
        # Faust wants a folder, though nothing of ours is kept on disk.
        app.conf.datadir = scratch
        return _run(app, settings)


class _Worker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which leaves logging as `run_worker` set it up."""

    def _setup_logging(self) -> None:
        return


def _run(app: TierstreamApp, settings: Settings) -> int:
    worker = _Worker(app, quiet=True)
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        if app.failure is None:
            return int(stopped.code or 0) if isinstance(stopped.code, int) else 0
    if app.failure is not None:
        print(f"tierstream: stopped by {type(app.failure).__name__}: {app.failure}", file=sys.stderr)  # noqa: T201
        return FAILED
    return 0
