"""Files as they lie there: plain, or packed with gzip or Zstandard, read with an eye on how far one has got."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

import zstandard

COMPRESSED_ENDINGS: Final = (".gz", ".zst")
CHUNK_BYTES: Final = 1 << 16
READ_ERRORS: Final = (OSError, EOFError, zlib.error, zstandard.ZstdError)
"""What reading a file may end in."""


def uncompressed_name(path: Path) -> str:
    """A file's name without the ending that says how it is packed.

    >>> uncompressed_name(Path("shop/orders.csv.zst"))
    'orders.csv'
    """
    return path.stem if path.suffix in COMPRESSED_ENDINGS else path.name


@contextmanager
def open_decompressed(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A file's content, unpacked, and the file itself, whose position says how much of it was read."""
    with path.open("rb") as file:
        if path.suffix == ".gz":
            with gzip.open(file, "rb") as unpacked:
                yield cast(IO[bytes], unpacked), file
        elif path.suffix == ".zst":
            yield cast(IO[bytes], io.BufferedReader(_Unpacking(file), CHUNK_BYTES)), file
        else:
            yield file, file


class _Unpacking(io.RawIOBase):
    """A Zstandard file's content. The library's own reader takes a file that is cut off for one that ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = memoryview(b"")
        self._begun = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there is something at hand; 0 at the end. Raises EOFError if the last frame has none."""
        while not self._waiting:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._file.read(CHUNK_BYTES)
            if not packed:
                if self._begun and not self._frame.eof:
                    raise EOFError("the file ends before its last frame does")
                return 0
            if self._frame.eof:
                # Frames one after the other, as parallel packers and `cat` make them, are one content.
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            self._waiting = memoryview(self._frame.decompress(packed))
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count
