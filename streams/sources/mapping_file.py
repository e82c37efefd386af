"""The TOML file of a mapping: which column of an export is which field, in which format, and which rows are which
events.

docs/replay.md is its reference. Presets, for the exports of common shops, are such files too; they ship with the
package.
"""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct, field

from models import units
from models.bodies import TOPIC_BODIES
from streams.sources.logs import LogError
from streams.topics import INPUTS

PRESETS: Final = Path(__file__).with_name("presets")
WHITESPACE: Final = "whitespace"
TIME_NAMES: Final = ("rfc3339", "epoch-s", "epoch-ms")


class Condition(Struct, forbid_unknown_fields=True, frozen=True):
    """A condition on a column. All parts that are given have to hold."""

    among: list[str] | None = None
    not_among: list[str] | None = field(name="not", default=None)
    begins: str | list[str] | None = None
    ends: str | list[str] | None = None
    above: str | int | float | None = None
    below: str | int | float | None = None
    present: bool | None = None


Wanted = str | list[str] | Condition
"""A condition; a text or a list of them is `among`."""


class Rules(Struct, forbid_unknown_fields=True, kw_only=True):
    """How a row becomes an event. The keys of every table are fields of the event; those of `when` and `refund_when`
    are columns.

    Wherever a column is named, several may be, separated by bars: the first that is not empty is used.
    """

    topic: str | None = None
    columns: dict[str, str] = {}
    """The column of the field's value."""
    constants: dict[str, str | int | bool] = {}
    """The value if no column has one."""
    templates: dict[str, str] = {}
    """A text with names of columns in braces."""
    products: dict[str, list[str]] = {}
    """Columns whose numbers are multiplied, exactly."""
    values: dict[str, dict[str, str | int | bool]] = {}
    """The values that texts stand for; "*" is any other text."""
    endings: dict[str, str] = {}
    """An ending that is removed."""
    letters: dict[str, Literal["upper", "lower"]] = {}
    when: dict[str, Wanted] = {}
    """The conditions of rows that are such an event."""
    refund_when: dict[str, Wanted] = {}
    """The conditions of rows that are a refund, of the amount without its sign."""
    optional: bool = False
    """Whether a file may lack the columns; then `when` never holds for that file."""
    optional_fields: list[str] = []
    """The fields whose columns a file may lack."""


class MappingFile(Rules, forbid_unknown_fields=True, kw_only=True):
    """The whole file: what holds for all events, and `events` if a row may contain several."""

    title: str = ""
    delimiter: str = ","
    encoding: str = "utf-8"
    header: list[str] = []
    """The columns of a file without a heading."""
    time_format: str | list[str] = "rfc3339"
    utc_offset: str = "+00:00"
    zone: str | None = None
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    ignore: str = ""
    """Characters of an amount to ignore, such as the sign of a currency."""
    minor_units: bool = False
    negative: Literal["refused", "refund"] = "refused"
    join_rows: bool = False
    """Whether adjacent rows of one order are one purchase."""
    events: list[Rules] = []


def preset_names() -> list[str]:
    """The names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_path(name: str) -> Path:
    """The file of a preset. Raises LogError if there is none of that name."""
    if name not in preset_names():
        raise LogError(f"there is no preset {name!r}; there are {', '.join(preset_names())}")
    return PRESETS / f"{name}.toml"


def read_mapping_file(name: str) -> MappingFile:
    """The file of a preset, or the file at a path. Raises LogError."""
    path = PRESETS / f"{name}.toml" if name in preset_names() else Path(name)
    try:
        file = parse_mapping(path.read_text("utf-8"))
    except OSError as error:
        raise LogError(
            f"{name}: {error.strerror}; give the path of a mapping file, or one of {', '.join(preset_names())}"
        ) from None
    except (ValueError, LookupError) as error:
        raise LogError(f"{name}: {error}; docs/replay.md has the reference") from None
    return file


def parse_mapping(text: str) -> MappingFile:
    """The mapping in a TOML text. Raises ValueError or LookupError that says what is wrong."""
    file = msgspec.convert(tomllib.loads(text), MappingFile)
    units.parse_utc_offset(file.utc_offset)
    if file.zone is not None:
        _check_zone(file.zone)
    if len(file.delimiter) != 1 and file.delimiter != WHITESPACE:
        raise ValueError(f"delimiter {file.delimiter!r} is neither one character nor {WHITESPACE!r}")
    if len(file.thousands) > 1 or file.thousands == file.decimal:
        raise ValueError(f"thousands {file.thousands!r} is not one character other than decimal")
    "".encode(file.encoding)
    for event in file.events or [file]:
        _check_event(file, event)
    return file


def _check_event(file: MappingFile, event: Rules) -> None:
    topic = event.topic or file.topic
    if topic is None:
        raise ValueError(f"topic is missing; it should be one of {', '.join(INPUTS)}")
    if topic not in INPUTS:
        raise ValueError(f"topic {topic!r} is not among {', '.join(INPUTS)}")
    known = TOPIC_BODIES[topic].__struct_fields__
    for name in ("columns", "constants", "templates", "products", "values", "endings", "letters", "optional_fields"):
        # A table for all events may be useful to only some of them.
        for one in getattr(event, name):
            if one not in known and (event is not file or not file.events):
                raise ValueError(f"{name}: an event of {topic} has no field {one!r}; its fields are {', '.join(known)}")
    if event.refund_when and topic != "purchases":
        raise ValueError(f"refund_when is for purchases, not for {topic}")
    if event.optional and not event.when:
        raise ValueError("an optional event needs a `when`, which does not hold if the columns are missing")


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ValueError, LookupError, OSError):
        raise ValueError(f"zone {zone!r} is not known; write it as Europe/Berlin, or give utc_offset") from None


def merged_rules(file: MappingFile, event: Rules) -> Rules:
    """The rules of an event, completed by those for all events."""
    if event is file:
        return file
    tables: dict[str, Any] = {
        name: {**getattr(file, name), **getattr(event, name)}
        for name in (
            "columns", "constants", "templates", "products", "values", "endings", "letters", "when", "refund_when"
        )
    }  # fmt: skip
    # A field that an event defines in any way replaces what is defined for all events.
    ways = ("columns", "templates", "products")
    for way, other in itertools.permutations(ways, 2):
        for one in getattr(event, way):
            if one not in getattr(event, other):
                tables[other].pop(one, None)
    return Rules(
        topic=event.topic or file.topic,
        optional=event.optional,
        optional_fields=[*file.optional_fields, *event.optional_fields],
        **tables,
    )
