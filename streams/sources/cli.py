"""`tierstream sources`: the mappings that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.terminal import JsonOption, refuse, say, say_json

sources_app = typer.Typer(help="The presets for --map: exports of common shops.", no_args_is_help=True)


@sources_app.command("list", epilog="Example: tierstream sources list")
def list_presets(as_json: JsonOption = False) -> None:
    """The presets, and what each is for."""
    from streams.sources.mapping_file import preset_names, read_mapping_file

    titles = {name: read_mapping_file(name).title for name in preset_names()}
    if as_json:
        say_json(titles)
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        say(f"{name:{width}}  {title}")


@sources_app.command(epilog="Example: tierstream sources show shopify-orders > mine.toml")
def show(preset: Annotated[str, typer.Argument(help="Its name, as sources list has it.")]) -> None:
    """Print a preset, to read it or to change a copy."""
    from streams.sources.logs import LogError
    from streams.sources.mapping_file import preset_path

    try:
        say(preset_path(preset).read_text("utf-8").rstrip("\n"))
    except LogError as error:
        raise refuse(str(error)) from None
