"""People who use the console in tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from streams.web.signin import people
from streams.web.signin.people import Role, set_user

PASSWORD = "correct horse battery"


def hire(folder: Path, name: str, role: Role) -> None:
    set_user(folder / "users.toml", name, role, PASSWORD, replace=True)


async def sign_in(client: Any, name: str, password: str = PASSWORD, after: str = "") -> Any:
    return await client.post(
        "/signin", data={"name": name, "password": password, "after": after}, follow_redirects=False
    )


async def token_of(client: Any) -> str:
    """The session's token, as a page has it for its scripts."""
    found = re.search(r'name="csrf-token" content="([^"]+)"', (await client.get("/queue")).text)
    assert found is not None
    return found[1]


def cheap_hashes(monkeypatch: Any) -> None:
    """argon2 as quick as it gets: what is tested is not how long it takes."""
    from argon2 import PasswordHasher

    monkeypatch.setattr(people, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
