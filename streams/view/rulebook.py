"""The policies that the serving view's data was judged under, kept in the view itself.

Workers put them there, by the number of the edition, before what was judged under them; so whoever reads the view has the rules for
what they read, whatever TIERSTREAM_POLICY they were started with, and no restart is needed when another policy is put in force.

    tierstream:rules           hash: the number of an edition -> the policy from there on, as JSON (streams.engine.policy_on_wire)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from models.policy import Policy, PolicyError
from models.policy.editions import Editions
from streams.engine.policy_on_wire import Rules

if TYPE_CHECKING:
    from streams.view.customers import RedisView

log = logging.getLogger(__name__)

KEY: Final = "rules"


class PoliciesSeen:
    """What the view knew of policies at one moment."""

    def __init__(self, own: Policy, told: Mapping[int, Policy]) -> None:
        self._own = own
        self._told = told

    @property
    def current(self) -> Policy:
        """The policy in force; our own where no worker has told of one."""
        return self._told[max(self._told)] if self._told else self._own

    def named(self, label: str) -> Policy:
        """The policy that a profile or an announcement names: `id@version`, with the number of its edition."""
        edition = label.rpartition("/")[2]
        number = int(edition) if edition.isdigit() else 0
        since = max((one for one in self._told if one <= number), default=None)
        return self.current if since is None else self._told[since]


class Rulebook:
    """Reads the view's policies, each parsed once."""

    def __init__(self, view: RedisView, own: Policy) -> None:
        self._view = view
        self._own = own
        self._parsed: dict[bytes, Policy] = {}

    async def read(self) -> PoliciesSeen:
        """The policies as the view has them now."""
        told = await rules_in(self._view)
        self._parsed = {value: self._parsed.get(value) or self._policy(value) for value in told.values()}
        return PoliciesSeen(self._own, {number: self._parsed[value] for number, value in told.items()})

    def _policy(self, value: bytes) -> Policy:
        rules = msgspec.json.decode(value, type=Rules)
        try:
            return rules.policy()
        except PolicyError as error:
            log.warning("what workers say of %s can't be read; going by %s: %s", rules.ref, self._own.ref, error)
            return self._own


class RulebookWriter:
    """Tells the view of the policies that a worker's partitions are under."""

    def __init__(self, view: RedisView) -> None:
        self._view = view
        self._told: set[int] = set()

    def forget(self) -> None:
        """Tell everything again: Redis has lost what it had."""
        self._told.clear()

    async def tell(self, partitions: Iterable[Editions]) -> None:
        """Have the view know the editions that partitions keep. One that has other lines only needs no word."""
        new = {one.number: one for editions in partitions for one in editions.kept if one.number not in self._told}
        if not new:
            return
        known = await rules_in(self._view)
        for number, edition in sorted(new.items()):
            value = msgspec.json.encode(Rules.of(edition.policy))
            before = max((one for one in known if one <= number), default=None)
            if before is None or known[before] != value:
                await self._view.redis.hset(f"{self._view.prefix}{KEY}", number, value)
                known[number] = value
        self._told |= new.keys()


async def rules_in(view: RedisView) -> dict[int, bytes]:
    """By the number of the edition, what the view was told of policies."""
    found: dict[bytes, Any] = await view.redis.hgetall(f"{view.prefix}{KEY}")
    return {int(number): value for number, value in found.items()}
