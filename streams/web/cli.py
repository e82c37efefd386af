"""The command line of the console: `tierstream console`, and its keys and users."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from models.policy import PolicyError
from streams.settings import SettingsError, load_settings
from streams.terminal import JsonOption, RedisOption, epilog, fail, refuse, say, say_json
from streams.web.serve import serve
from streams.web.settings import Role, load_console_settings
from streams.web.signin.keys import SCOPES, Scope, add_key, read_keys, remove_key
from streams.web.signin.people import read_users, remove_user, set_user
from streams.web.signin.private_file import FileError

console_app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    epilog=epilog("TIERSTREAM_REDIS_URL=redis://127.0.0.1:6379/0 tierstream console --port 6080"),
)
keys_app = typer.Typer(help="Make, list and remove API keys of programs.", no_args_is_help=True)
users_app = typer.Typer(help="Add, list and remove people who sign in with a password.", no_args_is_help=True)
console_app.add_typer(keys_app, name="keys")
console_app.add_typer(users_app, name="users")

KeysFileOption = Annotated[
    Path | None, typer.Option("--file", help="The keys' file; default: TIERSTREAM_CONSOLE_KEYS_FILE.")
]
UsersFileOption = Annotated[
    Path | None, typer.Option("--file", help="The users' file; default: TIERSTREAM_CONSOLE_USERS_FILE.")
]
NameArgument = Annotated[str, typer.Argument(help="The name.")]


@console_app.callback()
def console(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default: 6080.")] = None,
    redis_url: RedisOption = None,
) -> None:
    """Serve the web console, and look-ups for programs.

    Look-ups are under /v1. It runs until it is stopped. Reading needs only Redis. Every option is also a setting;
    docs/console.md has all of them.
    """
    if context.invoked_subcommand is not None:
        return
    try:
        settings = load_settings(redis_url=redis_url)
        if settings.redis_url is None:
            raise refuse("no Redis is named; give --redis-url or set TIERSTREAM_REDIS_URL")
        status = serve(settings, load_console_settings(host=host, port=port))
    except (SettingsError, FileError, PolicyError) as error:
        raise refuse(str(error)) from None
    raise typer.Exit(status)


# ------------------------------------------------------------ keys
@keys_app.command("add", epilog=epilog("tierstream console keys add crm --scope customers:read --scope tiers:read"))
def add_a_key(
    name: NameArgument,
    scope: Annotated[list[str], typer.Option(help=f"What the key may read; may be given again: {', '.join(SCOPES)}.")],
    file: KeysFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key and print it.

    It is printed once: only its hash is kept. A running console accepts it within a second or two.
    """
    scopes: list[Scope] = [one for one in SCOPES if one in scope]
    if unknown := sorted(set(scope) - set(SCOPES)):
        raise refuse(f"{unknown[0]!r} is no scope; choose of {', '.join(SCOPES)}")
    try:
        path = _keys_file(file)
        key = add_key(path, name, scopes)
    except (SettingsError, FileError) as error:
        raise refuse(str(error)) from None
    if as_json:
        say_json({"name": name, "scopes": scopes, "key": key})
    else:
        say(key)
        typer.echo(
            f"{name}: {', '.join(scopes)}; its hash is in {path}. Keep the key: it can't be shown again.", err=True
        )


@keys_app.command("list", epilog=epilog("tierstream console keys list"))
def list_keys(file: KeysFileOption = None, as_json: JsonOption = False) -> None:
    """List the names and scopes of the keys."""
    try:
        keys = read_keys(_keys_file(file))
    except (SettingsError, FileError) as error:
        raise refuse(str(error)) from None
    if as_json:
        say_json([{"name": one.name, "scopes": one.scopes, "made_at": one.made_at} for one in keys])
        return
    for one in keys:
        say(f"{one.name:20} {', '.join(one.scopes):45} {one.made_at}")


@keys_app.command("remove", epilog=epilog("tierstream console keys remove crm"))
def remove_a_key(name: NameArgument, file: KeysFileOption = None) -> None:
    """Remove a key; it stops working within a second or two."""
    try:
        remove_key(_keys_file(file), name)
    except SettingsError as error:
        raise refuse(str(error)) from None
    except FileError as error:
        raise fail(str(error)) from None
    say(f"the key {name} is removed")


def _keys_file(given: Path | None) -> Path:
    return load_console_settings(keys_file=given).keys_file


# ------------------------------------------------------------ users
@users_app.command("add", epilog=epilog("tierstream console users add lin --role agent"))
def add_a_user(
    name: NameArgument,
    role: Annotated[
        Role,
        typer.Option(
            help="viewer: reads, with masked ids; agent: also works in the queue; manager: also assigns alerts."
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Give somebody who exists another role and password.")
    ] = False,
    file: UsersFileOption = None,
) -> None:
    """Let somebody sign in.

    The password is asked for, or is the first line of standard input.
    """
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        path = _users_file(file)
        set_user(path, name, role, password, replace)
    except (SettingsError, FileError) as error:
        raise refuse(str(error)) from None
    say(f"{name} may sign in as {role}; the hash is in {path}")


@users_app.command("list", epilog=epilog("tierstream console users list"))
def list_users(file: UsersFileOption = None, as_json: JsonOption = False) -> None:
    """List the names and roles of the people who sign in with a password."""
    try:
        users = read_users(_users_file(file))
    except (SettingsError, FileError) as error:
        raise refuse(str(error)) from None
    if as_json:
        say_json([{"name": one.name, "role": one.role} for one in users])
        return
    for one in users:
        say(f"{one.name:20} {one.role}")


@users_app.command("remove", epilog=epilog("tierstream console users remove lin"))
def remove_a_user(name: NameArgument, file: UsersFileOption = None) -> None:
    """Remove a person; their sessions end with the next page that they ask for."""
    try:
        remove_user(_users_file(file), name)
    except SettingsError as error:
        raise refuse(str(error)) from None
    except FileError as error:
        raise fail(str(error)) from None
    say(f"{name} is removed")


def _users_file(given: Path | None) -> Path:
    return load_console_settings(users_file=given).users_file
