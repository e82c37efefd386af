"""Converts Arrow tables to those of pandas and Polars; the packages are imported when a table is asked for."""

from __future__ import annotations

import importlib
from typing import Any


class MissingPackageError(ImportError):
    """The package that a table needs is not installed; the message says what to install."""


def require_package(name: str) -> Any:
    """Import a package of the extra `notebook`. Raises MissingPackageError."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise MissingPackageError(
            f"this table needs {name}, which is not installed: pip install 'tierstream[notebook]', or {name} alone"
        ) from None


def to_pandas(table: Any) -> Any:
    """An Arrow table as a pandas DataFrame: money stays exact, and integers with missing values stay integers."""
    pd, pa = require_package("pandas"), require_package("pyarrow")
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}

    def kind_for(kind: Any) -> Any:
        return pd.ArrowDtype(kind) if pa.types.is_decimal(kind) else nullable.get(kind)

    whole = {one.name: one.type.to_pandas_dtype() for one in table.schema if one.type in nullable and not one.nullable}
    return table.to_pandas(types_mapper=kind_for).astype(whole)


def to_polars(table: Any) -> Any:
    """An Arrow table as a Polars DataFrame."""
    return require_package("polars").from_arrow(table)
