"""The outputs of a replay: lines for its sinks or its files, and the numbers of its summary."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import orjson

import models
from models.outputs import ANNOUNCEMENTS, DEAD_LETTERS, PROFILES
from models.policy import Policy
from streams.engine.batch import Batch, DeadLetter
from streams.engine.partition import Partition
from streams.sources.logs import Log, LogError

if TYPE_CHECKING:
    from streams.workshop.replay.checkpoint import Checkpoint

OUTPUT_FILES: Final = (*ANNOUNCEMENTS, PROFILES, DEAD_LETTERS)


class Sink(Protocol):
    """Takes lines: a file, or a list."""

    def write(self, line: bytes, /) -> object:
        """Take a line, with its end."""


class Results:
    """Writes the outputs of a replay, each as a line into the sink of its topic, and counts them."""

    def __init__(
        self,
        policy: Policy,
        sinks: Mapping[str, Sink],
        files: Mapping[int, str] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.policy = policy
        self._file_names = files or {}
        self.counts: Counter[str] = Counter({} if checkpoint is None else checkpoint.counts)
        """Announcements and dead letters, by `topic.change` or `topic.reason`."""
        self.events = self._events_before = 0 if checkpoint is None else checkpoint.events
        self._sinks = sinks
        self._started = time.monotonic()

    def add(self, batch: Batch) -> None:
        """Write the outputs and dead letters of a batch."""
        self.events += batch.events
        for output in batch.outputs:
            self._sinks[output.topic].write(output.body + b"\n")
            self.counts[f"{output.topic}.{output.change}"] += 1
        for dead_letter in batch.dead_letters:
            self._sinks[DEAD_LETTERS].write(dead_letter_line(dead_letter, self._file_names) + b"\n")
            self.counts[f"{DEAD_LETTERS}.{dead_letter.code}"] += 1

    def write_profiles(self, partition: Partition) -> Counter[str]:
        """Write the profiles of all customers; returns how many are in which tier."""
        for profile in profiles_of(partition):
            self._sinks[PROFILES].write(profile + b"\n")
        return Counter(models.decode(kept).standing.tier for kept in partition.customers.values())

    def finish(self, partitions: Sequence[Partition]) -> dict[str, Any]:
        """Write the profiles, and sum up."""
        tiers: Counter[str] = Counter()
        for partition in partitions:
            tiers.update(self.write_profiles(partition))
        return self.summary(self.events, sum(len(one.customers) for one in partitions), tiers, self.counts)

    def summary(self, events: int, customers: int, tiers: Counter[str], counts: Counter[str]) -> dict[str, Any]:
        """The numbers of a replay: events, customers, seconds, outputs by kind."""
        seconds = time.monotonic() - self._started
        return {
            "policy": self.policy.ref,
            "events": events,
            "customers": customers,
            "tiers": dict(sorted(tiers.items())),
            **{
                name.replace("-", "_"): {
                    key.partition(".")[2]: count for key, count in sorted(counts.items()) if key.startswith(name)
                }
                for name in (*ANNOUNCEMENTS, DEAD_LETTERS)
            },
            "seconds": round(seconds, 3),
            "events_per_second": round((events - self._events_before) / seconds) if seconds else 0,
        }


class ResultFiles(Results):
    """The output files of a replay. From a checkpoint they are cut to what they were then, and continued."""

    def __init__(
        self,
        policy: Policy,
        out: Path,
        files: Mapping[int, str] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._open = ExitStack()
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._files = {
                name: self._open.enter_context((out / f"{name}.jsonl").open("wb" if checkpoint is None else "r+b"))
                for name in OUTPUT_FILES
            }
            if checkpoint is not None:
                self._cut_off(checkpoint.output_bytes)
        except (OSError, LogError) as error:
            self._open.close()
            if isinstance(error, OSError):
                raise LogError(f"can't write to {out}: {error.strerror}; give another --out") from None
            raise
        super().__init__(policy, self._files, files, checkpoint)

    def _cut_off(self, output_bytes: Mapping[str, int]) -> None:
        """Cut each file to its length at a checkpoint. Raises LogError if one is shorter."""
        for name, sink in self._files.items():
            if sink.seek(0, os.SEEK_END) < output_bytes[name]:
                raise LogError(f"{sink.name} is shorter than at the checkpoint: remove the checkpoint to start over")
            sink.truncate(output_bytes[name])
            sink.seek(output_bytes[name])

    def written(self) -> dict[str, int]:
        """The length of each file in bytes, after everything written was flushed to disk."""
        for sink in self._files.values():
            sink.flush()
            os.fsync(sink.fileno())
        return {name: sink.tell() for name, sink in self._files.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def copy(self, name: str, lines: Iterable[bytes]) -> None:
        """Write lines that another process made."""
        self._files[name].writelines(lines)


def files_of(logs: Iterable[Log]) -> dict[int, str]:
    """The names of the files of logs, by the number that records of a file have for their partition."""
    return {partition: name for log in logs for partition, name in log.files.items()}


def dead_letter_line(dead_letter: DeadLetter, files: Mapping[int, str]) -> bytes:
    """A dead letter in a file: where it came from, what is wrong, and the original text."""
    record = dead_letter.record
    place = {"file": files[record.partition]} if record.partition in files else {"partition": record.partition}
    value = None if record.value is None else record.value.decode(errors="backslashreplace")
    return orjson.dumps(
        {
            "topic": record.topic,
            **place,
            "line" if record.partition in files else "offset": record.offset,
            "reason": dead_letter.code,
            "detail": dead_letter.detail,
            "value": value,
        }
    )


def profiles_of(partition: Partition) -> Iterator[bytes]:
    """The profile of every customer, in the order of their ids; an erased customer has none."""
    for key in sorted(partition.customers):
        profile = models.profile(models.decode(partition.customers[key]), key.decode(), partition.editions.current)
        if profile is not None:
            yield profile
