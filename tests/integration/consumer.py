"""A program that consumes, as its authors would write it: run by the tests, and killed by them.

python -m tests.integration.consumer group|position BROKER PREFIX FOLDER SECONDS_AN_ITEM
"""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from streams.client.changes import Changes, tier_changes

QUICK = {"session.timeout.ms": 6_000}
"""Short, so that the partitions of a killed consumer are soon assigned to another."""


def with_a_group(folder: Path, seconds: float, **options: Any) -> None:
    """Writes what it gets to a file; Kafka keeps the positions."""
    with tier_changes(group="app", kafka=QUICK, **options) as changes, (folder / "got").open("a", buffering=1) as got:
        signal.signal(signal.SIGTERM, lambda *_: changes.stop())
        for change in changes:
            time.sleep(seconds)
            got.write(f"{change.customer_id} {change.seq}\n")
    (folder / "ended").touch()


def with_positions(folder: Path, seconds: float, **options: Any) -> None:
    """Writes what it gets to a database, together with the position."""
    kept = sqlite3.connect(folder / "kept.db")
    with kept:
        kept.execute("create table if not exists got (customer_id, seq)")
        kept.execute("create table if not exists position (number integer primary key, next integer)")
    changes: Changes = tier_changes(from_position=dict(kept.execute("select number, next from position")), **options)
    for change in changes:
        time.sleep(seconds)
        with kept:
            kept.execute("insert into got values (?, ?)", (change.customer_id, change.seq))
            kept.executemany("insert or replace into position values (?, ?)", changes.position.items())


if __name__ == "__main__":
    how, broker, prefix, folder, seconds = sys.argv[1:]
    run = with_a_group if how == "group" else with_positions
    run(Path(folder), float(seconds), broker=broker, topic_prefix=prefix)
