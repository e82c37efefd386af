"""A worker under test: the one that `tierstream worker` runs, but a test chooses where it dies, and shifts its clock.

    CHAOS_KILL=outputs:7   it kills itself right after the seventh completion of the point `outputs`
    CHAOS_CLOCK=FILE       its wall clock is off by as many milliseconds as FILE says, now and later

Both are patched in from here; production code does not know them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

POINTS = {
    "journal": ("streams.worker.delivery", "Delivery.append_journal"),
    "outputs": ("streams.worker.delivery", "Delivery.append_outputs"),
    "state": ("streams.worker.delivery", "Delivery.append_state"),
    "commit": ("streams.worker.delivery", "Delivery.commit"),
    "profiles": ("streams.worker.delivery", "Delivery.publish"),
    "fenced": ("streams.worker.delivery", "Delivery.open"),
    "restore": ("streams.worker.partition", "PartitionWorker._restore"),
}
"""The points at which a worker can be made to die: module and async method, which subclasses may override."""

CLOCK_READ_SECONDS = 0.05


class PointError(RuntimeError):
    """A fault point that does not exist, or an order that can't be read."""


def arm(order: str) -> None:
    """Make this process kill itself right after the n-th completion of a point; `order` is "point:n"."""
    point, _, number = order.partition(":")
    if point not in POINTS or not number.isdigit() or int(number) < 1:
        raise PointError(f"CHAOS_KILL={order!r} is not POINT:N with N from 1 and POINT among {', '.join(POINTS)}")
    left = int(number)

    def completed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    # All modules of the worker have to be imported first, or subclasses in them would be missed.
    importlib.import_module("streams.worker.run")
    module, path = POINTS[point]
    name = path.rpartition(".")[2]
    for owner in _owners(module, path):
        setattr(owner, name, _call_after(owner.__dict__[name], completed))


def _owners(module: str, path: str) -> list[type]:
    """The classes that define the method: the one named and those of its subclasses that override it."""
    class_name, _, name = path.rpartition(".")
    try:
        base = getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError) as error:
        raise PointError(
            f"there is no {module}.{class_name}: {error}; correct POINTS in tests/chaos/worker.py"
        ) from None
    owners = [one for one in _with_subclasses(base) if name in one.__dict__]
    if not owners or not all(inspect.iscoroutinefunction(owner.__dict__[name]) for owner in owners):
        raise PointError(f"{module}.{path} is not an async method; correct POINTS in tests/chaos/worker.py")
    return owners


def _with_subclasses(base: type) -> Iterator[type]:
    yield base
    for subclass in base.__subclasses__():
        yield from _with_subclasses(subclass)


def _call_after(method: Callable[..., Any], completed: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def wrapped(*args: Any, **options: Any) -> Any:
        result = await method(*args, **options)
        completed()
        return result

    return wrapped


def shift_clock(file: Path) -> None:
    """Shift `time.time` and `time.time_ns` by the milliseconds in the file, read at most every 50 ms."""
    real_ns, monotonic = time.time_ns, time.monotonic
    shift_ms, read_at = 0, -1.0

    def shifted_ns() -> int:
        nonlocal shift_ms, read_at
        if monotonic() - read_at >= CLOCK_READ_SECONDS:
            read_at = monotonic()
            shift_ms = int(file.read_text())
        return real_ns() + shift_ms * 1_000_000

    time.time_ns = shifted_ns
    time.time = lambda: shifted_ns() / 1e9


def main() -> int:
    """Run what `tierstream worker` runs, with its settings from the environment."""
    if clock := os.environ.get("CHAOS_CLOCK"):
        shift_clock(Path(clock))
    if order := os.environ.get("CHAOS_KILL"):
        arm(order)
    import models
    from streams.settings import load_settings
    from streams.worker.run import run_worker

    settings = load_settings()
    return run_worker(settings, models.load(settings.policy))


if __name__ == "__main__":
    sys.exit(main())
