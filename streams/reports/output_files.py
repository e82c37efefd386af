"""Writing the files that were asked for: a report anew, and never over one that somebody may have worked on, unless told to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from streams.terminal import refuse, say


def refuse_to_overwrite(paths: Iterable[Path], force: bool) -> None:
    """Before any work is done. Raises typer.Exit."""
    for path in paths:
        if path.exists() and not force:
            raise refuse(f"{path} is there already; give another file, or --force to overwrite it")


def write_new(path: Path, text: str, force: bool) -> None:
    """Write a file that must not be there yet, unless forced. Raises typer.Exit."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise refuse(f"{path} is there already; give another file, or --force to overwrite it") from None
    except OSError as error:
        raise refuse(f"can't write {path}: {error.strerror}; give another file") from None


def write_report(path: Path, content: bytes) -> None:
    """Write a report, in place of the one before, and say so. Raises typer.Exit."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise refuse(f"can't write {path}: {error.strerror}; give another file") from None
    say(f"written to {path}")
