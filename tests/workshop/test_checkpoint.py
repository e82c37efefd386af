"""A replay that is stopped, killed or interrupted goes on and writes what one that nothing stopped writes, byte for
byte.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from models import load
from models.policy import Policy
from streams.sources.logs import LogError
from streams.sources.named_logs import find_logs
from streams.workshop.replay import run as replaying
from streams.workshop.replay.checkpoint import Checkpoints
from streams.workshop.replay.results import Results
from streams.workshop.replay.run import replay_logs
from tests.builders import ROOT, cdnow, shipped_text, with_made_up_complaints
from tests.running import policy_of
from tests.test_cli import run

LIFE = policy_of(shipped_text("annual-spend") + "\n[life_cycle]\n")
PYRAMID = load("pyramid")
"""Its lines depend on all customers, so a census and editions are on the way."""


def write_log(path: Path, policy: Policy, copies: int = 1, count: int = 4_000) -> None:
    wires = with_made_up_complaints(cdnow(policy.currency))[:count]
    with path.open("w") as file:
        for wire in wires:
            for copy in range(copies):
                changed = wire | {
                    "customer_id": f"{wire['customer_id']}-{copy}",
                    "event_id": f"{wire['event_id']}-{copy}",
                }
                file.write(json.dumps(changed) + "\n")
        file.write("not json\n")


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Killed(BaseException):
    """Stands for a death that nobody sees to: nothing is closed in order after it."""


@pytest.mark.parametrize(("policy", "most"), [(LIFE, 12), (PYRAMID, 60)], ids=["own lines", "lines of all customers"])
def test_a_replay_that_dies_anywhere_continues_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy, most: int
) -> None:
    log, chance = tmp_path / "all.jsonl", random.Random(1)
    write_log(log, policy)
    monkeypatch.setattr(replaying, "EVENTS_A_BATCH", 150)
    logs = find_logs([str(log)], [])
    expected = replay_logs(logs, policy, tmp_path / "expected", None, progress=False)
    kept, deaths, turns = Results.add, 0, 0
    until = [0]

    def add(results: Any, batch: Any) -> None:
        nonlocal turns
        turns += 1
        until[0] -= 1
        if until[0] == 0:
            results._sinks["tier-changes"].write(b'{"half a li')
            results._open.close()
            raise Killed
        kept(results, batch)

    monkeypatch.setattr(Results, "add", add)
    checkpoint = tmp_path / "checkpoint"
    while True:
        until[0] = chance.randrange(most // 2, most)
        try:
            found = replay_logs(
                logs, policy, tmp_path / "found", None, progress=False, checkpoints=Checkpoints(checkpoint, 0)
            )
            break
        except Killed:
            deaths += 1
    assert deaths > 2
    assert outputs(tmp_path / "found") == outputs(tmp_path / "expected")
    timing = {"seconds", "events_per_second"}
    assert {name: found[name] for name in found.keys() - timing} == {
        name: expected[name] for name in expected.keys() - timing
    }
    assert len(outputs(tmp_path / "expected")["tier-changes.jsonl"]) > 10_000
    assert not checkpoint.exists(), "what is done needs none"


def command(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "replay", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip


def wait_for_change(path: Path, before: float, process: subprocess.Popen[bytes]) -> bool:
    """Whether a file became another than the one of that time before the process ended."""
    deadline = time.monotonic() + 60
    while process.poll() is None:
        if path.exists() and path.stat().st_mtime_ns != before:
            return True
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return False


@pytest.mark.parametrize(("blow", "sort"), [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, False)])
def test_a_process_that_is_stopped_anywhere_continues_to_the_same_bytes(
    tmp_path: Path, blow: signal.Signals, sort: bool
) -> None:
    log, checkpoint, chance = tmp_path / "all.jsonl", tmp_path / "checkpoint", random.Random(2)
    write_log(log, LIFE, copies=4)
    if sort:
        lines = log.read_bytes().splitlines(keepends=True)
        chance.shuffle(lines)
        log.write_bytes(b"".join(lines))
    (tmp_path / "policy.toml").write_text(shipped_text("annual-spend") + "\n[life_cycle]\n")
    options: list[str | Path] = [
        "-p",
        tmp_path / "policy.toml",
        *(["--sort-folder", tmp_path / "sort"] if sort else []),
    ]
    expected = command(log, *options, "-o", tmp_path / "expected")
    assert expected.communicate(timeout=120)[1] == b""
    stops = 0
    while True:
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = command(
            log, *options, "-o", tmp_path / "found", "--checkpoint", checkpoint, "--checkpoint-every", "1ms"
        )
        if stops < 3 and wait_for_change(checkpoint, before, process):
            time.sleep(chance.random() / 10)
            process.send_signal(blow)
        said = process.communicate(timeout=120)[1].decode()
        if process.returncode == 0:
            break
        assert process.returncode in (130, -signal.SIGKILL), said
        if blow is signal.SIGINT:
            assert process.returncode == 130, said
            assert "the same command continues from the checkpoint" in said
        stops += 1
    assert stops > 0
    assert outputs(tmp_path / "found") == outputs(tmp_path / "expected")


def test_a_checkpoint_of_another_replay_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, checkpoint = tmp_path / "all.jsonl", tmp_path / "checkpoint"
    write_log(log, LIFE, count=50)
    kept = Results.finish

    def die(results: Results, replays: Any) -> None:
        raise Killed

    monkeypatch.setattr(Results, "finish", die)
    with pytest.raises(Killed):
        replay_logs(
            find_logs([str(log)], []), LIFE, tmp_path / "out", None, False, checkpoints=Checkpoints(checkpoint, 0)
        )
    monkeypatch.setattr(Results, "finish", kept)
    whole = checkpoint.read_bytes()

    def again(policy: Policy = LIFE, out: str = "out") -> None:
        logs = find_logs([str(log)], [])
        replay_logs(logs, policy, tmp_path / out, None, False, checkpoints=Checkpoints(checkpoint, 0))

    with pytest.raises(
        LogError, match=r"is of a replay under annual-spend@1 with other options; remove .* to start over"
    ):
        again(load("subscription-like"))
    with pytest.raises(LogError, match="No such file or directory; give another --out"):
        again(out="elsewhere")
    (tmp_path / "out" / "dead-letters.jsonl").write_bytes(b"")
    with pytest.raises(LogError, match=r"dead-letters.jsonl is shorter than at the checkpoint"):
        again()
    checkpoint.write_bytes(whole[:-1])
    with pytest.raises(LogError, match="is no checkpoint of a replay, or damaged"):
        again()
    checkpoint.write_bytes(whole)
    write_log(log, LIFE, count=51)
    with pytest.raises(LogError, match=r"all.jsonl is new or changed"):
        again()


def test_what_can_not_have_a_checkpoint_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "all.jsonl"
    write_log(log, LIFE, count=50)
    options = ("-p", "annual-spend", "-o", tmp_path / "out", "--checkpoint", tmp_path / "checkpoint")
    result = run("replay", log, *options, "--workers", "2")
    assert result.exit_code == 2
    assert "--seed and --checkpoint are for a replay in one process" in result.output
    result = run("replay", log, *options[:-1], tmp_path / "no" / "such" / "folder", "--checkpoint-every", "0s")
    assert result.exit_code == 2
    assert "No such file or directory; give another --checkpoint" in result.output
