"""Masks customer ids for people who may not see them, and makes links that do not reveal an id."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from redis.asyncio import Redis

from streams.language.masking import mask
from streams.web.signin.people import Person

MARK: Final = "~"
"""Stands before a token in an address, to tell it from an id."""
_KEY_BYTES: Final = 64


class Masks:
    """Shows ids, masked or not, and turns them into references for addresses and back.

    A token is the id encrypted with AES-SIV: an id always has the same token, and only the key can make or read a
    token. The key is made once for an installation and stored in Redis, where the ids are anyway.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._name = f"{prefix}console:masking-key"
        self._cipher: AESSIV | None = None

    async def ready(self) -> None:
        """Read the key of the installation; the first console makes it. Call it before the other methods."""
        if self._cipher is None:
            await self._redis.set(self._name, secrets.token_bytes(_KEY_BYTES), nx=True)
            self._cipher = AESSIV(await self._redis.get(self._name))

    def shown(self, person: Person, customer_id: str) -> str:
        """The id as this person may see it."""
        return customer_id if person.may("agent") else mask(customer_id)

    def reference(self, person: Person, customer_id: str) -> str:
        """The customer's reference for an address, not quoted: the id, or a token for people who may not see ids."""
        if person.may("agent") and "/" not in customer_id and not customer_id.startswith(MARK):
            return customer_id
        assert self._cipher is not None, "call ready() first"
        token = self._cipher.encrypt(customer_id.encode(), None)
        return MARK + base64.urlsafe_b64encode(token).rstrip(b"=").decode()

    def customer_of(self, person: Person, reference: str) -> str | None:
        """The customer of a reference; None if it is no valid token, or is an id and this person may not see ids."""
        if not reference.startswith(MARK):
            return reference if person.may("agent") else None
        assert self._cipher is not None, "call ready() first"
        padded = reference[1:] + "=" * (-len(reference[1:]) % 4)
        try:
            return self._cipher.decrypt(base64.urlsafe_b64decode(padded), None).decode()
        except (InvalidTag, ValueError, binascii.Error):
            return None
