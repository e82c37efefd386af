"""How days and numbers are written in reports."""

from __future__ import annotations

import numpy as np

from models import units


def date(at_ms: int) -> str:
    """The day, in UTC."""
    return units.format_time(at_ms)[:10]


def number(value: float, form: str) -> str:
    """A number as it is shown, a dash where there is none."""
    return "–" if np.isnan(value) else form.format(value)
