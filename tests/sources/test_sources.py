"""Logs of every kind: packed and plain, folders and globs, exports through mappings, held against pandas reading the same."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import zstandard
from pyarrow import Table, parquet
from rich.console import Console

from models import load
from models.events import Event, Rejected
from streams.engine.merge import Record
from streams.sources.logs import Log, LogError
from streams.sources.mapped_log import MappedLog
from streams.sources.named_logs import find_logs
from streams.sources.progress import progress_over
from tests.builders import ROOT
from tests.test_cli import purchase, run

POLICY = load("annual-spend")


def records(*names: str | Path, maps: tuple[str, ...] = (), policy: Any = POLICY) -> list[Record]:
    found: list[Record] = []
    for log in find_logs([str(name) for name in names], maps):
        found += read(log, policy)[0]
    return found


def read(
    log: Log, policy: Any = POLICY, on_bytes: Callable[[int], None] = lambda count: None
) -> tuple[list[Record], int]:
    """The records of a log, and how many bytes it says that it read."""
    counts: list[int] = []

    def count(more: int) -> None:
        counts.append(more)
        on_bytes(more)

    found = [record for stream in log.streams(policy.decoder(), count) for record in stream]
    return found, sum(counts)


def events(found: list[Record]) -> list[Event]:
    refused = [record.decoded for record in found if isinstance(record.decoded, Rejected)]
    assert not refused
    return [record.decoded for record in found if isinstance(record.decoded, Event)]


# ---------------------------------------------------------------- an online shop's invoices
def invoice_lines(count: int) -> pd.DataFrame:
    """Lines as UCI Online Retail II has them: invoices one after the other, some cancelled, some of nobody."""
    chance = random.Random(7)
    rows, at = [], datetime(2009, 12, 1, 7, 45)  # noqa: DTZ001
    while len(rows) < count:
        at += timedelta(minutes=chance.randrange(1, 90))
        cancelled = chance.random() < 0.1
        invoice = f"{'C' if cancelled else ''}{489434 + len(rows)}"
        customer = None if chance.random() < 0.1 else 12346 + chance.randrange(60)
        for _ in range(chance.randrange(1, 9)):
            quantity = chance.randrange(1, 40) * (-1 if cancelled else 1)
            price = chance.randrange(1, 2000) / 100
            rows.append(
                (invoice, "85048", "LIGHTS, 20", quantity, at, price, customer, chance.choice(("France", "EIRE")))
            )
    columns = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
    return pd.DataFrame(rows, columns=columns)


LINES = invoice_lines(3_000)
POUNDS = POLICY.decoder().__class__({"GBP": (1, 1)})


class Pounds:
    def decoder(self) -> Any:
        return POUNDS


def spend_by_pandas(lines: pd.DataFrame) -> dict[tuple[str, str, bool], int]:
    """What each invoice comes to, in pence: independent of the mapping."""
    known = lines.dropna(subset=["Customer ID"])
    pence = (known["Quantity"] * (known["Price"] * 100).round()).astype(int)
    grouped = pence.groupby([known["Customer ID"].astype(int), known["Invoice"]]).sum()
    return {
        (str(customer), invoice, invoice.startswith("C")): abs(total) for (customer, invoice), total in grouped.items()
    }


def spend_by_mapping(found: list[Record]) -> dict[tuple[str, str, bool], int]:
    booked = {}
    for record, event in zip(found, events(found), strict=True):
        order = json.loads(record.value or b"")["order_id"]
        assert (event.customer_id, order, event.is_refund) not in booked, "an invoice is one purchase"
        booked[event.customer_id, order, event.is_refund] = event.amount_minor
    return booked


def written(folder: Path, kind: str) -> Path:
    path = folder / f"retail{kind}"
    if kind == ".parquet":
        parquet.write_table(Table.from_pandas(LINES), path, row_group_size=700)
    elif kind.startswith(".jsonl"):
        text = LINES.to_json(orient="records", lines=True, date_format="iso")
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())
    else:
        text = LINES.to_csv(index=False)
        pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[kind.removeprefix(".csv")]
        path.write_bytes(pack(text.encode()))
    return path


@pytest.mark.parametrize("kind", [".csv", ".csv.gz", ".csv.zst", ".parquet", ".jsonl", ".jsonl.gz"])
def test_invoices_of_an_online_shop_add_up_as_in_pandas(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind)
    (log,) = find_logs([str(path)], ["online-retail"])
    found, read_bytes = read(log, Pounds())
    assert spend_by_mapping(found) == spend_by_pandas(LINES)
    assert {event.region for event in events(found)} == {"France", "EIRE"}
    assert abs(read_bytes - path.stat().st_size) < 10, "the progress counts the bytes on disk"


def test_invoice_times_are_those_of_the_shop(tmp_path: Path) -> None:
    found = events(records(written(tmp_path, ".csv"), maps=("online-retail",), policy=Pounds()))
    local = LINES.dropna(subset=["Customer ID"])["InvoiceDate"].dt.tz_localize("Europe/London")
    assert {event.occurred_at_ms for event in found} == {int(at.timestamp() * 1000) for at in local}


def test_only_the_columns_that_are_mapped_are_read_of_a_parquet_file(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet")
    (log,) = find_logs([str(path)], ["online-retail"])
    assert isinstance(log, MappedLog)
    names = log.mapping.columns(parquet.read_schema(path).names)
    assert set(LINES.columns) - set(names) == {"StockCode", "Description"}


def test_nanoseconds_of_a_parquet_file_are_left_out(tmp_path: Path) -> None:
    nanoseconds = pa.array([1_769_860_800_250_000_007], pa.timestamp("ns", "UTC"))
    columns = {"no": ["1"], "who": [7], "sum": [Decimal("12.50")], "when": nanoseconds}
    parquet.write_table(pa.table(columns), tmp_path / "shop.parquet")
    (tmp_path / "map.toml").write_text(
        'topic = "purchases"\n[columns]\nevent_id="no"\norder_id="no"\ncustomer_id="who"\namount="sum"\noccurred_at="when"\n'
        '[constants]\nkind="purchase"\ncurrency="USD"\n'
    )
    (event,) = events(records(tmp_path / "shop.parquet", maps=(str(tmp_path / "map.toml"),)))
    assert (event.customer_id, event.amount_minor, event.occurred_at_ms) == ("7", 1250, 1_769_860_800_250)


def test_the_progress_bar_shows_bytes_on_disk_and_events_per_second(tmp_path: Path) -> None:
    logs = find_logs([str(written(tmp_path, ".csv.gz"))], ["online-retail"])
    shown = io.StringIO()
    with progress_over(logs, True, "reading", Console(file=shown, force_terminal=True, width=120)) as reading:
        assert read(logs[0], Pounds(), reading.on_bytes)
        reading.on_events(600)
    assert "events/s" in shown.getvalue()
    assert re.search(r"([\d.]+)/\1 kB", shown.getvalue()), "all compressed bytes at the end"


def test_the_cdnow_sample_is_read_as_pandas_reads_it() -> None:
    found = records(ROOT / "scripts" / "data" / "CDNOW_sample.txt", maps=("cdnow",))
    frame = pd.read_csv(ROOT / "scripts" / "data" / "CDNOW_sample.txt", sep=r"\s+", header=None, dtype={1: str, 2: str})
    expected = [
        (customer_id, int(pd.Timestamp(day, tz="UTC").timestamp() * 1000), round(dollars * 100))
        for customer_id, day, dollars in zip(frame[1], frame[2], frame[4], strict=True)
    ]
    assert [(event.customer_id, event.occurred_at_ms, event.amount_minor) for event in events(found)] == expected


# ---------------------------------------------------------------- other shops' exports
def rows_of(tmp_path: Path, preset: str, *rows: dict[str, str]) -> list[tuple[Any, ...]]:
    """The events that a preset makes from rows: customer, order, kind, cents, day, event id."""
    path = tmp_path / "export.csv"
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    found = records(path, maps=(preset,))
    return [
        (
            event.customer_id, json.loads(record.value or b"")["order_id"], "refund" if event.is_refund else "purchase",
            event.amount_minor, json.loads(record.value or b"")["occurred_at"], event.event_id, event.is_full,
        )
        for record, event in zip(found, events(found), strict=True)
    ]  # fmt: skip


def test_shopify_orders_are_purchases_and_refunds(tmp_path: Path) -> None:
    order = {
        "Name": "#1001", "Email": "Ada@Example.com", "Financial Status": "partially_refunded",
        "Paid at": "2026-05-01 10:00:00 +0200", "Currency": "USD", "Total": "100.90", "Created at": "2026-05-01 09:59:00 +0200",
        "Cancelled at": "", "Refunded Amount": "20.00", "Shipping Country": "NL", "Source": "web", "Lineitem quantity": "1",
    }  # fmt: skip
    further = dict.fromkeys(order, "") | {"Name": "#1001", "Email": "Ada@Example.com", "Lineitem quantity": "2"}
    cancelled = order | {
        "Name": "#1002", "Financial Status": "refunded", "Refunded Amount": "100.90", "Cancelled at": "2026-05-03 00:00:00 +0200"
    }  # fmt: skip
    unpaid = order | {"Name": "#1003", "Financial Status": "pending", "Refunded Amount": "0.00"}
    assert rows_of(tmp_path, "shopify-orders", order, further, cancelled, unpaid) == [
        ("ada@example.com", "#1001", "purchase", 10090, "2026-05-01T08:00:00Z", "#1001", False),
        ("ada@example.com", "#1001", "refund", 2000, "2026-05-01T08:00:00Z", "#1001-refund", False),
        ("ada@example.com", "#1002", "purchase", 10090, "2026-05-01T08:00:00Z", "#1002", False),
        ("ada@example.com", "#1002", "refund", 10090, "2026-05-02T22:00:00Z", "#1002-refund", True),
    ]


@pytest.mark.parametrize("created", ["Created (UTC)", "Created date (UTC)"])
def test_stripe_charges_that_succeeded_are_purchases_under_either_heading(tmp_path: Path, created: str) -> None:
    paid = {
        "id": "ch_1", created: "2026-07-01 09:12:33", "Amount": "1,129.00", "Amount Refunded": "0.00", "Currency": "usd",
        "Status": "Paid", "Customer ID": "cus_1", "Customer Email": "a@example.com",
    }  # fmt: skip
    back = paid | {"id": "ch_2", "Amount Refunded": "1,129.00", "Status": "Refunded", "Customer ID": ""}
    failed = paid | {"id": "ch_3", "Status": "Failed"}
    at = "2026-07-01T09:12:33Z"
    assert rows_of(tmp_path, "stripe-charges", paid, back, failed) == [
        ("cus_1", "ch_1", "purchase", 112900, at, "ch_1", False),
        ("a@example.com", "ch_2", "purchase", 112900, at, "ch_2", False),
        ("a@example.com", "ch_2", "refund", 112900, at, "ch_2-refund", True),
    ]


def test_woocommerce_orders_are_refunded_in_whole_or_in_part(tmp_path: Path) -> None:
    order = {
        "order_id": "7", "order_number": "107", "order_date": "2026-01-02 03:04:05", "status": "completed",
        "order_total": "50.00", "order_currency": "USD", "billing_email": "A@example.com", "refunded_total": "0.00",
    }  # fmt: skip
    part = order | {"order_number": "108", "refunded_total": "5.00"}
    whole = order | {"order_number": "109", "status": "refunded", "refunded_total": "50.00"}
    void = order | {"order_number": "110", "status": "cancelled"}
    found = rows_of(tmp_path, "woocommerce-orders", order, part, whole, void)
    assert [(order, kind, cents, full) for _, order, kind, cents, _, _, full in found] == [
        ("107", "purchase", 5000, False), ("108", "purchase", 5000, False), ("108", "refund", 500, False),
        ("109", "purchase", 5000, False), ("109", "refund", 5000, True),
    ]  # fmt: skip
    bare = {name: value for name, value in order.items() if name != "refunded_total"}
    assert len(rows_of(tmp_path, "woocommerce-orders", bare)) == 1


def test_presets_are_listed_and_shown_and_what_is_shown_is_a_mapping_file(tmp_path: Path) -> None:
    listed = json.loads(run("mappings", "list", "--json").output)
    assert {"online-retail", "shopify-orders", "woocommerce-orders", "stripe-charges", "cdnow"} <= set(listed)
    copy = tmp_path / "mine.toml"
    copy.write_text(run("mappings", "show", "online-retail").output)
    path = written(tmp_path, ".csv")
    by_preset, by_copy = (records(path, maps=(one,), policy=Pounds()) for one in ("online-retail", str(copy)))
    assert [record.value for record in by_copy] == [record.value for record in by_preset]
    refused = run("mappings", "show", "ebay")
    assert refused.exit_code == 2
    assert "there is no preset 'ebay'; there are cdnow" in refused.output


# ---------------------------------------------------------------- JSONL, folders, globs
def test_a_folder_is_its_files_of_known_kinds_and_a_glob_the_matching_ones(tmp_path: Path) -> None:
    names = ["b-purchases.jsonl", "a-purchases.jsonl.gz", "c-purchases.ndjson.zst"]
    packs = {".gz": gzip.compress, ".zst": zstandard.compress}
    for number, name in enumerate(names, 1):
        (tmp_path / name).write_bytes(packs.get(Path(name).suffix, bytes)(purchase(number).encode()))
    (tmp_path / "README.md").write_text("what this is")
    assert [event.event_id for event in events(records(tmp_path))] == ["e2", "e1", "e3"]
    assert [event.event_id for event in events(records(tmp_path / "[ab]*.jsonl*"))] == ["e2", "e1"]
    (tmp_path / "2026").mkdir()
    (tmp_path / "2026" / "d-purchases.jsonl").write_text(purchase(4))
    assert [event.event_id for event in events(records(tmp_path / "**" / "*.jsonl"))] == ["e4", "e1"]


def test_globs_give_each_kind_of_file_its_own_mapping(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("no,who,sum,at\n1,ada,5,2026-01-01T00:00:00Z\n")
    (tmp_path / "stars.jsonl").write_text('{"c": {"id": "ada"}, "stars": 80, "ts": 1767225600}\n')
    (tmp_path / "purchases.jsonl").write_text(purchase(2))
    (tmp_path / "sales.toml").write_text(
        'topic = "purchases"\n[columns]\nevent_id="no"\norder_id="no"\ncustomer_id="who"\namount="sum"\noccurred_at="at"\n'
        '[constants]\nkind="purchase"\ncurrency="USD"\n'
    )
    (tmp_path / "stars.toml").write_text(
        'topic = "feedback"\ntime_format = "epoch-s"\n[columns]\ncustomer_id="c.id"\nscore="stars"\noccurred_at="ts"\n'
        '[constants]\nkind="csat"\n'
    )
    maps = (f"*.csv={tmp_path / 'sales.toml'}", f"stars*={tmp_path / 'stars.toml'}")
    found = [(record.topic, event.event_id) for record in records(tmp_path, maps=maps) for event in events([record])]
    assert found == [("purchases", "e2"), ("purchases", "1"), ("feedback", "stars.jsonl:1")]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_dead_letters_name_file_and_line_for_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[ending]
    (tmp_path / f"a-purchases.jsonl{ending}").write_bytes(pack(f"{purchase(1)}\nnot json\n".encode()))
    lines = 'no,who,sum,at\n1,"a\nb",5,2026-01-01T00:00:00Z\n2,bob,much,2026-01-01T00:00:00Z\n3,bob\n4,bob,1,soon\n'
    (tmp_path / f"b.csv{ending}").write_bytes(pack(lines.encode()))
    (tmp_path / "map.toml").write_text(
        'topic = "purchases"\n[columns]\nevent_id="no"\norder_id="no"\ncustomer_id="who"\namount="sum"\noccurred_at="at"\n'
        '[constants]\nkind="purchase"\ncurrency="USD"\n'
    )
    out = tmp_path / "out"
    result = run("replay", tmp_path, "--map", f"*.csv*={tmp_path / 'map.toml'}", "-p", "annual-spend", "-o", out)
    assert result.exit_code == 0, result.output
    letters = [json.loads(line) for line in (out / "dead-letters.jsonl").read_text().splitlines()]
    assert sorted((one["file"], one["line"], one["reason"]) for one in letters) == [
        (f"a-purchases.jsonl{ending}", 2, "not_json"),
        (f"b.csv{ending}", 4, "bad_amount"), (f"b.csv{ending}", 5, "wrong_type"), (f"b.csv{ending}", 6, "bad_time"),
    ]  # fmt: skip


def test_ids_of_rows_without_one_are_made_from_file_name_and_line(tmp_path: Path) -> None:
    ids = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        found = records(written(tmp_path / folder, ".csv"), maps=("online-retail",), policy=Pounds())
        ids.append([event.event_id for event in events(found)])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0])
    with pytest.raises(LogError, match=r"2 files have the name retail.csv.*map event_id"):
        find_logs([str(tmp_path / "*" / "retail.csv")], ["online-retail"])


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("name", "content", "maps", "says"),
    [
        ("shop.xlsx", b"", (), "what kind of file is it? Logs are files ending in .jsonl, .ndjson, .csv"),
        ("shop.parquet.gz", b"", ("cdnow",), "what kind of file is it?"),
        ("shop.parquet", b"", (), "it needs --map"),
        ("shop.parquet", b"PAR1 not", ("cdnow",), "is it a whole Parquet file?"),
        (
            "shop.csv",
            b"a,b\n1,2\n",
            ("stripe-charges",),
            "shop.csv, line 1: there is no column 'Status'; the columns are a, b",
        ),
        ("shop.csv", b"", ("stripe-charges",), "line 1: there is no column 'Status'"),
        ("shop.csv", b"a\n\xff\n", ("latin",), "is the encoding utf-8?"),
        (
            "shop.csv.gz",
            gzip.compress(b"a\n" + bytes(random.Random(1).randbytes(9999)))[:5000],
            ("latin",),
            "after line",
        ),
        ("shop.csv.zst", b"not zstd", ("latin",), "is it a whole file?"),
        (
            "purchases.jsonl.zst",
            zstandard.compress(b"{}\n" * 9)[:-3],
            (),
            "the file ends before its last frame does",
        ),
        (
            "purchases.jsonl",
            b"{}",
            ("nowhere.toml",),
            "nowhere.toml: No such file or directory; give the path of a mapping",
        ),
        ("purchases.jsonl", b"{}", ("*.csv=cdnow",), "--map: no file matches '*.csv'"),
        ("purchases.jsonl", b"{}", ("cdnow", "cdnow-master"), "there are two for *"),
    ],
)
def test_a_log_that_can_not_be_read_is_refused_with_what_to_give(
    tmp_path: Path, name: str, content: bytes, maps: tuple[str, ...], says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "latin.toml").write_text('topic = "purchases"\n[columns]\ncustomer_id = "a"\n')
    given = [str(tmp_path / "latin.toml") if one == "latin" else one for one in maps]
    options = [part for one in given for part in ("--map", one)]
    result = run("replay", tmp_path / name, *options, "-p", "annual-spend", "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert "Traceback" not in result.output


def test_a_folder_or_glob_with_nothing_to_read_is_refused_with_what_is_supported(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "*.csv"):
        with pytest.raises(LogError, match=r"there is nothing to read in it; logs are files ending in .jsonl"):
            find_logs([str(name)], [])
