"""The line numbers of the settings in a TOML text, which tomllib does not report."""

from __future__ import annotations

import re
from functools import lru_cache

_TABLE = re.compile(r"\s*(\[\[?)\s*([\w.\-\"']+)\s*\]\]?")
_KEY = re.compile(r"\s*([\w\-.\"']+)\s*=")


def line_of(text: str, path: str) -> int:
    r"""The line (from 1) of the setting at `path`, as in `tiers[1].min_spend`, or of the nearest table around it.

    >>> line_of('id = "x"\n[[tiers]]\nname = "a"\n[[tiers]]\nname = "b"', "tiers[1].name")
    5
    """
    lines = _lines_of_settings(text)
    while path:
        if path in lines:
            return lines[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return 1


@lru_cache(maxsize=4)
def _lines_of_settings(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    rows: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = _TABLE.match(line)
        if header:
            table = _path_of(header[2])
            # A table under an array of tables belongs to the array's latest row.
            for array, count in rows.items():
                if table.startswith(array + "."):
                    table = f"{array}[{count - 1}]{table[len(array) :]}"
            if header[1] == "[[":
                rows[table] = rows.get(table, 0) + 1
                lines.setdefault(table, number)
                table = f"{table}[{rows[table] - 1}]"
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            lines.setdefault(f"{table}.{_path_of(key[1])}".lstrip("."), number)
    return lines


def _path_of(written: str) -> str:
    return written.replace('"', "").replace("'", "").replace(" ", "")
