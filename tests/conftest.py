"""Settings of the tests. Hypothesis: the same examples every time in CI, new ones on a developer's machine."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", _COMMON, max_examples=100)
settings.register_profile("ci", _COMMON, max_examples=100, derandomize=True)
settings.register_profile("thorough", _COMMON, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# A shell starts a job in the background with SIGINT ignored, and what the job starts inherits that. Some tests end what
# they have started by SIGINT, as Ctrl-C does, so it has its usual effect here, however the shell started the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Several processes run the tests, a file at a time (scripts/test): if a long file came late, one process would still be
# at it when the others have finished. So the longest files come first. How long they take is measured, not listed, so
# that it can't go stale: pytest's cache (.pytest_cache) keeps the seconds of every test from the last run that had it.
DURATIONS = "tierstream/durations"
UNTIMED_KAFKA_SECONDS = 10.0
"""What a test with a broker counts as before its first run, unless it may take so long that it has a limit of its own: then a
tenth of that. Any other test counts as nothing.
"""


class DurationRecorder:
    """Keeps in pytest's cache how long each test took, with its fixtures."""

    def __init__(self, cache: pytest.Cache) -> None:
        self._cache = cache
        self._seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        self._cache.set(DURATIONS, self._cache.get(DURATIONS, {}) | self._seconds)


def pytest_configure(config: pytest.Config) -> None:
    """Record durations, once: a process that pytest-xdist started leaves that to the one that started it."""
    if getattr(config, "cache", None) is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(DurationRecorder(config.cache))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """CI runs everything: there, a test that is skipped has failed."""
    report = yield
    if report.skipped and call.excinfo is not None and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"this was skipped, but in CI nothing is: {call.excinfo.value}"
    return report


def untimed_seconds(item: pytest.Item) -> float:
    """How long a test is thought to take that has not yet been run here."""
    if not item.get_closest_marker("kafka"):
        return 0.0
    limit = item.get_closest_marker("timeout")
    return limit.args[0] / 10 if limit else UNTIMED_KAFKA_SECONDS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; files that take equally long stay in their order."""
    durations = {} if config.cache is None else config.cache.get(DURATIONS, {})
    seconds: Counter[Path] = Counter()
    for item in items:
        seconds[item.path] += durations.get(item.nodeid, untimed_seconds(item))
    items.sort(key=lambda item: seconds[item.path], reverse=True)
