"""A program that consumes tier changes, as a user would write it; tests run it and kill it.

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

SHORT_SESSION = {"session.timeout.ms": 6_000}
"""It is short, so that the partitions of a killed consumer are soon assigned to another one."""


def consume_with_a_group(folder: Path, seconds: float, **options: Any) -> None:
    """Write every change to a file; Kafka keeps the positions."""
    with (
        tier_changes(group="app", kafka=SHORT_SESSION, **options) as changes,
        (folder / "got").open("a", buffering=1) as got,
    ):
        signal.signal(signal.SIGTERM, lambda *_: changes.stop())
        for change in changes:
            time.sleep(seconds)
            got.write(f"{change.customer_id} {change.seq}\n")
    (folder / "ended").touch()


def consume_with_positions(folder: Path, seconds: float, **options: Any) -> None:
    """Write every change to a database, in one transaction with the position."""
    database = sqlite3.connect(folder / "kept.db")
    with database:
        database.execute("create table if not exists got (customer_id, seq)")
        database.execute("create table if not exists position (number integer primary key, next integer)")
    changes: Changes = tier_changes(
        from_position=dict(database.execute("select number, next from position")), **options
    )
    for change in changes:
        time.sleep(seconds)
        with database:
            database.execute("insert into got values (?, ?)", (change.customer_id, change.seq))
            database.executemany("insert or replace into position values (?, ?)", changes.position.items())


if __name__ == "__main__":
    kind, broker, prefix, folder, seconds = sys.argv[1:]
    run = consume_with_a_group if kind == "group" else consume_with_positions
    run(Path(folder), float(seconds), broker=broker, topic_prefix=prefix)
