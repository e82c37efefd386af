"""A shop's own export, replayed by a mapping file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_cli import run

MAPPING = """
topic = "purchases"
delimiter = ";"
encoding = "latin-1"
time_format = "%d/%m/%Y %H:%M"
utc_offset = "+08:00"
[columns]
event_id = "No"
customer_id = "Kunde"
order_id = "No"
amount = "Betrag"
occurred_at = "Zeit"
[constants]
currency = "USD"
kind = "purchase"
"""
ROWS = (
    "No;Kunde;Betrag;Zeit\n1;Jürgen;80.00;01/02/2026 09:30\n2;Jürgen;12,50;01/02/2026 09:31\n3;Jürgen;1.00;yesterday\n"
)


def replay(tmp_path: Path, mapping: str, rows: bytes) -> tuple[int, str]:
    (tmp_path / "map.toml").write_text(mapping, "utf-8")
    (tmp_path / "shop.csv").write_bytes(rows)
    result = run(
        "replay", tmp_path / "shop.csv", "--map", tmp_path / "map.toml", "-p", "annual-spend", "-o", tmp_path / "out"
    )
    return result.exit_code, result.output


def test_columns_become_events_and_what_can_not_is_a_dead_letter_with_its_line(tmp_path: Path) -> None:
    code, output = replay(tmp_path, MAPPING, ROWS.encode("latin-1"))
    assert code == 0, output
    change = json.loads((tmp_path / "out" / "tier-changes.jsonl").read_text("utf-8"))
    assert (change["customer_id"], change["after"]["tier"]) == ("Jürgen", "silver")
    assert change["occurred_at"] == "2026-02-01T01:30:00Z"
    letters = [json.loads(line) for line in (tmp_path / "out" / "dead-letters.jsonl").read_text("utf-8").splitlines()]
    assert [(letter["line"], letter["reason"]) for letter in letters] == [(3, "bad_amount"), (4, "bad_time")]


@pytest.mark.parametrize(
    ("mapping", "rows", "says"),
    [
        (MAPPING.replace("Betrag", "Summe"), ROWS.encode("latin-1"), "there is no column 'Summe'; the columns are No"),
        (MAPPING.replace("latin-1", "utf-8"), ROWS.encode("latin-1"), "is the encoding utf-8?"),
        (MAPPING.replace("latin-1", "klingon"), b"", "klingon"),
        (MAPPING.replace('"purchases"', '"gossip"'), b"", "topic 'gossip' is not among purchases"),
        (MAPPING.replace("delimiter", "separator"), b"", "unknown field `separator`"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_with_what_is_wrong(
    tmp_path: Path, mapping: str, rows: bytes, says: str
) -> None:
    code, output = replay(tmp_path, mapping, rows)
    assert code == 2
    assert says in output
    assert "Traceback" not in output


def test_a_csv_file_without_a_mapping_is_refused_with_what_to_give(tmp_path: Path) -> None:
    result = run("replay", tmp_path / "shop.csv", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "needs --map" in result.output
