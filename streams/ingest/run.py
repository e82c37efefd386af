"""Runs an ingest from its start to a clean stop: as the main process, or in a process beside a worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from streams.broker.topic_creation import TopicsError, create_topics
from streams.engine.gc_tuning import collect_rarely
from streams.ingest.counts import Counts, serve_pages
from streams.ingest.group import commit_start_offsets
from streams.ingest.pipeline import Ingest, log
from streams.ingest.schema_registry import Schemas
from streams.ingest.sources import find_sources
from streams.ingest.writer import IngestError
from streams.settings import IngestSettings, RegistrySettings, Settings, SettingsError
from streams.sources.logs import LogError
from streams.telemetry.logs import log_final_error, set_up_logging
from streams.terminal import FAILED, WRONG_USE
from streams.topics import topics_of

STOP_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.5


class IngestEnded(RuntimeError):
    """The ingest beside a worker ended without being asked to."""


def run_ingest(settings: Settings, given: IngestSettings, registry: RegistrySettings) -> int:
    """Ingest until a signal or a failure; returns the exit status."""
    set_up_logging(settings)
    collect_rarely()
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _ingest(settings, given, registry, stop.is_set)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ingest(settings: Settings, given: IngestSettings, registry: RegistrySettings, is_over: Callable[[], bool]) -> int:
    group = given.group or f"{settings.app_id}-ingest"
    try:
        sources = find_sources(given.sources.split(), settings)
        schemas = Schemas(registry)
        if settings.create_topics:
            create_topics(settings, topics_of(settings))
        commit_start_offsets(settings, group, list(sources), given.since)
        counts = Counts(sources)
        pages = serve_pages(counts, settings.web_host, given.web_port) if given.web_port else None
        try:
            Ingest(settings, sources, schemas, group, counts, is_over).run()
        finally:
            if pages is not None:
                pages.shutdown()
                pages.server_close()
    except (SettingsError, LogError) as error:
        log_final_error(settings, str(error))
        return WRONG_USE
    except (IngestError, TopicsError) as error:
        log_final_error(settings, str(error))
        return FAILED
    log.info("stopped: %s", counts.as_text())
    return 0


# ------------------------------------------------------------ beside a worker
@contextmanager
def ingest_beside(
    settings: Settings, given: IngestSettings, registry: RegistrySettings, on_end: Callable[[Exception], None]
) -> Iterator[None]:
    """Run an ingest in a child process, because in this one it would share the processor with the fold.

    The child ends with this process. If it ends earlier, `on_end` is called from another thread.
    """
    # A new interpreter: a process with threads can't be forked safely.
    process = multiprocessing.get_context("spawn").Process(
        target=_run_beside, args=(settings, given, registry), name="ingest", daemon=True
    )
    process.start()
    stopping = threading.Event()

    def watch() -> None:
        process.join()
        if not stopping.is_set():
            on_end(
                IngestEnded(f"the ingest beside it ended with status {process.exitcode}; its last log line says why")
            )

    watching = threading.Thread(target=watch, name="ingest", daemon=True)
    watching.start()
    try:
        yield
    finally:
        stopping.set()
        process.terminate()
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()  # what it did not commit is ingested again


def check_before_start(settings: Settings, given: IngestSettings, registry: RegistrySettings) -> None:
    """Raises SettingsError or LogError for mistakes that can be found without a broker."""
    find_sources(given.sources.split(), settings)
    Schemas(registry)


def _run_beside(settings: Settings, given: IngestSettings, registry: RegistrySettings) -> None:
    """The main function of the child process. It ends when the worker ends, however that happens."""
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    raise SystemExit(run_ingest(settings, given, registry))
