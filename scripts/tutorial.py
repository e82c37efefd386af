"""Run docs/tutorial.ipynb from its first cell to its last and write it back with the outputs.

Example: python -m scripts.tutorial
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"


def read() -> Any:
    """Read the notebook from docs."""
    return nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)


def run(notebook: Any) -> Any:
    """Run the notebook in its folder. Metadata about the run is removed, so that the same code gives the same file."""
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def text_outputs(notebook: Any) -> list[str]:
    """The text outputs of the cells; pictures are left out, because they depend on the machine's fonts."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" not in data:
                texts.append(data["text/plain"])
    return texts


if __name__ == "__main__":
    nbformat.write(run(read()), NOTEBOOK)
