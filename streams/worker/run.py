"""Run a worker process from start to a clean stop."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import faust
import uvloop
from aiokafka.errors import KafkaError

from models.policy import Policy
from streams.broker.aiokafka_patches import UnknownVersion
from streams.broker.oldest_kafka import OLDEST_KAFKA, why_too_old
from streams.broker.topic_creation import TopicsError, create_topics, refuse_hidden_topics
from streams.engine.gc_tuning import collect_rarely
from streams.ingest.run import check_before_start, ingest_beside
from streams.settings import IngestSettings, RegistrySettings, Settings, SettingsError
from streams.telemetry.logs import log_final_error, set_up_logging
from streams.telemetry.tracing import WORKER, open_tracing
from streams.terminal import FAILED, WRONG_USE
from streams.topics import needed_by_workers, topics_of
from streams.worker.app import create_app
from streams.worker.faust_app import TierstreamApp

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans


def run_worker(
    settings: Settings, policy: Policy, ingests: IngestSettings | None = None, registry: RegistrySettings | None = None
) -> int:
    """Run a worker until a signal or a failure, with an ingest beside it if `ingests` names sources; returns the exit
    status.
    """
    set_up_logging(settings)
    try:
        spans = open_tracing(settings, WORKER)
    except SettingsError as error:
        log_final_error(settings, str(error))
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
    if ingests is not None and registry is not None and ingests.sources:
        check_before_start(settings, ingests, registry)
    if settings.create_topics:
        try:
            create_topics(settings, topics_of(settings))
        except TopicsError as error:
            log_final_error(settings, str(error))
            return FAILED
    uvloop.install()
    try:
        app = create_app(settings, policy, spans)
    except UnknownVersion as error:
        log_final_error(settings, str(error))
        return FAILED
    unfit = _why_broker_is_unfit(settings)
    if unfit is not None:
        log_final_error(settings, unfit)
        return FAILED
    collect_rarely()
    with ExitStack() as beside:
        if ingests is not None and registry is not None and ingests.sources:
            beside.enter_context(ingest_beside(settings, ingests, registry, app.fail))
        return _run(app)


def _why_broker_is_unfit(settings: Settings) -> str | None:
    """What about the broker, or about this user's rights, would let a worker wait for ever or fail later; None if nothing does."""
    try:
        if not settings.create_topics:
            refuse_hidden_topics(settings, needed_by_workers(settings))
        too_old = why_too_old(settings)
    except TopicsError as error:
        return str(error)
    except KafkaError:
        return f"no Kafka answers at {settings.broker}, as said above; start it, or set TIERSTREAM_BROKER"
    if too_old is not None:
        return f"{too_old}; use {OLDEST_KAFKA} or newer, or set TIERSTREAM_DELIVERY=at-least-once"
    return None


class _Worker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which keeps the logging of `set_up_logging`."""

    def _setup_logging(self) -> None:
        return


def _run(app: TierstreamApp) -> int:
    worker = _Worker(app, quiet=True)
    worker.spinner = None  # it would write control characters between the log's lines
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        if app.failure is None:
            status = int(stopped.code or 0) if isinstance(stopped.code, int) else 0
            if status:
                log_final_error(app.settings, "the worker could not start; the reason is above")
            return status
    except (KafkaError, OSError) as error:
        if app.failure is None:
            server = app.settings.broker
            log_final_error(app.settings, f"Kafka at {server} went away ({error}); start the worker again")
            return FAILED
    if app.failure is not None:
        log_final_error(app.settings, f"stopped by {type(app.failure).__name__}: {app.failure}")
        return FAILED
    return 0
