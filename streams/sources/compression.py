"""Reads files that may be compressed with gzip or Zstandard; the position in the compressed file shows the progress."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

import zstandard

COMPRESSED_ENDINGS: Final = (".gz", ".zst")
CHUNK_BYTES: Final = 1 << 16
READ_ERRORS: Final = (OSError, EOFError, zlib.error, zstandard.ZstdError)
"""The exceptions that reading a file, compressed or not, may raise."""

OpenFile = Callable[[Path], AbstractContextManager[tuple[IO[bytes], IO[bytes]]]]
"""Opens a file as `open_decompressed` does."""


def uncompressed_name(path: Path) -> str:
    """The name of a file without the ending of its compression.

    >>> uncompressed_name(Path("shop/orders.csv.zst"))
    'orders.csv'
    """
    return path.stem if path.suffix in COMPRESSED_ENDINGS else path.name


@contextmanager
def open_decompressed(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The decompressed content of a file, and the file itself, whose position shows how many bytes of it were read."""
    with path.open("rb") as file:
        if path.suffix == ".gz":
            with gzip.open(file, "rb") as content:
                yield cast(IO[bytes], content), file
        elif path.suffix == ".zst":
            yield cast(IO[bytes], io.BufferedReader(_ZstdReader(file), CHUNK_BYTES)), file
        else:
            yield file, file


class _ZstdReader(io.RawIOBase):
    """The content of a Zstandard file. Unlike the library's own reader, it raises EOFError if the file is cut off."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._decompressed = memoryview(b"")
        self._has_begun = False

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the frame allows; 0 at the end. Raises EOFError if the last frame has no end."""
        while not self._decompressed:
            compressed = self._frame.unused_data if self._frame.eof else b""
            compressed = compressed or self._file.read(CHUNK_BYTES)
            if not compressed:
                if self._has_begun and not self._frame.eof:
                    raise EOFError("the file ends before its last frame does")
                return 0
            if self._frame.eof:
                # Several frames in a row, as parallel compressors and `cat` write them, are one content.
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._has_begun = True
            self._decompressed = memoryview(self._frame.decompress(compressed))
        count = min(len(buffer), len(self._decompressed))
        buffer[:count] = self._decompressed[:count]
        self._decompressed = self._decompressed[count:]
        return count
