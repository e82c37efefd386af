"""The tutorial does what it shows: run from its first cell to its last, it says the same."""

from __future__ import annotations

import base64
import copy
import re
from pathlib import Path

import pytest

from scripts import tutorial

MOST_BYTES = 300_000


def pictures(notebook: object) -> list[str]:
    cells = notebook.cells  # type: ignore[attr-defined]
    outputs = [one for cell in cells for one in cell.get("outputs", ())]
    return [one.data["image/png"] for one in outputs if "image/png" in one.get("data", {})]


def test_the_tutorial_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    shown = tutorial.read()
    done = tutorial.run(copy.deepcopy(shown))
    assert tutorial.text_outputs(done) == tutorial.text_outputs(shown), "renew it: python -m scripts.tutorial"
    assert len(pictures(done)) == len(pictures(shown)) == 3
    for picture in (*pictures(done), *pictures(shown)):
        assert base64.b64decode(picture).startswith(b"\x89PNG")


def test_the_tutorial_is_small_and_its_links_lead_somewhere() -> None:
    text = tutorial.NOTEBOOK.read_text("utf-8")
    assert len(text) < MOST_BYTES
    links = re.findall(r"\]\(([^)#]+)\)", "\n".join(cell.source for cell in tutorial.read().cells))
    assert links
    for link in links:
        assert (tutorial.NOTEBOOK.parent / link).exists(), link


def test_no_dollars_in_the_tutorials_prose_are_taken_for_formulas() -> None:
    assert not [cell for cell in tutorial.read().cells if cell.cell_type == "markdown" and "$" in cell.source]
