"""The columns of a table of bodies: their names, types and values, derived from the classes of the bodies.

Nested fields are flattened (`after.tier` becomes `after_tier`); a list stays a list of structs. If a topic carries
several kinds of bodies, the table has the columns of all of them, empty where a body has no such field. Times are in
UTC, money is decimal, durations are durations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec.inspect as mi
from msgspec import UNSET, Struct

from models import contracts, units
from models.customer import BASE_LEVEL
from models.policy import Policy
from streams.library.dataframes import require_package

MONEY_DIGITS: Final = 38
REPEATED: Final = ("policy", "currency", "main_cause", "region", "category", "segment")
"""Texts with few distinct values, which are stored as dictionaries."""
_PART_OF_DURATION: Final = re.compile(r"\d+[a-z]+")
_DURATION: Final = mi.type_info(contracts.Duration)


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, the path of its value in a body, and the type of the value."""

    name: str
    path: tuple[str, ...]
    kind: mi.Type
    is_nullable: bool

    def values(self, bodies: Iterable[Struct]) -> Iterator[Any]:
        """The value of the column in each body."""
        convert = _conversion(self.kind)
        for body in bodies:
            value: Any = body
            for name in self.path:
                value = getattr(value, name, None)
            yield None if value is None or value is UNSET else convert(value)

    def categories(self, policy: Policy) -> tuple[Sequence[str], bool] | None:
        """The values that the column may have, if they are known, and whether these are ordered."""
        last = self.path[-1].rstrip("_")
        if last == "tier":
            return policy.ladder.tier_names, True
        if last == "level":
            return [BASE_LEVEL, *(level.name for level in policy.risk.levels)], True
        if isinstance(self.kind, mi.LiteralType):
            return [str(one) for one in self.kind.values], False
        return None


def columns_of(bodies: Iterable[type[Struct]]) -> list[Column]:
    """The columns of a table of bodies of these classes, the customer first.

    >>> [one.name for one in columns_of([contracts.Erasure])][::4]
    ['customer_id', 'change', 'before_tier']
    """
    several = [{one.name: one for one in _flattened(mi.type_info(body))} for body in bodies]
    found: dict[str, Column] = {}
    for columns in several:
        for name, column in columns.items():
            known = found.get(name)
            kind = column.kind if known is None else _either(known.kind, column.kind)
            everywhere = all(name in others for others in several)
            nullable = column.is_nullable or not everywhere or (known is not None and known.is_nullable)
            found[name] = Column(name, column.path, kind, nullable)
    return sorted(found.values(), key=lambda one: one.name != "customer_id")


def _flattened(
    kind: mi.Type, name: str = "", path: tuple[str, ...] = (), is_nullable: bool = False
) -> Iterator[Column]:
    kind, may_be_null = _stripped(kind)
    is_nullable = is_nullable or may_be_null
    if isinstance(kind, mi.StructType):
        for field in kind.fields:
            inner = f"{name}_{field.encode_name}".lstrip("_")
            yield from _flattened(field.type, inner, (*path, field.name), is_nullable or not field.required)
    elif not isinstance(kind, mi.NoneType):
        yield Column(name, path, kind, is_nullable)


def _stripped(kind: mi.Type) -> tuple[mi.Type, bool]:
    """A type without its metadata, and whether it may be null. A union of several types becomes text."""
    if isinstance(kind, mi.Metadata) and kind != _DURATION:
        return _stripped(kind.type)
    if not isinstance(kind, mi.UnionType):
        return kind, False
    kinds = [one for one in kind.types if not isinstance(one, mi.NoneType)]
    return _stripped(kinds[0])[0] if len(kinds) == 1 else mi.StrType(), len(kinds) < len(kind.types)


def _either(kind: mi.Type, other: mi.Type) -> mi.Type:
    """The type of a column that two bodies have; of two enumerations it has the values of both."""
    if isinstance(kind, mi.LiteralType) and isinstance(other, mi.LiteralType):
        return mi.LiteralType((*kind.values, *(one for one in other.values if one not in kind.values)))
    return kind


def _conversion(kind: mi.Type) -> Callable[[Any], Any]:
    """A function that converts a value of a type to one that Arrow accepts."""
    kind, _ = _stripped(kind)
    if kind == _DURATION:
        return _duration_ms
    if isinstance(kind, mi.ListType):
        each = _conversion(kind.item_type)
        return lambda values: [each(value) for value in values]
    if isinstance(kind, mi.StructType):
        fields = [(field.encode_name, field.name, _conversion(field.type)) for field in kind.fields]

        def as_dict(part: Any) -> dict[str, Any]:
            values = ((name, getattr(part, attribute), convert) for name, attribute, convert in fields)
            return {
                name: None if value is None or value is UNSET else convert(value) for name, value, convert in values
            }

        return as_dict
    return str if isinstance(kind, mi.StrType) else lambda value: value


def _duration_ms(text: str) -> int:
    """Milliseconds of a duration as bodies have it, in one unit or several.

    >>> _duration_ms("1d2ms")
    86400002
    """
    return sum(map(units.parse_duration, _PART_OF_DURATION.findall(text)))


# ---------------------------------------------------------------- Arrow
def arrow_schema(bodies: Iterable[type[Struct]], policy: Policy) -> Any:
    """The Arrow schema of a table of bodies."""
    pa = require_package("pyarrow")
    return pa.schema(
        [pa.field(one.name, _column_kind(one, policy), nullable=one.is_nullable) for one in columns_of(bodies)]
    )


def arrow_table(bodies: Iterable[type[Struct]], rows: Iterable[Struct], policy: Policy) -> Any:
    """Bodies of these classes as an Arrow table."""
    pa = require_package("pyarrow")
    several, columns = list(rows), columns_of(bodies)
    schema = arrow_schema(bodies, policy)
    arrays = []
    for column, field in zip(columns, schema, strict=True):
        if not pa.types.is_dictionary(field.type):
            arrays.append(pa.array(column.values(several), field.type))
            continue
        values = list(column.values(several))
        known = column.categories(policy)
        names = sorted({one for one in values if one is not None}) if known is None else known[0]
        places = {name: place for place, name in enumerate(names)}
        indices = pa.array([None if one is None else places[one] for one in values], field.type.index_type)
        arrays.append(pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()), ordered=field.type.ordered))
    return pa.Table.from_arrays(arrays, schema=schema)


def _column_kind(column: Column, policy: Policy) -> Any:
    pa = require_package("pyarrow")
    known = column.categories(policy)
    if known is not None or column.path[-1] in REPEATED:
        return pa.dictionary(pa.int32(), pa.string(), ordered=known is not None and known[1])
    return _arrow_kind(column.kind, policy)


def _arrow_kind(kind: mi.Type, policy: Policy) -> Any:
    pa = require_package("pyarrow")
    kind, _ = _stripped(kind)
    if kind == _DURATION:
        return pa.duration("ms")
    if isinstance(kind, mi.ListType):
        return pa.list_(_arrow_kind(kind.item_type, policy))
    if isinstance(kind, mi.StructType):
        return pa.struct([(field.encode_name, _arrow_kind(field.type, policy)) for field in kind.fields])
    simple = {
        mi.DateTimeType: pa.timestamp("ms", "UTC"),
        mi.DecimalType: pa.decimal128(MONEY_DIGITS, policy.decimals),
        mi.IntType: pa.int64(),
        mi.FloatType: pa.float64(),
        mi.BoolType: pa.bool_(),
        mi.StrType: pa.string(),
        mi.LiteralType: pa.string(),
    }
    return simple[type(kind)]
