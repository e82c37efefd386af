"""A replay that was stopped continues from its checkpoint: its customers, and how long its output files were, in one file.

A checkpoint is written between two turns, so that the records after it fall into the same turns as they would have. Whatever was
written to the output files after it is cut off. So in the end the files equal, byte for byte, those of a replay that was never
stopped.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
from msgspec import Struct
from xxhash import xxh3_128_digest

from streams.sources.logs import LogError

FORM: Final = 1
DIGEST_BYTES: Final = 16


class Checkpoint(Struct, kw_only=True):
    """The state of a replay between two turns."""

    form: int = FORM
    policy: str
    inputs: list[dict[str, Any]]
    recorded_lines: bool
    records: int
    """How many records of the logs were taken."""
    events: int
    counts: dict[str, int]
    output_bytes: dict[str, int]
    """The length of each output file, in bytes."""
    clock_ms: int
    census_ms: int
    editions: list[dict[str, Any]]
    customers: dict[bytes, bytes]
    """The customers by key. Their order is that in which they came; the order of a review depends on it."""


_decode = msgspec.msgpack.Decoder(Checkpoint).decode


class Checkpoints:
    """The file of a replay's checkpoint; it is written at intervals, and when the replay is to stop."""

    def __init__(self, path: Path, every_ms: int) -> None:
        self.path = path
        self._every_seconds = every_ms / 1000
        self._written = time.monotonic()
        self._is_to_stop = False

    def read(self, policy: str, inputs: list[dict[str, Any]], recorded_lines: bool) -> Checkpoint | None:
        """The checkpoint, if there is one. Raises LogError if it is of another replay, or damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LogError(f"{self.path}: {error.strerror}; give another --checkpoint") from None
        over = f"remove {self.path} to start over, or give another --checkpoint"
        digest, packed = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if digest != xxh3_128_digest(packed):
            raise LogError(f"{self.path} is no checkpoint of a replay, or damaged; {over}")
        try:
            found = _decode(packed)
        except msgspec.MsgspecError as error:
            raise LogError(f"{self.path} is of another version of Tierstream ({error}); {over}") from None
        if found.form != FORM:
            raise LogError(f"{self.path} is of another version of Tierstream; {over}")
        if found.policy != policy or found.recorded_lines != recorded_lines:
            raise LogError(f"{self.path} is of a replay under {found.policy} with other options; {over}")
        if found.inputs != inputs:
            changed = next((one["path"] for one in inputs if one not in found.inputs), "one that is missing")
            raise LogError(f"{self.path} is of a replay of other logs ({changed} is new or changed); {over}")
        return found

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint is to be written now."""
        return self._is_to_stop or time.monotonic() - self._written >= self._every_seconds

    def write(self, checkpoint: Checkpoint) -> None:
        """Write it, whole or not at all. Raises KeyboardInterrupt, once it is written, if the replay is to stop."""
        unfinished = self.path.with_name(f"{self.path.name}.part")
        packed = msgspec.msgpack.encode(checkpoint)
        try:
            with unfinished.open("wb") as file:
                file.write(xxh3_128_digest(packed))
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self.path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise LogError(f"can't write {self.path}: {error.strerror}; give another --checkpoint") from None
        self._written = time.monotonic()
        if self._is_to_stop:
            raise KeyboardInterrupt

    def remove(self) -> None:
        """Remove the file: the replay is complete."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def stopping_between_turns(self) -> Iterator[None]:
        """Let Ctrl-C, or an orchestrator's signal, stop the replay when a turn is over; a second one stops it at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._is_to_stop = True
            signal.signal(number, kept[number])

        kept: Mapping[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
