"""The policies in force, by edition, kept in the serving view beside the data that was judged under them.

Workers write a policy here before the first data that was judged under it. A reader of the view therefore has the
policy for all data that it reads, whatever its own TIERSTREAM_POLICY says, and need not be restarted when another
policy is put in force.

    tierstream:rules           hash: number of an edition -> the policy in force from that edition on, as JSON (PolicyOnWire)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from models.policy import Policy, PolicyError
from models.policy.editions import Editions
from streams.engine.policy_on_wire import PolicyOnWire

if TYPE_CHECKING:
    from streams.view.customers import RedisView

log = logging.getLogger(__name__)

KEY: Final = "rules"


class PoliciesInForce:
    """The policies of the view at one moment: by edition, and the reader's own policy for a view that has none."""

    def __init__(self, own: Policy, by_edition: Mapping[int, Policy]) -> None:
        self._own = own
        self._by_edition = by_edition

    @property
    def current(self) -> Policy:
        """The policy in force now; the reader's own if no worker has written one."""
        return self._by_edition[max(self._by_edition)] if self._by_edition else self._own

    def by_label(self, label: str) -> Policy:
        """The policy that a profile or an announcement is labelled with: `id@version`, or `id@version/edition`."""
        edition = label.rpartition("/")[2]
        number = int(edition) if edition.isdigit() else 0
        since = max((one for one in self._by_edition if one <= number), default=None)
        return self.current if since is None else self._by_edition[since]


class PolicyReader:
    """Reads the policies of the view; each is parsed once. `own` is the policy of the reader's settings."""

    def __init__(self, view: RedisView, own: Policy) -> None:
        self._view = view
        self._own = own
        self._parsed: dict[bytes, Policy] = {}

    async def read(self) -> PoliciesInForce:
        """The policies that the view has now. One that can't be read is logged and replaced by the reader's own."""
        found = await policies_in(self._view)
        self._parsed = {value: self._parsed.get(value) or self._policy(value) for value in found.values()}
        return PoliciesInForce(self._own, {number: self._parsed[value] for number, value in found.items()})

    def _policy(self, value: bytes) -> Policy:
        on_wire = msgspec.json.decode(value, type=PolicyOnWire)
        try:
            return on_wire.policy()
        except PolicyError as error:
            log.warning("the workers' policy %s can't be read, %s is used: %s", on_wire.ref, self._own.ref, error)
            return self._own


class PolicyWriter:
    """Writes the policies of a worker's partitions to the view."""

    def __init__(self, view: RedisView) -> None:
        self._view = view
        self._written: set[int] = set()
        """Numbers of the editions that the view has already."""

    def forget(self) -> None:
        """Write all policies again: Redis has lost its data."""
        self._written.clear()

    async def write(self, partitions: Iterable[Editions]) -> None:
        """Write the policies of the editions that partitions keep. An edition that only changes thresholds needs no
        entry.
        """
        new = {one.number: one for editions in partitions for one in editions.kept if one.number not in self._written}
        if not new:
            return
        known = await policies_in(self._view)
        for number, edition in sorted(new.items()):
            value = msgspec.json.encode(PolicyOnWire.of(edition.policy))
            before = max((one for one in known if one <= number), default=None)
            if before is None or known[before] != value:
                await self._view.redis.hset(f"{self._view.prefix}{KEY}", number, value)
                known[number] = value
        self._written |= new.keys()


async def policies_in(view: RedisView) -> dict[int, bytes]:
    """The policies of the view as JSON, by the number of the edition from which each is in force."""
    found: dict[bytes, Any] = await view.redis.hgetall(f"{view.prefix}{KEY}")
    return {int(number): value for number, value in found.items()}
