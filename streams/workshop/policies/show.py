"""Prints the sections of a policy to a terminal, or renders them as Markdown for a wiki."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.policy import Policy
from streams.workshop.policies.sentences import Section


def print_sections(policy: Policy, found: Sequence[Section], console: Console) -> None:
    """Print the sections to a terminal."""
    console.print(Text(policy.title, style="bold"))
    console.print(Text(f"{policy.ref}, amounts in {policy.currency}"))
    for section in found:
        console.print()
        console.print(Text(section.title, style="bold"))
        for sentence in section.sentences:
            console.print(Text(sentence))
        if section.columns:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
            for column in section.columns:
                table.add_column(column, overflow="fold")
            for row in section.rows:
                table.add_row(*map(Text, row))
            console.print(table)


def as_markdown(policy: Policy, found: Sequence[Section]) -> str:
    """The sections as Markdown."""
    return "\n".join(_markdown(policy, found)) + "\n"


def _markdown(policy: Policy, found: Sequence[Section]) -> Iterator[str]:
    yield f"# {_escaped(policy.title)}"
    yield ""
    yield f"`{policy.ref}`, amounts in {policy.currency}"
    for section in found:
        yield ""
        yield f"## {section.title}"
        for sentence in section.sentences:
            yield ""
            yield _escaped(sentence)
        if section.columns:
            yield ""
            yield _row(section.columns)
            yield _row(["---"] * len(section.columns))
            for row in section.rows:
                yield _row(list(map(_escaped, row)))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """A text whose characters can't become a table's border, a tag or emphasis."""
    for character in "\\|<>*_`[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.splitlines())
