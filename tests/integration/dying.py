"""The command line, killed (as by `kill -9`) at the nth call of a function, before that is done:
DIE_AT=module:name:n.
"""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any

from streams.cli import main


def die_at(written: str) -> None:
    module, path, count = written.split(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for one in owners:
        owner = getattr(owner, one)
    real, left = getattr(owner, name), int(count)

    def call(*given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    setattr(owner, name, call)


if __name__ == "__main__":
    if os.environ.get("DIE_AT"):
        die_at(os.environ["DIE_AT"])
    main()
