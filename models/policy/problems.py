"""Problems in a policy or parameters file: the line, the problem, and how to fix it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in a file: its line, the setting, what is wrong, and how to fix it."""

    line: int
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.where + ': ' if self.where else ''}{self.what}. {self.fix}"


class PolicyError(ValueError):
    """A policy, or its parameters file, can't be used; `problems` has the reasons."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{source}, {problem}" for problem in problems))
        self.source = source
        self.problems = problems


def read_toml(text: str, source: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises PolicyError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else text.count("\n") + 1
        raise PolicyError(source, [Problem(line, "", f"not TOML: {error}", "Mend the syntax there")]) from None
