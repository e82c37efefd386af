"""A worker and a console as processes of this machine."""

from __future__ import annotations

import os
import secrets
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final, NamedTuple

import streams
from streams.local.children import HOST, Child, Children
from streams.settings import Settings

START_SECONDS: Final = 120.0
CONSOLE_PORT: Final = 6080


class Console(NamedTuple):
    """A console, and a person who may do everything in it."""

    address: str
    name: str
    password: str


def start_worker(children: Children, settings: Settings) -> Child:
    """Start a worker; its pages are at `settings.web_port`."""
    return children.start("the worker", _command("worker"), environment=_environment(settings.environment()))


def start_console(children: Children, settings: Settings, folder: Path, port: int) -> Console:
    """Start the console on a free port, with a password made now, and return it once it answers. Raises ChildError and Stopped."""
    users, keys = folder / "users.toml", folder / "keys.toml"
    console = Console(f"http://{HOST}:{port}", "developer", secrets.token_urlsafe(9))
    adding = ["console", "users", "add", console.name, "--role", "manager", "--replace", "--file", str(users)]
    environment = _environment({})
    children.run(
        "the console's users", _command(*adding), seconds=START_SECONDS, environment=environment, typed=console.password
    )
    own = {"PORT": str(port), "USERS_FILE": str(users), "KEYS_FILE": str(keys)}
    environment |= settings.environment() | {f"TIERSTREAM_CONSOLE_{name}": value for name, value in own.items()}
    child = children.start("the console", _command("console"), environment=environment)
    children.wait_for(child, lambda: answers(f"{console.address}/signin"), START_SECONDS)
    return console


def answers(url: str) -> bool:
    """Whether a page is there, with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  # an address of ours
            return bool(answer.status == 200)
    except OSError:
        return False


def _command(*words: str) -> list[str]:
    # Not with the folder in which somebody happens to be as a place of modules: it may have a folder "models" of its own.
    return [sys.executable, "-P", "-m", "streams", *words]


def _environment(settings: dict[str, str]) -> dict[str, Any]:
    root = str(Path(streams.__file__).parents[1])
    return {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]), **settings}
