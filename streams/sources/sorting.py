"""Sorts logs that are not in the order of time: by `occurred_at`, equal times by topic, equal topics in the order of
reading.

Memory is bounded: what does not fit is on disk (`sort_runs`). The order does not depend on a policy: a record has the
place that its own time gives it, even if something else is wrong with it. Records without a time are first.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import orjson
from msgspec import Struct

from models import units
from models.bodies import Time
from models.events import Event, Rejected
from streams.engine.merge import BEFORE_ALL_MS, Record
from streams.sources.logs import Decodes, Log, LogError
from streams.sources.progress import ReadProgress, progress_over
from streams.sources.sort_runs import Frames, disk_error, merge_runs, merge_width, write_run
from streams.topics import INPUTS

LEAST_MEMORY_BYTES: Final = 1_000_000
RECORDS_A_REPORT: Final = 1_000
MANIFEST: Final = "manifest.json"
NOT_READ: Final = Rejected("not_read", "is decoded when the sorted log is read")
_RANK: Final = {topic: rank for rank, topic in enumerate(INPUTS)}
_KEY_BYTES: Final = 8 + 1 + 8


class _When(Struct):
    occurred_at: Time


class _StoredRecord(Struct, array_like=True):
    """A record as it is stored in a run."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    code: str | None
    """The reason code if the log itself rejected the record, before any decoder."""
    detail: str


_when = msgspec.json.Decoder(_When).decode
_encode_stored = msgspec.msgpack.Encoder().encode
_decode_stored = msgspec.msgpack.Decoder(_StoredRecord).decode


class _TimeDecoder:
    """A decoder that reads only the time of an event."""

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """An event that has a time and nothing else; NOT_READ if the record has no valid time."""
        try:
            at = _when(value or b"").occurred_at
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return NOT_READ
        at_ms = at if isinstance(at, int) else units.ms_from_datetime(at)
        return Event(topic, "", b"", "", at_ms, b"") if 0 <= at_ms < units.LATEST_MS else NOT_READ


class _Manifest(Struct):
    """What is in the folder of a sort, so that a later run can continue it."""

    inputs: list[dict[str, Any]]
    records: int = 0
    """How many records of the inputs are in the runs."""
    is_complete: bool = False
    """Whether these are all records of the inputs."""
    runs: list[str] = []
    made: int = 0
    """How many runs were ever written: the number of the next one."""


class SortedLog:
    """Several logs as one, in the order of time. They are sorted on entering; on leaving, the runs on disk are removed.

    In a folder that was named the runs stay: an interrupted sort continues there, and a finished one is not done again.
    """

    def __init__(
        self, logs: Sequence[Log], memory_bytes: int, folder: Path | None = None, progress: bool = False
    ) -> None:
        if memory_bytes < LEAST_MEMORY_BYTES:
            raise LogError(f"--sort-memory of {memory_bytes} bytes is too little: give 1MB or more")
        self._logs = logs
        self._memory_bytes = memory_bytes
        self._merge_width = merge_width(memory_bytes)
        self._progress = progress
        self._is_kept = folder is not None
        self._named = folder
        self._folder = Path()
        self._manifest = _Manifest([])
        self.files = {partition: name for log in logs for partition, name in log.files.items()}
        self.bytes: int | None = None

    def __enter__(self) -> Self:
        try:
            self._find_folder()
            with progress_over(self._logs, self._progress, "sorting") as reading:
                if not self._manifest.is_complete:
                    self._make_runs(reading)
            self._merge_until_few()
            self.bytes = sum(path.stat().st_size for path in self._paths())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the runs from disk, unless the folder was named."""
        if not self._is_kept and self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)

    def identity(self) -> list[dict[str, Any]]:
        """The identities of the inputs, and that they are sorted."""
        return [{"path": "--sort"}, *self._inputs()]

    def _inputs(self) -> list[dict[str, Any]]:
        return [one for log in self._logs for one in log.identity()]

    def streams(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> list[Iterator[Record]]:
        """One stream: all records in the order of time."""
        return [self._records(decoder, on_bytes)]

    def _records(self, decoder: Decodes, on_bytes: Callable[[int], None]) -> Iterator[Record]:
        for frame in merge_runs(self._paths(), on_bytes):
            stored = _decode_stored(memoryview(frame)[_KEY_BYTES:])
            if stored.code is not None:
                decoded: Event | Rejected = Rejected(stored.code, stored.detail)
            elif stored.partition in self.files:
                decoded = decoder.decode(stored.topic, stored.value)
            else:
                decoded = decoder.decode(stored.topic, stored.value, stored.key or b"", stored.timestamp_ms)
            yield Record(
                stored.topic, stored.partition, stored.offset, stored.key, stored.value, stored.timestamp_ms, decoded
            )

    # ------------------------------------------------------------ sorting
    def _find_folder(self) -> None:
        try:
            if self._named is None:
                self._folder = Path(tempfile.mkdtemp(prefix="tierstream-sort-"))
                return
            self._folder = self._named
            self._folder.mkdir(parents=True, exist_ok=True)
            self._resume(self._folder / MANIFEST)
        except OSError as error:
            raise disk_error(self._named or Path(tempfile.gettempdir()), error) from None

    def _resume(self, path: Path) -> None:
        """Continue what an earlier sort left in the folder. Raises LogError if that sort had other inputs."""
        inputs = self._inputs()
        if path.exists():
            try:
                self._manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
            except msgspec.MsgspecError as error:
                raise LogError(
                    f"{path}: {error}; it is not the manifest of a sort: name another --sort-folder"
                ) from None
            changed = next((one for one in inputs if one not in self._manifest.inputs), None)
            if changed is not None or len(inputs) != len(self._manifest.inputs):
                what = f"{changed['path']} is new or changed" if changed else "some are missing"
                raise LogError(
                    f"the sort in {self._folder} was of other files ({what}): empty that folder, or name "
                    "another --sort-folder"
                )
        elif any(self._folder.iterdir()):
            raise LogError(f"{self._folder} is neither empty nor the folder of a sort: name another --sort-folder")
        self._manifest.inputs = inputs
        for left in self._folder.glob("run-*"):
            if left.name not in self._manifest.runs:
                left.unlink()

    def _make_runs(self, reading: ReadProgress) -> None:
        manifest, times, frames = self._manifest, _TimeDecoder(), Frames(self._memory_bytes)
        number = 0
        for log in self._logs:
            for stream in log.streams(times, reading.on_bytes):
                for record in stream:
                    number += 1
                    if number % RECORDS_A_REPORT == 0:
                        reading.on_events(RECORDS_A_REPORT)
                    if number <= manifest.records:
                        continue  # it is already in a run
                    frames.add(_frame(record, number))
                    if frames.is_full:
                        self._add_run(frames.take_sorted(), number)
        manifest.is_complete = True
        self._add_run(frames.take_sorted(), number)

    def _add_run(self, frames: list[bytes], records: int) -> None:
        if frames:
            path = self._next_path()
            write_run(path, frames)
            self._manifest.runs.append(path.name)
        self._manifest.records = records
        self._write_manifest()

    def _merge_until_few(self) -> None:
        """Merge runs into longer runs until all that remain can be merged at once."""
        manifest = self._manifest
        while len(manifest.runs) > self._merge_width:
            group = manifest.runs[: self._merge_width]
            path = self._next_path()
            write_run(path, merge_runs(self._folder / name for name in group))
            manifest.runs = [*manifest.runs[self._merge_width :], path.name]
            self._write_manifest()
            for name in group:
                (self._folder / name).unlink()

    def _next_path(self) -> Path:
        self._manifest.made += 1
        return self._folder / f"run-{self._manifest.made:06}"

    def _write_manifest(self) -> None:
        if not self._is_kept:
            return
        path = self._folder / MANIFEST
        unfinished = path.with_suffix(".part")
        try:
            unfinished.write_bytes(orjson.dumps(msgspec.to_builtins(self._manifest)))
            unfinished.rename(path)
        except OSError as error:
            raise disk_error(self._folder, error) from None

    def _paths(self) -> list[Path]:
        return [self._folder / name for name in self._manifest.runs]


def _frame(record: Record, number: int) -> bytes:
    """A record with its place in the order before it, so that sorting the bytes of frames sorts the records."""
    refused = record.decoded if isinstance(record.decoded, Rejected) and record.decoded is not NOT_READ else None
    key = (
        (record.occurred_at_ms - BEFORE_ALL_MS).to_bytes(8, "big")
        + _RANK.get(record.topic, 0).to_bytes(1, "big")
        + number.to_bytes(8, "big")
    )
    return key + _encode_stored(
        _StoredRecord(
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            record.timestamp_ms,
            None if refused is None else refused.code,
            "" if refused is None else refused.detail,
        )
    )
