"""A replay in several processes writes what a replay in one process writes, whatever the log has in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams.sources.logs import LogFile
from streams.workshop.replay.results import OUTPUT_FILES
from streams.workshop.replay.run import replay_logs
from streams.workshop.replay.shares import replay_in_shares
from tests.builders import cdnow, shipped_text, with_made_up_complaints
from tests.running import policy_of

POLICY = policy_of(shipped_text("annual-spend") + "\n[life_cycle]\n")
UNTIL_MS = 915_148_800_000  # 1999-01-01
AN_EVENT = {
    "topic": "purchases", "event_id": "x1", "kind": "purchase", "order_id": "o", "amount": "900", "currency": "USD",
    "occurred_at": "1998-06-01T00:00:00Z",
}  # fmt: skip


def line(**fields: object) -> bytes:
    return json.dumps(AN_EVENT | fields, ensure_ascii=False).encode()


ODD = [
    b"not json",
    b'{"topic":"nowhere"}',
    b"[]",
    line(event_id="o1"),  # of nobody
    line(event_id="o2", customer_id=""),
    line(event_id="o3", customer_id="0004", amount="much"),
    line(event_id="o4", customer_id="zo\u00eb"),
    line(event_id="o5", customer_id='with "quotes"'),
    line(event_id="o6", customer_id="0004", channel="the \\ shop"),
    line(event_id="o7", customer_id="0018", note={"customer_id": "0004"}),
    line(event_id="o8", note={"customer_id": "0004"}),
    line(event_id="o9", customer_id="0004").replace(b'"customer_id"', b'"customer\\u005fid"'),
    line(event_id="o10", customer_id="0018").replace(b": ", b"  :   "),
    line(event_id="o11", customer_id=7),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "all.jsonl"
    lines = [json.dumps(wire).encode() for wire in with_made_up_complaints(cdnow("USD"))[:4000]]
    path.write_bytes(b"\n".join([*lines, *ODD]) + b"\n")
    return path


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("until_ms", [None, UNTIL_MS])
def test_several_processes_write_the_lines_that_one_writes(
    log: Path, tmp_path: Path, workers: int, until_ms: int | None
) -> None:
    alone = replay_logs([LogFile(log)], POLICY, tmp_path / "alone", until_ms, progress=False)
    shared = replay_in_shares([LogFile(log)], POLICY, tmp_path / "shared", until_ms, progress=False, workers=workers)
    for name in OUTPUT_FILES:
        expected = (tmp_path / "alone" / f"{name}.jsonl").read_bytes().splitlines()
        found = (tmp_path / "shared" / f"{name}.jsonl").read_bytes().splitlines()
        assert sorted(found) == sorted(expected), name
        assert name != "profiles" or found == expected
        assert len(expected) > 3, name
    timing = {"seconds", "events_per_second"}
    assert {name: shared[name] for name in shared.keys() - timing} == {
        name: alone[name] for name in alone.keys() - timing
    }
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == sorted(
        f"{name}.jsonl" for name in OUTPUT_FILES
    )


def test_a_log_that_goes_back_in_time_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "purchases.jsonl"
    path.write_bytes(
        b"\n".join(
            line(event_id=str(n), customer_id=str(n), occurred_at=f"1998-06-0{9 - n}T00:00:00Z") for n in range(3)
        )
    )
    with pytest.raises(
        ValueError, match=r"back in time, from 1998-06-09T00:00:00Z to 1998-06-08T00:00:00Z.*leave --workers out"
    ):
        replay_in_shares([LogFile(path)], POLICY, tmp_path / "out", None, progress=False, workers=2)


def test_a_truncated_log_fails_the_replay_and_leaves_no_shares(tmp_path: Path) -> None:
    broken = tmp_path / "purchases.jsonl.gz"
    broken.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(ValueError, match="is it a whole file"):
        replay_in_shares([LogFile(broken)], POLICY, tmp_path / "out", None, progress=False, workers=2)
    assert not list((tmp_path / "out").glob(".share-*"))
