"""An external merge sort of byte strings: what does not fit into memory waits on disk in sorted runs.

A run is a file of blocks packed with Zstandard, each of frames with their lengths, and an empty block at its end. It gets its
name when it is whole, so that what is there after a crash can be used.
"""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import zstandard

from streams.sources.logs import LogError

BLOCK_BYTES: Final = 256 * 1024
MAX_MERGE_WIDTH: Final = 64
"""Runs merged at the same time; of each, a block is in memory."""
FRAME_OVERHEAD_BYTES: Final = 64
"""What a frame takes in memory beside its content."""
LENGTH_BYTES: Final = 4


class Frames:
    """Frames that are collected until they take as much memory as they may."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._frames: list[bytes] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: bytes) -> None:
        """One more."""
        self._frames.append(frame)
        self._bytes += len(frame) + FRAME_OVERHEAD_BYTES

    @property
    def is_full(self) -> bool:
        """Whether they take as much memory as they may."""
        return self._bytes >= self._memory_bytes

    def take_sorted(self) -> list[bytes]:
        """All of them in order; none are left."""
        frames, self._frames, self._bytes = self._frames, [], 0
        frames.sort()
        return frames


def write_run(path: Path, frames: Iterable[bytes]) -> None:
    """Write sorted frames to a file, whole or not at all. Raises LogError, as when the disk is full."""
    unfinished = path.with_suffix(".part")
    packer = zstandard.ZstdCompressor(level=1)
    try:
        with unfinished.open("wb") as file:

            def write(block: bytes) -> None:
                packed = packer.compress(block) if block else b""
                file.write(len(packed).to_bytes(LENGTH_BYTES, "big"))
                file.write(packed)

            block = bytearray()
            for frame in frames:
                block += len(frame).to_bytes(LENGTH_BYTES, "big")
                block += frame
                if len(block) >= BLOCK_BYTES:
                    write(bytes(block))
                    block.clear()
            if block:
                write(bytes(block))
            write(b"")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise disk_error(path.parent, error) from None


def disk_error(folder: Path, error: OSError) -> LogError:
    """What is wrong with the folder of a sort, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return LogError(
            f"the disk of {folder} is full: a sort needs about as much room as the log takes with gzip, and for very large "
            "ones twice that; name another folder by --sort-folder or TMPDIR"
        )
    return LogError(f"can't sort in {folder}: {error.strerror}; name another folder by --sort-folder or TMPDIR")


def read_run(path: Path, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """The frames of a run, a block of them in memory. Raises LogError if it is not whole."""
    unpacker = zstandard.ZstdDecompressor()
    try:
        with path.open("rb") as file:
            while length := int.from_bytes(_exactly(file.read(LENGTH_BYTES), LENGTH_BYTES), "big"):
                block = unpacker.decompress(_exactly(file.read(length), length))
                on_bytes(LENGTH_BYTES + length)
                begin = 0
                while begin < len(block):
                    end = begin + LENGTH_BYTES + int.from_bytes(block[begin : begin + LENGTH_BYTES], "big")
                    yield block[begin + LENGTH_BYTES : end]
                    begin = end
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise LogError(f"{path}: {error}; this part of a sort is damaged: empty the folder and sort again") from None


def _exactly(read: bytes, length: int) -> bytes:
    if len(read) < length:
        raise EOFError("it ends too early")
    return read


def merge_runs(paths: Iterable[Path], on_bytes: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
    """The frames of several runs in order."""
    return heapq.merge(*(read_run(path, on_bytes) for path in paths))


def merge_width(memory_bytes: int) -> int:
    """How many runs are merged at the same time in so much memory: frames of a block lie there packed and unpacked."""
    return max(2, min(MAX_MERGE_WIDTH, memory_bytes // (3 * BLOCK_BYTES)))
