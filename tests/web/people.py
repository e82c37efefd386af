"""People who use the console in tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from streams.web.settings import Role
from streams.web.signin import people
from streams.web.signin.people import set_user

PASSWORD = "correct horse battery"


ROLES_OF_STAFF: dict[str, Role] = {"vic": "viewer", "lin": "agent", "kim": "manager"}


def hire_staff(folder: Path) -> None:
    """Let vic, lin and kim sign in: a viewer, an agent and a manager."""
    for name, role in ROLES_OF_STAFF.items():
        hire(folder, name, role)


def hire(folder: Path, name: str, role: Role) -> None:
    set_user(folder / "users.toml", name, role, PASSWORD, replace=True)


async def sign_in(client: Any, name: str, password: str = PASSWORD, after: str = "") -> Any:
    return await client.post(
        "/signin", data={"name": name, "password": password, "after": after}, follow_redirects=False
    )


async def token_of(client: Any) -> str:
    """The session's token, as pages have it for their scripts."""
    found = re.search(r'name="csrf-token" content="([^"]+)"', (await client.get("/queue")).text)
    assert found is not None
    return found[1]


def hash_cheaply(monkeypatch: Any) -> None:
    """Let argon2 hash as fast as it can, since no test is about its strength."""
    from argon2 import PasswordHasher

    monkeypatch.setattr(people, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
