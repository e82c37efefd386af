"""Python's collector of cyclic garbage, told what folding is like."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

OBJECTS_MADE: Final = 200_000
"""So many more made than freed before the youngest are looked through."""
_THRESHOLDS: Final = (OBJECTS_MADE, 20, 100)


def collect_rarely() -> None:
    """Records and customers under way are many and in no cycles: looking through them takes longer than folding them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """The same for a while, in a process that has other work too."""
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
