"""The formats of dates and numbers in reports."""

from __future__ import annotations

import math

from models import units


def date(at_ms: int) -> str:
    """The date of an instant, in UTC."""
    return units.format_time(at_ms)[:10]


def number(value: float, form: str) -> str:
    """A number in a format; a dash for not a number."""
    return "–" if math.isnan(value) else form.format(value)
