"""Reads the rows of Parquet files; a module of its own, because pyarrow is only imported if there is such a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow
from pyarrow import parquet

from streams.sources.file_rows import Rows, check_columns
from streams.sources.logs import LogError
from streams.sources.mapping import Mapping

ROWS_A_BATCH: Final = 8_192


def parquet_rows(path: Path, mapping: Mapping, on_bytes: Callable[[int], None]) -> Rows:
    """The rows of a Parquet file, with their numbers. Only the columns of the mapping are read, some rows at a time.

    Raises LogError.
    """
    number = 0
    try:
        # Without `buffer_size` pyarrow reads a whole row group at once, and a file may have only one.
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            header = file.schema_arrow.names
            check_columns(path, mapping, header, "")
            size, total = path.stat().st_size, max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(ROWS_A_BATCH, columns=mapping.columns(header)):
                for row in _without_nanoseconds(batch).to_pylist():
                    number += 1
                    yield number, row
                on_bytes(size * batch.num_rows // total)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, LogError):
            raise
        raise LogError(f"{path}, after row {number}: {error}; is it a whole Parquet file?") from None


def _without_nanoseconds(batch: Any) -> Any:
    """The same rows with times in microseconds: Python has no finer resolution."""
    for place, field in enumerate(batch.schema):
        if pyarrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            coarse = pyarrow.timestamp("us", field.type.tz)
            batch = batch.set_column(place, field.name, batch.column(place).cast(coarse, safe=False))
    return batch
