"""The sorted runs of an external merge sort of byte strings: what does not fit into memory is written to disk.

A run is a file of blocks compressed with Zstandard. A block is a sequence of frames, each with its length before it; an
empty block is the end of the run. A run gets its final name when it is complete, so every run that exists after a crash
can be used.
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
"""How many runs are merged at once at the most; one block of each is in memory."""
FRAME_OVERHEAD_BYTES: Final = 64
"""The memory that a frame takes besides its content."""
LENGTH_BYTES: Final = 4


class Frames:
    """Frames collected in memory until they take `memory_bytes`."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._frames: list[bytes] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: bytes) -> None:
        """Add a frame."""
        self._frames.append(frame)
        self._bytes += len(frame) + FRAME_OVERHEAD_BYTES

    @property
    def is_full(self) -> bool:
        """Whether the frames take as much memory as is allowed."""
        return self._bytes >= self._memory_bytes

    def take_sorted(self) -> list[bytes]:
        """Remove all frames and return them in order."""
        frames, self._frames, self._bytes = self._frames, [], 0
        frames.sort()
        return frames


def write_run(path: Path, frames: Iterable[bytes]) -> None:
    """Write sorted frames to a file, completely or not at all. Raises LogError, for example if the disk is full."""
    unfinished = path.with_suffix(".part")
    compressor = zstandard.ZstdCompressor(level=1)
    try:
        with unfinished.open("wb") as file:

            def write(block: bytes) -> None:
                compressed = compressor.compress(block) if block else b""
                file.write(len(compressed).to_bytes(LENGTH_BYTES, "big"))
                file.write(compressed)

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
    """The LogError for a failure in the folder of a sort: what is wrong, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return LogError(
            f"the disk of {folder} is full: a sort needs about as much space as the log compressed with gzip, and "
            "twice that for very large logs; name another folder by --sort-folder or TMPDIR"
        )
    return LogError(f"can't sort in {folder}: {error.strerror}; name another folder by --sort-folder or TMPDIR")


def read_run(path: Path, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """The frames of a run; one block is in memory at a time. Raises LogError if the run is not complete."""
    decompressor = zstandard.ZstdDecompressor()
    try:
        with path.open("rb") as file:
            while length := int.from_bytes(_exactly(file.read(LENGTH_BYTES), LENGTH_BYTES), "big"):
                block = decompressor.decompress(_exactly(file.read(length), length))
                on_bytes(LENGTH_BYTES + length)
                begin = 0
                while begin < len(block):
                    end = begin + LENGTH_BYTES + int.from_bytes(block[begin : begin + LENGTH_BYTES], "big")
                    yield block[begin + LENGTH_BYTES : end]
                    begin = end
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise LogError(f"{path}: {error}; this run of a sort is damaged: empty the folder and sort again") from None


def _exactly(read: bytes, length: int) -> bytes:
    if len(read) < length:
        raise EOFError("the file ends too early")
    return read


def merge_runs(paths: Iterable[Path], on_bytes: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
    """The frames of several runs, merged in order."""
    return heapq.merge(*(read_run(path, on_bytes) for path in paths))


def merge_width(memory_bytes: int) -> int:
    """How many runs can be merged at once: each has a block in memory, compressed and decompressed."""
    return max(2, min(MAX_MERGE_WIDTH, memory_bytes // (3 * BLOCK_BYTES)))
