"""A file that grows is read as it grows: whole lines only, each once, whatever is rotated; standard input as it comes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.events import Event, Rejected
from streams.sources.arriving import arriving_log
from streams.sources.logs import Log, LogError
from tests.builders import policy_text, purchase
from tests.running import policy_of

MAPPING = """
topic = "purchases"
delimiter = ";"
[columns]
event_id = "no"
order_id = "no"
customer_id = "who"
amount = "sum"
occurred_at = "at"
channel = "note"
[constants]
currency = "USD"
kind = "purchase"
"""
HEADING = "no;who;sum;at;note\n"


class Over(Exception):
    """Nothing more happens to the file."""


def line(number: int) -> str:
    body = purchase("ada", 10, on="2026-01-01") | {"event_id": f"e{number}"}
    return json.dumps({name: value for name, value in body.items() if name != "topic"}) + "\n"


def row(number: int, note: str = "") -> str:
    return f"{number};ada;10.00;2026-01-01T00:00:00Z;{note}\n"


def appending(path: Path, text: str) -> Callable[[], None]:
    def append() -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    return append


def followed(path: Path, *actions: Callable[[], None], maps: tuple[str, ...] = ()) -> list[tuple[int, str | None]]:
    """What is read of a file to which one thing is done whenever there is nothing to read: lines and ids of events.

    None is the id of a record that can't be used.
    """
    left = iter(actions)

    def wait() -> None:
        action = next(left, None)
        if action is None:
            raise Over
        action()

    log = arriving_log(str(path), maps, wait)
    return until_over(log)


def until_over(log: Log) -> list[tuple[int, str | None]]:
    decoder, found = policy_of(policy_text()).decoder(), []
    with pytest.raises(Over):
        while True:
            [stream] = log.streams(decoder, lambda count: None)
            for record in stream:
                assert isinstance(record.decoded, Event | Rejected)
                found.append((record.offset, getattr(record.decoded, "event_id", None)))
    return found


def test_a_line_is_read_when_it_is_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "purchases.jsonl"
    path.write_text(line(1), "utf-8")
    half, rest = line(3)[:40], line(3)[40:]
    found = followed(
        path, appending(path, line(2) + half), lambda: None, appending(path, rest), appending(path, line(4))
    )
    assert found == [(1, "e1"), (2, "e2"), (3, "e3"), (4, "e4")]


def test_a_half_line_at_the_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "purchases.jsonl"
    path.write_text(line(1) + line(2)[:-1], "utf-8")
    assert followed(path) == [(1, "e1")]


def test_a_file_that_is_rotated_is_read_to_its_end_and_then_the_new_one_from_its_beginning(tmp_path: Path) -> None:
    path, old = tmp_path / "purchases.jsonl", tmp_path / "purchases.jsonl.1"
    path.write_text(line(1), "utf-8")
    found = followed(
        path,
        lambda: os.rename(path, old),
        lambda: None,  # there is none of that name for a while, and the writer still has the old one
        appending(old, line(2)),
        lambda: (appending(old, line(3)[:-1])(), path.write_text(line(4), "utf-8"))[0],
        appending(path, line(5)),
    )
    assert found == [(1, "e1"), (2, "e2"), (3, "e3"), (1, "e4"), (2, "e5")]


def test_a_file_that_is_cut_off_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "purchases.jsonl"
    path.write_text(line(1) + line(2), "utf-8")
    found = followed(path, lambda: os.truncate(path, 0), appending(path, line(3)))
    assert found == [(1, "e1"), (2, "e2"), (1, "e3")]


def test_a_growing_csv_file_has_its_rows_whole_and_its_heading_in_every_file(tmp_path: Path) -> None:
    path, mapping = tmp_path / "sales.csv", tmp_path / "sales.toml"
    mapping.write_text(MAPPING, "utf-8")
    path.write_text(HEADING + row(1) + '2;ada;10.00;2026-01-01T00:00:00Z;"two\n', "utf-8")
    found = followed(
        path,
        appending(path, 'lines"\n' + row(3)),
        lambda: path.rename(tmp_path / "sales.1") and path.write_text(HEADING + row(4), "utf-8"),
        maps=(str(mapping),),
    )
    assert found == [(2, "1"), (3, "2"), (5, "3"), (2, "4")]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("purchases.jsonl.gz", "only a plain file can be followed"),
        ("sales.parquet", "only a plain file can be followed"),
        ("folder", "only a plain file can be followed"),
        ("sales.csv", "it needs --map"),
        ("nothing.jsonl", "No such file or directory"),
    ],
)
def test_what_can_t_be_followed_is_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    for one in ("purchases.jsonl.gz", "sales.parquet", "sales.csv"):
        (tmp_path / one).touch()
    with pytest.raises(LogError, match=says):
        arriving_log(str(tmp_path / name), [], lambda: None)


def test_ids_made_of_line_numbers_are_refused_where_lines_are_counted_anew(tmp_path: Path) -> None:
    mapping, path = tmp_path / "sales.toml", tmp_path / "sales.csv"
    mapping.write_text(MAPPING.replace('event_id = "no"\n', ""), "utf-8")
    path.write_text(HEADING, "utf-8")
    for name in (str(path), "-"):
        with pytest.raises(LogError, match="map event_id"):
            arriving_log(name, [str(mapping)], lambda: None)


def test_standard_input_is_read_line_by_line_while_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    there, ours = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(there))
    texts = [line(number).replace("{", '{"topic": "purchases", ', 1) for number in (1, 2, 3)]
    written: list[int] = []

    def write_next() -> None:
        written.append(len(found))
        os.write(ours, texts.pop(0).encode()) if texts else os.close(ours)

    found: list[str] = []
    log = arriving_log("-", [], write_next)
    [stream] = log.streams(policy_of(policy_text()).decoder(), lambda count: None)
    for record in stream:
        assert isinstance(record.decoded, Event), record.decoded
        found.append(record.decoded.event_id)
    assert found == ["e1", "e2", "e3"]
    assert written == [0, 1, 2, 3]  # each line was read before the next one was written
    sys.stdin.close()


def test_standard_input_is_mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mapping, rows = tmp_path / "sales.toml", tmp_path / "rows"
    mapping.write_text(MAPPING, "utf-8")
    rows.write_text('{"no": 7, "who": "ada", "sum": 5, "at": "2026-01-01T00:00:00Z"}\n', "utf-8")
    with rows.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        [stream] = arriving_log("-", [str(mapping)], lambda: None).streams(
            policy_of(policy_text()).decoder(), lambda count: None
        )
        assert [getattr(record.decoded, "event_id", record.decoded) for record in stream] == ["7"]
