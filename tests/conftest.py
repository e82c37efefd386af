"""Settings of the tests. Hypothesis: the same examples every time in CI, new ones on a developer's machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", _COMMON, max_examples=100)
settings.register_profile("ci", _COMMON, max_examples=100, derandomize=True)
settings.register_profile("thorough", _COMMON, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

HERE = Path(__file__).parent
LONGEST_FIRST = (
    "integration/test_recovery.py",
    "integration/test_rebuild.py",
    "integration/test_worker_equals_replay.py",
    "chaos/test_chaos.py",
    "notify/test_push.py",
    "integration/test_worker.py",
    "models/test_oracle_on_cdnow.py",
    "integration/test_client.py",
    "integration/test_seek.py",
    "integration/test_ingest.py",
    "models/test_story.py",
    "integration/test_console_in_browser.py",
    "integration/test_dead_letters.py",
    "integration/test_relative.py",
    "models/test_contracts.py",
    "models/test_backtest.py",
    "integration/test_activation.py",
    "workshop/test_comparison.py",
    "workshop/test_checkpoint.py",
    "library/test_cookbook.py",
    "integration/test_shadow.py",
    "models/test_time.py",
    "integration/test_replay_of_topics.py",
    "integration/test_explain.py",
    "workshop/test_backtest_page.py",
    "models/test_oracle_on_random_logs.py",
    "workshop/test_fit_cli.py",
    "models/test_risk_and_state.py",
    "scripts/test_documents.py",
)
"""From minutes down to half a minute. With several processes no long file is left to one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they come."""
    places = {HERE / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
