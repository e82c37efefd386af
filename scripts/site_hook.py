"""A hook that changes a page before MkDocs renders it; see mkdocs.yml.

A block of code may name its file after its language (```csv orders.csv), which scripts/cookbook.py reads and GitHub
accepts. MkDocs' Markdown does not, so the hook moves the file's name to a line above the block.
"""

import re
from typing import Any

NAMED_BLOCK = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with the file name of every block above the block."""
    return NAMED_BLOCK.sub(r"`\2`:\n\n```\1", markdown)
