"""The short form of the chaos proof: a minute in which each of the most important faults happens once.

`python -m tests.chaos` is the long form.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.chaos.driver import run, staged
from tests.integration.harness import wait_until

SEED = 254
"""With this seed a worker dies between journal and outputs, and all faults together take half a minute."""
FAULTS = {"kill_at", "zombie", "broker_restart", "redis_flush", "join", "leave"}


@pytest.fixture
def real_kafka() -> None:
    """These tests start, stop and freeze their broker, so they need one that no other test uses."""
    if not (shutil.which("java") and shutil.which("mvn")):
        assert not os.environ.get("CI"), "CI needs a Kafka of its own for this: install Java 17 and Maven"
        pytest.skip("needs Java 17 and Maven")


@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("real_kafka")
@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_whatever_goes_wrong_nothing_is_lost_and_nothing_is_announced_wrongly(delivery: str, tmp_path: Path) -> None:
    found = run(
        3, SEED, tmp_path, 2, delivery, only=FAULTS, max_faults=len(FAULTS), calm_seconds=1, with_editions=False
    )
    assert found["faults"] == dict.fromkeys(FAULTS, 1)
    assert found["unexpected_exits"] == []
    # The examples come first, because pytest cuts off the end of a long message.
    assert (found["examples"], found["lost"], found["mismatches"]) == ([], 0, 0)


@pytest.mark.kafka
@pytest.mark.usefixtures("real_kafka")
def test_a_worker_stops_when_asked_to_while_the_broker_is_away(tmp_path: Path) -> None:
    with staged(tmp_path, 1, "exactly-once", print) as stage:
        slot = stage.crew.slots[0]
        worker = slot.start()
        wait_until(lambda: worker.page("readyz")[0] == 200, 60, "the worker to have its partitions")
        stage.broker.kill()
        assert worker.stop(90) in (0, 1)
        assert slot.tracebacks() == []
        slot.worker = None
