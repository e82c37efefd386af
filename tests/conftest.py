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
    "functional/test_push.py",
    "integration/test_client.py",
    "integration/test_seek.py",
    "integration/test_worker.py",
    "functional/test_checkpoint.py",
    "integration/test_dead_letters.py",
    "integration/test_relative.py",
    "functional/test_policy_new.py",
    "integration/test_activation.py",
    "integration/test_console_in_browser.py",
    "property/test_oracle_on_cdnow.py",
    "functional/test_fit_cli.py",
    "unit/test_backtest.py",
    "property/test_story.py",
    "functional/test_contracts.py",
    "functional/test_cookbook.py",
    "functional/test_documents.py",
)
"""From minutes down to about twenty seconds. With several processes no long file is left to one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they come."""
    places = {HERE / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
