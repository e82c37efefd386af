"""The commands and programs of the cookbook print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

from scripts import cookbook


def test_the_cookbook_prints_what_it_shows(tmp_path: Path) -> None:
    shown = cookbook.COOKBOOK.read_text("utf-8")
    assert cookbook.run(shown, tmp_path).splitlines() == shown.splitlines(), "renew it: python -m scripts.cookbook"


def test_other_output_than_the_one_shown_is_noticed(tmp_path: Path) -> None:
    text = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\n```console\n$ echo one; exit 3\ntwo\n```\n"
    assert cookbook.run(text, tmp_path) == (
        "```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n\n```console\n$ echo one; exit 3\none\n```\n"
    )


def test_the_contents_and_the_links_of_the_cookbook_are_right() -> None:
    text = cookbook.COOKBOOK.read_text("utf-8")
    headings = re.findall(r"^## \d+\. (.*)$", text, re.M)
    listed = re.findall(r"^\d+\. \[(.*)\]\(#", text, re.M)
    assert headings == listed
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (cookbook.COOKBOOK.parent / link).exists(), link
