"""Settings of Python's cyclic garbage collector that suit folding."""

from __future__ import annotations

import gc
from typing import Final

OBJECTS_MADE: Final = 200_000
"""How many more objects are made than freed before the collector looks at the youngest."""


def collect_rarely() -> None:
    """Collect rarely: records and customers being folded are many and form no cycles; scanning them takes longer than
    folding.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_MADE, 20, 100)
