"""The compiled core gives the same bytes as the Python sources, and is used only for exactly these sources.

Run as a program, this prints what the core in use computes from a fixed log.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from models import _compiled
from models.placement import Placement
from models.policy import Policy
from streams.engine.merge import merged, records_of
from streams.topics import INPUTS
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.results import profiles_of
from tests import builders
from tests.builders import DAY, ROOT, SHIPPED, Wire, ms, policy_text, shipped_text
from tests.running import policy_of

ONE_IN = 3
"""One in so many customers is taken, with all their purchases."""
A_BATCH = 400
UNTIL_MS = ms("2001-01-01")
RUNS_SECONDS = 250

is_wanted = os.environ.get("CI") == "true"
needs_compiled = pytest.mark.skipif(
    not (_compiled.folder().is_dir() or is_wanted),
    reason="there is no compiled form of these sources; run scripts/compile to make it",
)


# ---------------------------------------------------------------- a program: what a core computes from a log
def policies() -> dict[str, Policy]:
    """The shipped ones, and one with another window, direct loss and a late deadline."""
    anniversary = policy_text(
        id="anniversary",
        window={
            "kind": "anniversary-year",
            "length": None,
            "utc_offset": "+05:45",
            "bucket": "15m",
            "lateness": "400d",
        },
        downgrade={"grace": "0d", "step": "direct", "min_hold": "10d"},
        satisfaction={"valid_for": "30d", "assume": 40},
        rates={"JPY": "0.0071"},
    )
    return {name: policy_of(shipped_text(name)) for name in SHIPPED} | {"anniversary": policy_of(anniversary)}


def log_for(policy: Policy) -> list[Wire]:
    """Some thousand events of all topics, always the same."""
    chance = random.Random(7)
    bought = builders.cdnow(policy.currency, times=100 if policy.currency == "CNY" else 1)
    log = builders.with_made_up_complaints([wire for wire in bought if int(wire["customer_id"]) % ONE_IN == 0])
    tiers = [tier.name for tier in policy.ladder.tiers]
    for number, wire in enumerate(list(log)):
        customer_id, at_ms, id = (
            wire["customer_id"],
            ms(wire["occurred_at"]) + chance.randrange(40 * DAY),
            f"order-{number}",
        )
        match chance.randrange(40):
            case 0:
                log.append(builders.lock(customer_id, chance.choice(tiers), on=at_ms, id=id))
            case 1:
                log.append(builders.unlock(customer_id, on=at_ms, id=id))
            case 2 | 3:
                log.append(
                    builders.act_on_alert(customer_id, chance.choice(["saved", "lost"]), on=at_ms, actor="eve", id=id)
                )
            case 4 if number % 3 == 0:
                log.append(builders.erase(customer_id, on=at_ms, id=id))
            case 5 | 6:
                log.append(wire)
    return sorted(log, key=lambda wire: ms(wire["occurred_at"]))


def values_of(log: list[Wire]) -> dict[str, list[tuple[str, bytes, int]]]:
    """Per topic, keys, values and timestamps; some of them wrong in one way or another, some late."""
    chance = random.Random(8)
    values: dict[str, list[tuple[str, bytes, int]]] = {topic: [] for topic in INPUTS}
    for wire in log:
        body = {name: value for name, value in wire.items() if name != "topic"}
        at_ms, key = ms(body["occurred_at"]), body["customer_id"]
        match chance.randrange(60):
            case 0:
                body["occurred_at"] = builders.rfc3339(at_ms - chance.randrange(900 * DAY))
            case 1:
                del body[chance.choice(sorted(body))]
            case 2:
                body[chance.choice(sorted(body))] = chance.choice([None, "", 7, -1.5, "x" * 200, [], "1e3", "10.001"])
            case 3:
                key = "somebody else"
            case 4:
                at_ms -= 3 * DAY
            case 5:
                body |= {"amount": chance.choice([12, 12.5, "007.10", "1e1", 1e300, "-3", "0.0"]), "note": "é\n"}
        value = json.dumps(body, ensure_ascii=chance.random() < 0.5).encode()
        if chance.randrange(200) == 0:
            value = value[: chance.randrange(len(value))]
        values[wire["topic"]].append((key, value, at_ms))
    return values


class Found:
    """A record as Kafka's client gives it."""

    def __init__(self, offset: int, key: bytes, value: bytes, timestamp: int) -> None:
        self.offset = offset
        self.key = key
        self.value = value
        self.timestamp = timestamp


def digest(parts: Iterable[bytes]) -> dict[str, Any]:
    """How many there are, and a hash of them all."""
    together, count = hashlib.sha256(), 0
    for part in parts:
        together.update(len(part).to_bytes(8, "big") + part)
        count += 1
    return {"count": count, "sha256": together.hexdigest()}


def results(policy: Policy) -> dict[str, Any]:
    """Digests of all that comes out of the log under a policy."""
    decoder = policy.decoder()
    streams = [
        iter(
            records_of(
                [Found(offset, key.encode(), value, at_ms) for offset, (key, value, at_ms) in enumerate(found)],
                topic,
                0,
                decoder,
                Placement(1),
            )
        )
        for topic, found in values_of(log_for(policy)).items()
    ]
    records = list(merged(streams, INPUTS))
    replay = Replay(policy)
    batches = [
        batch for begin in range(0, len(records), A_BATCH) for batch in replay.fold(records[begin : begin + A_BATCH])
    ]
    batches.extend(replay.finish(UNTIL_MS))
    outputs = [output for batch in batches for output in batch.outputs]
    dead_letters = [one for batch in batches for one in batch.dead_letters]
    return {
        "events": len(records),
        "changes": sorted({output.change for output in outputs}),
        "codes": sorted({one.code for one in dead_letters}),
        "outputs": digest(f"{output.topic} {output.id} ".encode() + output.body for output in outputs),
        "rejections": digest(f"{one.code} {one.detail} {one.record.offset}".encode() for one in dead_letters),
        "states": digest(key + replay.partition.customers[key] for key in sorted(replay.partition.customers)),
        "profiles": digest(profiles_of(replay.partition)),
    }


def main() -> None:
    found = {name: results(policy) for name, policy in policies().items()}
    print(json.dumps({"compiled": _compiled.is_in_use(), "results": found}))


# ---------------------------------------------------------------- tests
def run(folder: Path, *arguments: str, compiled: str) -> str:
    """What Python prints in a folder; the sources are those of the folder."""
    environment = {**os.environ, "TIERSTREAM_COMPILED": compiled, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUNS_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_compiled
def test_the_compiled_core_gives_the_same_bytes_as_python() -> None:
    compiled, pure = (
        json.loads(run(ROOT, "-m", "tests.models.test_compiled", compiled=wanted)) for wanted in ("yes", "no")
    )
    assert compiled["compiled"] is True
    assert pure["compiled"] is False
    assert list(compiled["results"]) == list(pure["results"])
    for name, expected in pure["results"].items():
        assert compiled["results"][name] == expected, name
        # What is compared is worth comparing.
        assert expected["events"] > 3000
        assert expected["outputs"]["count"] > 1000
        assert set(expected["changes"]) >= {"upgrade", "downgrade", "lock", "unlock", "erase", "raised", "cleared"}
        assert set(expected["codes"]) >= {"bad_amount", "key_mismatch", "missing_field", "not_json", "time_in_future"}
        assert "too_late" in expected["codes"]
        assert expected["states"]["count"] > expected["profiles"]["count"] > 100


def copied_sources(folder: Path) -> ModuleType:
    """`models` and `streams` copied to a folder; gives the `_compiled` of the copy."""
    for package in ("models", "streams"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    spec = importlib.util.spec_from_file_location("copied_compiled", folder / "models" / "_compiled.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A copy of the sources with a folder for their compiled form."""
    monkeypatch.delenv("TIERSTREAM_COMPILED", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = copied_sources(tmp_path)
    module.folder().mkdir(parents=True)
    return module


def test_the_compiled_form_is_found_only_where_it_is_wanted_and_there(
    copy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copy.folder().name == _compiled.folder().name
    assert copy.find("models") == [str(copy.folder() / "models")]
    assert copy.find("streams") == [str(copy.folder() / "streams")]
    monkeypatch.setenv("TIERSTREAM_COMPILED", "no")
    assert copy.find("models") == []
    monkeypatch.delenv("TIERSTREAM_COMPILED")
    copy.folder().rmdir()
    assert copy.find("models") == []


def test_with_any_source_changed_the_compiled_form_is_not_used(copy: ModuleType) -> None:
    sources = copy.sources()
    assert len(sources) > 10
    for path in sources:
        kept = path.read_bytes()
        first, rest = kept.split(b"\n", 1)
        path.write_bytes(first + b"  # changed\n" + rest)
        assert copy.find("models") == [], path
        assert copy.find("streams") == [], path
        path.write_bytes(kept)
        assert copy.find("models"), path


def test_what_is_compiled_are_sources_that_exist() -> None:
    assert [path for path in _compiled.sources() if not path.is_file()] == []


@needs_compiled
def test_a_changed_source_takes_effect_even_if_an_older_compiled_form_exists(tmp_path: Path) -> None:
    copied_sources(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "compiled").symlink_to(_compiled.folder().parent)
    ask = "from models import _compiled, outputs; print(_compiled.is_in_use(), outputs.CLOCK_CAUSE)"
    assert run(tmp_path, "-c", ask, compiled="yes").split() == ["True", "clock"]
    source = tmp_path / "models" / "outputs.py"
    text = source.read_text("utf-8")
    assert text.count('CLOCK_CAUSE: Final = "clock"') == 1
    source.write_text(text.replace('CLOCK_CAUSE: Final = "clock"', 'CLOCK_CAUSE: Final = "time"'), "utf-8")
    assert run(tmp_path, "-c", ask, compiled="yes").split() == ["False", "time"]


@needs_compiled
def test_a_wheel_s_compiled_form_is_used_and_plain_python_is_left_the_choice(tmp_path: Path) -> None:
    copied_sources(tmp_path)
    assert not (tmp_path / ".cache").exists()
    shutil.copytree(_compiled.folder(), tmp_path / "models" / _compiled.PACKED / _compiled.folder().name)
    ask = "import models.fold; from models import _compiled; print(_compiled.is_in_use())"
    assert run(tmp_path, "-c", ask, compiled="yes").split() == ["True"]
    assert run(tmp_path, "-c", ask, compiled="no").split() == ["False"]


if __name__ == "__main__":
    main()
