"""Python's collector of cyclic garbage, told what folding is like."""

from __future__ import annotations

import gc
from typing import Final

OBJECTS_MADE: Final = 200_000
"""So many more made than freed before the youngest are looked through."""


def collect_rarely() -> None:
    """Records and customers under way are many and in no cycles: looking through them takes longer than folding them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_MADE, 20, 100)
