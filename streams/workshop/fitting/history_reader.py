"""Reads logs into the columns of a history, for a fit and for a backtest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.events import Event
from models.fitting.history import History, HistoryBuilder
from models.policy import Policy
from streams.sources.logs import Log, LogError
from streams.sources.progress import progress_over

RECORDS_A_REPORT: Final = 1_000


def read_history(logs: Sequence[Log], policy: Policy, shown: bool) -> tuple[History, int]:
    """The history in some logs, and the number of records that could not be used. Raises LogError."""
    builder, unusable = HistoryBuilder(), 0
    with progress_over(logs, shown, "reading") as reading:
        for log in logs:
            for stream in log.streams(policy.decoder(), reading.on_bytes):
                for number, record in enumerate(stream, 1):
                    if number % RECORDS_A_REPORT == 0:
                        reading.on_events(RECORDS_A_REPORT)
                    if isinstance(record.decoded, Event):
                        builder.add(record.decoded)
                    else:
                        unusable += 1
    try:
        return builder.build(), unusable
    except ValueError as error:
        raise LogError(f"{error}: is it the log that you meant?") from None
