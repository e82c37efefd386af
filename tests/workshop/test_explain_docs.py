"""The commands print what docs/explain.md shows."""

from __future__ import annotations

import shlex

import pytest
from typer.testing import CliRunner

from streams.cli import app
from tests.builders import ROOT

PAGE = ROOT / "docs" / "explain.md"
PROMPT = "    $ tierstream "
WIDTH = 110


def shown() -> dict[str, str]:
    """The commands of the page, each with the output below it."""
    found: dict[str, list[str]] = {}
    command = None
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith(PROMPT):
            command = line.removeprefix(PROMPT)
            found[command] = []
        elif command is not None and (line.startswith("    ") or not line):
            found[command].append(line.removeprefix("    "))
        else:
            command = None
    return {command: "\n".join(lines).strip() for command, lines in found.items()}


@pytest.mark.parametrize("command", shown())
def test_a_command_prints_what_the_page_shows(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, shlex.split(command), env={"COLUMNS": str(WIDTH)})
    assert result.output.strip() == shown()[command]
    assert shown()[command]


def test_the_page_shows_a_story_a_question_and_a_refusal() -> None:
    assert [command.split()[:2] for command in shown()] == [["customer", "explain"]] * 3
    assert [" --event " in command for command in shown()] == [False, True, True]
