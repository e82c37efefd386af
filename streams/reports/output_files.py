"""Writes the files that a command was asked for. A report replaces an earlier one; a file that people edit is not
overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from streams.terminal import refuse, say


def refuse_to_overwrite(paths: Iterable[Path], force: bool) -> None:
    """Refuse before any work is done if one of the files exists, unless forced. Raises typer.Exit."""
    for path in paths:
        if path.exists() and not force:
            raise refuse(f"{path} already exists; give another file, or --force to overwrite it")


def write_new(path: Path, text: str, force: bool) -> None:
    """Write a file that must not exist yet, unless forced. Raises typer.Exit."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise refuse(f"{path} already exists; give another file, or --force to overwrite it") from None
    except OSError as error:
        raise refuse(f"can't write {path}: {error.strerror}; give another file") from None


def write_report(path: Path, content: bytes) -> None:
    """Write a report, replacing an earlier one, and print its path. Raises typer.Exit."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise refuse(f"can't write {path}: {error.strerror}; give another file") from None
    say(f"written to {path}")
