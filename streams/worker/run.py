"""Run a worker process from start to a clean stop."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import faust
import uvloop
from aiokafka.errors import KafkaError

from models.policy import Policy
from streams.broker.aiokafka_patches import UnknownVersion
from streams.broker.topic_creation import TopicsError, create_topics
from streams.engine.gc_tuning import collect_rarely
from streams.ingest.run import ingest_beside
from streams.settings import IngestSettings, RegistrySettings, Settings, SettingsError
from streams.telemetry.logs import last_words, set_up_logging
from streams.telemetry.tracing import WORKER, open_tracing
from streams.terminal import FAILED, WRONG_USE
from streams.topics import topics_of
from streams.worker.app import create_app
from streams.worker.faust_app import TierstreamApp

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans


def run_worker(
    settings: Settings, policy: Policy, ingests: IngestSettings | None = None, registry: RegistrySettings | None = None
) -> int:
    """Fold until a signal or a failure, with an ingest beside it if it names sources; returns the exit status."""
    set_up_logging(settings)
    try:
        spans = open_tracing(settings, WORKER)
    except SettingsError as error:
        last_words(settings, str(error))
        return WRONG_USE
    try:
        return _fold(settings, policy, spans, ingests, registry)
    finally:
        if spans is not None:
            spans.close()


def _fold(
    settings: Settings,
    policy: Policy,
    spans: Spans | None,
    ingests: IngestSettings | None,
    registry: RegistrySettings | None,
) -> int:
    if settings.create_topics:
        try:
            create_topics(settings, topics_of(settings))
        except TopicsError as error:
            last_words(settings, str(error))
            return FAILED
    uvloop.install()
    try:
        app = create_app(settings, policy, spans)
    except UnknownVersion as error:
        last_words(settings, str(error))
        return FAILED
    collect_rarely()
    with ExitStack() as beside:
        if ingests is not None and registry is not None and ingests.sources:
            beside.enter_context(ingest_beside(settings, ingests, registry, app.fail))
        return _run(app)


class _Worker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which leaves logging as `set_up_logging` did."""

    def _setup_logging(self) -> None:
        return


def _run(app: TierstreamApp) -> int:
    worker = _Worker(app, quiet=True)
    worker.spinner = None  # it would write to the terminal's cursor, in the midst of the log
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        if app.failure is None:
            status = int(stopped.code or 0) if isinstance(stopped.code, int) else 0
            if status:
                last_words(app.settings, "the worker could not start; the reason is above")
            return status
    except (KafkaError, OSError) as error:
        if app.failure is None:
            server = app.settings.broker
            last_words(app.settings, f"Kafka at {server} went away ({error}); start the worker again")
            return FAILED
    if app.failure is not None:
        last_words(app.settings, f"stopped by {type(app.failure).__name__}: {app.failure}")
        return FAILED
    return 0
