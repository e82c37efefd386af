"""Replay without a broker: the same fold over the same records gives the same bytes.

Several logs are merged by `occurred_at` just as the worker merges the topics of a partition; a stream's own order is
kept. Customers are held in memory, as bytes.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

import models
from models.customer import NEVER_MS
from models.outputs import CHURN_RISK, DEAD_LETTERS, PROFILES, TIER_CHANGES
from models.policy import Policy
from streams.folding import Batch, DeadLetter, Schedule
from streams.logs import Log, LogError
from streams.merge import Record
from streams.topics import INPUTS

EVENTS_A_BATCH: Final = 2_000


class Replay:
    """Customers in memory, folded batch by batch with an event clock, as the worker does."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.customers: dict[bytes, bytes] = {}
        self.schedule = Schedule()
        self.clock_ms = -1

    def fold(self, records: Iterable[Record]) -> Batch:
        """Fold records, in the order given, and cross the lines that their time has reached."""
        batch = Batch(self.policy, self.customers.get)
        for record in records:
            batch.fold(record)
        for key, was_due_ms, due_at_ms in batch.touched():
            self.schedule.moved(key, was_due_ms, due_at_ms)
        self.clock_ms = max(self.clock_ms, batch.latest_ms)
        return self._advanced(batch)

    def finish(self, until_ms: int) -> Batch:
        """Cross the lines up to `until_ms`."""
        self.clock_ms = max(self.clock_ms, until_ms)
        return self._advanced(Batch(self.policy, self.customers.get))

    def _advanced(self, batch: Batch) -> Batch:
        for key in self.schedule.due(self.clock_ms, batch.due_at_ms):
            batch.advance(key, self.clock_ms)
            self.schedule.moved(key, NEVER_MS, batch.due_at_ms(key))
        self.customers.update(batch.changed())
        return batch

    def profiles(self) -> Iterator[bytes]:
        """The profile of every customer, in the order of their ids; none for the erased."""
        for key in sorted(self.customers):
            profile = models.profile(models.decode(self.customers[key]), key.decode(), self.policy)
            if profile is not None:
                yield profile


def merged(streams: Iterable[Iterator[Record]]) -> Iterator[Record]:
    """Streams merged by time, each in its own order; of equal times the topics' order decides, then the streams'."""
    rank = {topic: number for number, topic in enumerate(INPUTS)}

    def ranked(number: int, records: Iterator[Record]) -> Iterator[tuple[int, int, int, Record]]:
        for record in records:
            yield record.occurred_at_ms, rank.get(record.topic, 0), number, record

    entries = [ranked(number, records) for number, records in enumerate(streams)]
    for *_, record in heapq.merge(*entries, key=lambda entry: entry[:3]):
        yield record


def replay_logs(logs: Sequence[Log], policy: Policy, out: Path, until_ms: int | None, progress: bool) -> dict[str, Any]:
    """Replay logs into the four output files in `out`; returns a summary. Raises LogError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LogError(f"can't write to {out}: {error.strerror}; give another --out") from None
    started = time.monotonic()
    replay, decoder = Replay(policy), policy.decoder()
    counts: Counter[str] = Counter()
    events = 0
    with ExitStack() as stack:
        sinks = {
            name: stack.enter_context((out / f"{name}.jsonl").open("wb"))
            for name in (TIER_CHANGES, CHURN_RISK, PROFILES, DEAD_LETTERS)
        }
        on_bytes = stack.enter_context(_progress(logs, progress))
        records = merged(stream for log in logs for stream in log.streams(decoder, on_bytes))

        def write(batch: Batch) -> None:
            for output in batch.outputs:
                sinks[output.topic].write(output.body + b"\n")
                counts[f"{output.topic}.{output.change}"] += 1
            for letter in batch.dead_letters:
                sinks[DEAD_LETTERS].write(dead_letter_line(letter) + b"\n")
                counts[f"{DEAD_LETTERS}.{letter.code}"] += 1

        while turn := _up_to(records, EVENTS_A_BATCH):
            write(replay.fold(turn))
            events += len(turn)
        write(replay.finish(replay.clock_ms if until_ms is None else until_ms))
        for profile in replay.profiles():
            sinks[PROFILES].write(profile + b"\n")
    seconds = time.monotonic() - started
    return {
        "policy": policy.ref,
        "events": events,
        "customers": len(replay.customers),
        "tiers": dict(sorted(Counter(models.decode(kept).standing.tier for kept in replay.customers.values()).items())),
        **{
            name.replace("-", "_"): {
                key.partition(".")[2]: count for key, count in sorted(counts.items()) if key.startswith(name)
            }
            for name in (TIER_CHANGES, CHURN_RISK, DEAD_LETTERS)
        },
        "seconds": round(seconds, 3),
        "events_per_second": round(events / seconds) if seconds else 0,
    }


def dead_letter_line(letter: DeadLetter) -> bytes:
    """A dead letter in a file: where it came from, what is wrong, and the original text."""
    record = letter.record
    value = None if record.value is None else record.value.decode(errors="backslashreplace")
    return orjson.dumps(
        {
            "topic": record.topic,
            "line": record.offset,
            "reason": letter.code,
            "detail": letter.detail,
            "value": value,
        }
    )


def _up_to(records: Iterator[Record], count: int) -> list[Record]:
    return list(islice(records, count))


@contextmanager
def _progress(logs: Sequence[Log], shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of the logs, or nothing."""
    if not shown:
        yield lambda count: None
        return
    sizes = [log.bytes for log in logs]
    # How long a packed file or a topic is, is not known before it is read.
    total = None if None in sizes else sum(size or 0 for size in sizes)
    columns = (TextColumn("replaying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
