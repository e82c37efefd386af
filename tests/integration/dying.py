"""The command line, which kills itself (SIGKILL) at the nth call of a function, before the call does anything.

DIE_AT=module:name:n
"""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any

from streams.cli import main


def die_at(order: str) -> None:
    """Make this process kill itself; `order` is "module:name:n", where the name may be that of a method."""
    module, path, count = order.split(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for one in owners:
        owner = getattr(owner, one)
    real, left = getattr(owner, name), int(count)

    def call_or_die(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(owner, name, call_or_die)


if __name__ == "__main__":
    if os.environ.get("DIE_AT"):
        die_at(os.environ["DIE_AT"])
    main()
