"""Finds the line of something in a file of test customers, also within an array of inline tables."""

from __future__ import annotations

import re
from typing import Final

from models.policy.line_numbers import line_of

_ROW: Final = re.compile(r"^(customers\[\d+\]\.(?:events|expect))\[(\d+)\]")
_CUSTOMER: Final = re.compile(r"^customers\[(\d+)\]")
_NAME_IN_JSON: Final = re.compile(r'"name"\s*:')
_TOKEN: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]')
"""The tokens that matter for counting rows: texts and comments, which are skipped, and brackets."""


def line_in(text: str, path: str, is_json: bool) -> int:
    r"""The line (from 1) of what is at `path`, as in `customers[0].events[1].on`, or of the nearest element around it.

    >>> line_in('[[customers]]\nname = "Ada"\nevents = [\n  { on = "2026-01-05" },\n  { on = 7 },\n]', "customers[0].events[1].on", False)
    5
    """
    if is_json:
        return _line_in_json(text, path)
    row = _ROW.match(path)
    if row is None:
        return line_of(text, path)
    array_line, line = line_of(text, row[1]), line_of(text, row[0])
    written_apart = line != array_line or text.splitlines()[line - 1].lstrip().startswith("[")
    return line_of(text, path) if written_apart else _line_of_row(text, array_line, int(row[2]))


def _line_of_row(text: str, array_line: int, number: int) -> int:
    """The line of the table with this number, in an array that begins on `array_line`."""
    begin = sum(len(line) for line in text.splitlines(keepends=True)[: array_line - 1])
    depth = 0
    for token in _TOKEN.finditer(text, begin):
        if token[0] in ("[", "{"):
            if token[0] == "{" and depth == 1:
                number -= 1
                if number < 0:
                    return text.count("\n", 0, token.start()) + 1
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
            if not depth:
                break
    return array_line


def _line_in_json(text: str, path: str) -> int:
    """The line of the customer's name; JSON is laid out in too many ways for anything more exact."""
    customer = _CUSTOMER.match(path)
    names = list(_NAME_IN_JSON.finditer(text))
    if customer is None or int(customer[1]) >= len(names):
        return 1
    return text.count("\n", 0, names[int(customer[1])].start()) + 1
