"""What MkDocs does to a page before it renders it; see mkdocs.yml.

A block of code may name its file after its language (```csv orders.csv), which scripts/cookbook.py reads and GitHub accepts.
MkDocs' Markdown does not, so the file's name becomes a line of its own.
"""

import re
from typing import Any

NAMED_BLOCK = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with every block's file name above the block."""
    return NAMED_BLOCK.sub(r"`\2`:\n\n```\1", markdown)
