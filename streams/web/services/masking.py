"""Customer ids as those see them who may not know them: masked, with links that name nobody."""

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
"""Before the token that stands for an id in an address."""
_KEY_BYTES: Final = 64


class Masks:
    """What a person is shown of customers' ids, and the way back from a link.

    A token is the id under AES-SIV: the same id has the same token, whoever looks and whenever, and nobody without the key
    makes one or reads one. The key is made once and lies in Redis, where the ids are anyway.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._name = f"{prefix}console:masking-key"
        self._cipher: AESSIV | None = None

    async def ready(self) -> None:
        """Has the key of this installation; the first console makes it."""
        if self._cipher is None:
            await self._redis.set(self._name, secrets.token_bytes(_KEY_BYTES), nx=True)
            self._cipher = AESSIV(await self._redis.get(self._name))

    def shown(self, person: Person, customer_id: str) -> str:
        """The id for these eyes."""
        return customer_id if person.may("agent") else mask(customer_id)

    def reference(self, person: Person, customer_id: str) -> str:
        """What stands for the customer in an address; not yet quoted."""
        if person.may("agent") and "/" not in customer_id and not customer_id.startswith(MARK):
            return customer_id
        assert self._cipher is not None, "ready() comes first"
        token = self._cipher.encrypt(customer_id.encode(), None)
        return MARK + base64.urlsafe_b64encode(token).rstrip(b"=").decode()

    def customer_of(self, person: Person, reference: str) -> str | None:
        """The customer that an address names; None if it names nobody, or names somebody to who may not know ids."""
        if not reference.startswith(MARK):
            return reference if person.may("agent") else None
        assert self._cipher is not None, "ready() comes first"
        padded = reference[1:] + "=" * (-len(reference[1:]) % 4)
        try:
            return self._cipher.decrypt(base64.urlsafe_b64decode(padded), None).decode()
        except (InvalidTag, ValueError, binascii.Error):
            return None
