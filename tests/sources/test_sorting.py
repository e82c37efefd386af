"""Logs in any order, sorted in bounded memory: held against `sorted`, and against a replay of the same log in order."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import load
from models.events import Rejected
from streams.engine.merge import Record
from streams.sources import sorting
from streams.sources.logs import LogError
from streams.sources.named_logs import Sorting, find_logs, open_logs
from streams.sources.sort_runs import merge_runs, read_run, write_run
from streams.sources.sorting import SortedLog
from streams.topics import INPUTS
from tests.builders import ROOT, cdnow, ms, with_made_up_complaints
from tests.test_cli import run

POLICY = load("annual-spend")
MEMORY = 1_000_000
LOG = with_made_up_complaints(cdnow())


def spread(folder: Path, lines: list[bytes], files: int = 3) -> list[str]:
    """Lines in any order over some files."""
    names = [str(folder / f"part-{number}.jsonl") for number in range(files)]
    for number, name in enumerate(names):
        Path(name).write_bytes(b"".join(line + b"\n" for line in lines[number::files]))
    return names


def shuffled(seed: int, log: list[dict[str, Any]] = LOG) -> list[bytes]:
    lines = [json.dumps(wire).encode() for wire in log]
    random.Random(seed).shuffle(lines)
    return lines


def sorted_records(names: list[str], memory: int = MEMORY, folder: Path | None = None) -> list[Record]:
    with SortedLog(find_logs(names, []), memory, folder) as log:
        (stream,) = log.streams(POLICY.decoder(), lambda count: None)
        return list(stream)


def by_definition(names: list[str]) -> list[tuple[str, int]]:
    """File and line in the order that a sort has to give, by `sorted`, which is stable."""
    places = []
    for name in names:
        for number, line in enumerate(Path(name).read_bytes().splitlines(), 1):
            try:
                wire = json.loads(line)
                at_ms, rank = ms(wire["occurred_at"]), INPUTS.index(wire["topic"])
            except (KeyError, TypeError, ValueError):
                at_ms, rank = -1, 0
            places.append((at_ms, rank, Path(name).name, number))
    return [place[2:] for place in sorted(places, key=lambda place: place[:2])]


def places(names: list[str], found: list[Record]) -> list[tuple[str, int]]:
    return [(Path(names[-1 - record.partition]).name, record.offset) for record in found]


# ---------------------------------------------------------------- the order
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(INPUTS), st.booleans()), max_size=40), st.integers(1, 4))
def test_the_order_is_that_of_sorted_by_time_and_topic(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, bool]], files: int
) -> None:
    lines = [
        json.dumps({"topic": topic, "occurred_at": at if is_timed else "soon"}).encode() for at, topic, is_timed in rows
    ]
    names = spread(tmp_path_factory.mktemp("logs"), lines, files)
    # A record without a time goes first whatever its topic, with the rank of it.
    expected = sorted(
        (
            ((wire["occurred_at"] if wire["occurred_at"] != "soon" else -1, INPUTS.index(wire["topic"])), name, number)
            for name in names
            for number, wire in enumerate(map(json.loads, Path(name).read_text().splitlines()), 1)
        ),
        key=lambda place: place[0],
    )
    assert places(names, sorted_records(names)) == [(Path(name).name, number) for _, name, number in expected]


def test_a_log_that_needs_several_runs_and_passes_is_sorted_like_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = spread(tmp_path, shuffled(1) * 2)
    made = count_runs(monkeypatch)
    few = sorted_records(names, 100_000_000)
    assert len(made) == 1
    made.clear()
    monkeypatch.setattr(sorting, "merge_width", lambda memory: 2)
    many = sorted_records(names)
    assert len(made) > 5, "several runs, and longer ones made of them"
    assert places(names, many) == places(names, few) == by_definition(names)
    assert [record.decoded for record in many] == [record.decoded for record in few]


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    made: list[Path] = []

    def counted(path: Path, frames: Any) -> None:
        write_run(path, frames)
        made.append(path)

    monkeypatch.setattr(sorting, "write_run", counted)
    return made


@given(st.lists(st.lists(st.binary(max_size=300), max_size=30), max_size=5))
def test_merged_runs_are_what_sorted_gives(tmp_path_factory: pytest.TempPathFactory, lists: list[list[bytes]]) -> None:
    folder = tmp_path_factory.mktemp("runs")
    for number, frames in enumerate(lists):
        write_run(folder / f"run-{number}", sorted(frames))
    expected = sorted(frame for frames in lists for frame in frames)
    assert list(merge_runs(sorted(folder.iterdir()))) == expected


# ---------------------------------------------------------------- what is done with it
def outputs(folder: Path) -> dict[str, list[bytes]]:
    return {path.name: path.read_bytes().splitlines() for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sorted_replay_of_a_shuffled_log_announces_the_same(tmp_path: Path, workers: int) -> None:
    distinct = [wire | {"occurred_at": ms(wire["occurred_at"]) + number} for number, wire in enumerate(LOG)]
    in_order = tmp_path / "all.jsonl"
    in_order.write_bytes(b"".join(json.dumps(wire).encode() + b"\n" for wire in distinct))
    names = spread(tmp_path, shuffled(2, distinct))
    options = ("-p", "annual-spend", "--workers", str(workers), "-o")
    assert run("replay", in_order, *options, tmp_path / "expected").exit_code == 0
    result = run("replay", *names, "--sort", "--sort-memory", "1MB", *options, tmp_path / "found")
    assert result.exit_code == 0, result.output
    assert outputs(tmp_path / "found") == outputs(tmp_path / "expected")
    assert len(outputs(tmp_path / "expected")["profiles.jsonl"]) > 2_000


def test_what_can_not_be_used_keeps_its_reason_and_place(tmp_path: Path) -> None:
    lines = [b"not json", b'{"topic": "gossip", "occurred_at": 7}', json.dumps(LOG[0] | {"currency": "XXX"}).encode()]
    names = spread(tmp_path, [json.dumps(LOG[5]).encode(), *lines], 1)
    found = sorted_records(names)
    refused = [(one.offset, one.decoded.code) for one in found if isinstance(one.decoded, Rejected)]
    assert refused == [(2, "missing_field"), (3, "unknown_value"), (4, "unknown_currency")]


def test_fit_sorts_too(tmp_path: Path) -> None:
    names = spread(tmp_path, shuffled(3))
    in_order = tmp_path / "sorted.jsonl"
    in_order.write_bytes(b"".join((record.value or b"") + b"\n" for record in sorted_records(names)))
    made = []
    for logs, options in ((names, ["--sort"]), ([in_order], [])):
        result = run("policy", "fit", *logs, *options, "--horizon", "60d", "--out", tmp_path / "params.toml")
        assert result.exit_code == 0, result.output
        made.append([line for line in (tmp_path / "params.toml").read_text().splitlines() if ".jsonl" not in line])
    assert made[0] == made[1]


# ---------------------------------------------------------------- what is left behind
@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR, empty."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_nothing_is_left_of_a_sort_that_is_done_failed_or_was_stopped(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = spread(tmp_path, shuffled(4))
    with open_logs(names, [], Sorting(MEMORY, None)) as (log,):
        assert list(temporary.glob("tierstream-sort-*/run-*"))
        assert log.bytes
    assert not list(temporary.iterdir())

    for error in (KeyboardInterrupt(), LogError("no")):
        wrote = fail_at(monkeypatch, 2, error)
        with pytest.raises(type(error)), open_logs(names, [], Sorting(MEMORY, None)):
            pass
        assert len(wrote) == 2
        assert not list(temporary.iterdir())


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> list[Path]:
    """Let the writing of the run of that number fail."""
    wrote: list[Path] = []

    def write(path: Path, frames: Any) -> None:
        wrote.append(path)
        if len(wrote) == number:
            raise error
        write_run(path, frames)

    monkeypatch.setattr(sorting, "write_run", write)
    return wrote


def test_a_full_disk_is_reported_with_what_to_do(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    names = spread(tmp_path, shuffled(5))
    monkeypatch.setattr("streams.sources.sort_runs.os.fsync", full)
    result = run("replay", *names, "--sort", "-p", "annual-spend", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "is full: a sort needs about as much space as the log compressed with gzip" in result.output
    assert "--sort-folder or TMPDIR" in result.output
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("options", [["--sort-memory", "much"], ["--sort", "--sort-memory", "1kB"]])
def test_an_invalid_or_too_small_memory_is_refused(tmp_path: Path, options: list[str]) -> None:
    names = spread(tmp_path, shuffled(6)[:10])
    result = run("replay", *names, *options, "-p", "annual-spend", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "as in 512MB" in result.output or "give 1MB or more" in result.output


# ---------------------------------------------------------------- resuming
class Counted:
    """Counts the records that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.frames = 0
        made: Callable[[Record, int], bytes] = sorting._frame

        def counted(record: Record, number: int) -> bytes:
            self.frames += 1
            return made(record, number)

        monkeypatch.setattr(sorting, "_frame", counted)


def test_a_sort_that_was_stopped_continues_in_its_folder_with_the_finished_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, folder = spread(tmp_path, shuffled(7)), tmp_path / "sort"
    expected = sorted_records(names)
    stops = 0
    counted = Counted(monkeypatch)
    while True:
        # Each time one more run is finished, and the next one is not.
        fail_at(monkeypatch, 2, KeyboardInterrupt())
        try:
            found = sorted_records(names, folder=folder)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 2
    assert places(names, found) == places(names, expected)
    assert len(LOG) <= counted.frames < 2.5 * len(LOG), "what was in a run is not sorted again"
    monkeypatch.undo()
    counted = Counted(monkeypatch)
    assert places(names, sorted_records(names, folder=folder)) == places(names, expected)
    assert counted.frames == 0, "a sort that is done needs not be done again"


def test_a_folder_of_other_files_or_of_none_is_refused(tmp_path: Path) -> None:
    names, folder = spread(tmp_path, shuffled(8)), tmp_path / "sort"
    sorted_records(names, folder=folder)
    with pytest.raises(LogError, match=r"was of other files \(some are missing\)"):
        sorted_records(names[:2], folder=folder)
    Path(names[1]).write_bytes(b"")
    with pytest.raises(LogError, match=r"was of other files \(.*part-1.jsonl is new or changed\): empty that folder"):
        sorted_records(names, folder=folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(LogError, match="is neither empty nor the folder of a sort"):
        sorted_records(names, folder=tmp_path / "mine")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(LogError, match="it is not the manifest of a sort"):
        sorted_records(names, folder=folder)


def test_a_damaged_run_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run-1"
    write_run(path, [b"a" * 1000, b"b" * 1000])
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:20], whole[:10] + b"?" + whole[11:]):
        path.write_bytes(damaged)
        with pytest.raises(LogError, match="this run of a sort is damaged"):
            list(read_run(path, lambda count: None))


# ---------------------------------------------------------------- memory
PROGRAM = """
import sys
from pathlib import Path
from models import load
from streams.sources.named_logs import find_logs
from streams.sources.sorting import SortedLog
with SortedLog(find_logs(sys.argv[1:], []), 2_000_000) as log:
    (stream,) = log.streams(load("annual-spend").decoder(), lambda count: None)
    count = sum(1 for _ in stream)
# Not getrusage, whose peak begins with that of the process before the exec.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(count, status["VmHWM"].split()[0])
"""


def measured(names: list[str]) -> Iterator[int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=True, cwd=ROOT)
    yield from map(int, done.stdout.split())


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    lines = shuffled(9)
    small = tmp_path / "small"
    small.mkdir()
    large = tmp_path / "large"
    large.mkdir()
    few, few_kb = measured(spread(small, lines))
    many, many_kb = measured(spread(large, lines * 12))
    assert many == 12 * few
    assert sum(map(len, lines)) * 12 > 8 * 2_000_000, "many times what it may take"
    assert many_kb < 1.2 * few_kb
