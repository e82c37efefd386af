"""`tierstream mappings`: the mappings that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.sources.logs import LogError
from streams.sources.mapping_file import preset_names, preset_path, read_mapping_file
from streams.terminal import JsonOption, example, refuse, say, say_json


@example("tierstream mappings list")
def list_mappings(as_json: JsonOption = False) -> None:
    """List the mappings, and what each one is for."""
    titles = {name: read_mapping_file(name).title for name in preset_names()}
    if as_json:
        say_json(titles)
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        say(f"{name:{width}}  {title}")


@example("tierstream mappings show shopify-orders > mine.toml")
def show(preset: Annotated[str, typer.Argument(help="Its name, as tierstream mappings list shows it.")]) -> None:
    """Print a mapping, to read it or to change a copy."""
    try:
        say(preset_path(preset).read_text("utf-8").rstrip("\n"))
    except LogError as error:
        raise refuse(str(error)) from None
