"""The retention team's queue in Redis: open alerts, the most urgent first; alerts by owner; counts of each day.

streams/view/lua/apply.lua writes these keys. What people do is sent to the topic `commands` and changes the view once a
worker has announced it. Only a claim is written here at once, for a minute, so that no two people get the same alert:

    tierstream:alert:{id}              hash: the customer's latest alert; `body` is the record of its latest change
    tierstream:queue                   sorted set of customers with an open alert that has no owner, by urgency
    tierstream:owner:{name}, owners    sorted set of the customers whose alert this person has, by urgency; set of all owners ever
    tierstream:held, snoozed, closed   sorted sets by the end of the hold or snooze, or by the time of closing (the latest 10,000)
    ...:tier:{tier}, ...:cause:{cause}, ...:category:{category}, ...:region:{region}       the part of each of these sorted sets
                                       with that tier, cause, category or region
    tierstream:category:{category}     alerts about a category of complaint that are not closed, by opening; categories: their set
    tierstream:claim:{id}              the name of the person who is claiming it, for a minute; claims:{date}:{name}: their number
    tierstream:alert-stream            stream of all changes of alerts, about the latest 10,000
    tierstream:day:{date}              hash of counts of a day (UTC)
    tierstream:story:{id}              list of the customer's latest announcements, newest first
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import orjson

from models.alerts import AlertRules
from streams.view.customers import RedisView, script

State = Literal["open", "held", "snoozed", "closed"]
CLAIM_SECONDS: Final = 60
FILTERED_SECONDS: Final = 5
"""How long the result of several filters at once is kept for the next page."""
STREAM_WAIT_MS: Final = 2_000
"""Less than the client's timeout for a silent Redis."""
INCIDENT_DEPTH: Final = 2_000


class Page(NamedTuple):
    """A page of the alerts that fit the filters."""

    total: int
    """How many alerts fit, on all pages."""
    alerts: list[dict[str, Any]]
    """For each, the fields of `after` in its latest change, `customer_id`, and `claimed_by`: the person claiming it
    now, or None.
    """


class OverBudget(Exception):
    """The person has claimed as many alerts today as the policy allows an agent in a day."""


class AlertQueue:
    """Reads the queue and claims alerts."""

    def __init__(self, view: RedisView) -> None:
        self._view = view
        self.redis: Any = view.redis
        self.prefix = view.prefix
        self._claim = self.redis.register_script(script("claim"))

    # ------------------------------------------------------------ reading
    async def page(
        self,
        state: State = "open",
        tier: str | None = None,
        cause: str | None = None,
        category: str | None = None,
        region: str | None = None,
        owner: str | None = None,
        first: int = 0,
        count: int = 50,
    ) -> Page:
        """`count` alerts from place `first` (from 0): open ones by urgency, held and snoozed by their end, closed ones
        latest first.

        With `owner`, that person's alerts that are not closed, by urgency; `state` is then ignored.
        """
        key = await self._key(state, tier, cause, category, region, owner)
        total = int(await self.redis.zcard(key))
        closed = state == "closed" and owner is None
        ids: list[bytes] = await self.redis.zrange(key, first, first + count - 1, desc=closed)
        return Page(total, await self._alerts(ids))

    async def alert(self, customer_id: str) -> dict[str, Any] | None:
        """A customer's latest alert, open or not; None if the customer never had an alert."""
        found = await self._alerts([customer_id.encode()])
        return found[0] if found else None

    async def records(self, first: int = 0, count: int = 50) -> list[bytes]:
        """The latest record on the topic `alerts` of each open alert without an owner, by urgency, from place `first`."""
        ids: list[bytes] = await self.redis.zrange(f"{self.prefix}queue", first, first + count - 1)
        pipe = self.redis.pipeline(transaction=False)
        for one in ids:
            pipe.hget(f"{self.prefix}alert:{one.decode()}", "body")
        return [body for body in await pipe.execute() if body is not None]

    async def story(self, customer_id: str, first: int = 0, count: int = 50) -> list[dict[str, Any]]:
        """A customer's announcements, newest first, each with its `topic`."""
        found: list[bytes] = await self.redis.lrange(f"{self.prefix}story:{customer_id}", first, first + count - 1)
        return [orjson.loads(one) for one in found]

    async def sizes(self) -> dict[str, int]:
        """How many alerts are open (nobody's), held and snoozed."""
        return await self._view.alert_sizes()

    async def owners(self) -> dict[str, int]:
        """How many alerts each owner has, by name; owners without any are left out."""
        names = sorted(name.decode() for name in await self.redis.smembers(f"{self.prefix}owners"))
        pipe = self.redis.pipeline(transaction=False)
        for name in names:
            pipe.zcard(f"{self.prefix}owner:{name}")
        return {name: size for name, size in zip(names, await pipe.execute(), strict=True) if size}

    async def days(self, first: date, last: date) -> list[dict[str, Any]]:
        """The counts of each day from `first` to `last`, with its `date`: changes of alerts by name, `met` (contacted
        before the deadline), `saved_value`, `lost_value`, `flow:{tier}>{tier}`, `risk:{level}>{level}`,
        `category:{category}`.
        """
        dates = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        pipe = self.redis.pipeline(transaction=False)
        for day in dates:
            pipe.hgetall(f"{self.prefix}day:{day.isoformat()}")
        counts = await pipe.execute()
        return [
            {"date": day.isoformat(), **{name.decode(): float(number) for name, number in found.items()}}
            for day, found in zip(dates, counts, strict=True)
        ]

    async def incidents(self, rules: AlertRules) -> list[dict[str, Any]]:
        """Complaint categories of many alerts at once, most customers first: `category`, `customers`,
        `first_opened_ms`, `last_opened_ms`.
        """
        found = []
        for category in sorted(name.decode() for name in await self.redis.smembers(f"{self.prefix}categories")):
            key = f"{self.prefix}category:{category}"
            opened = await self.redis.zrange(key, 0, INCIDENT_DEPTH - 1, desc=True, withscores=True)
            for burst in _bursts([int(at_ms) for _, at_ms in opened], rules.incident_within_ms):
                if len(burst) >= rules.incident_customers:
                    found.append(
                        {
                            "category": category,
                            "customers": len(burst),
                            "first_opened_ms": burst[-1],
                            "last_opened_ms": burst[0],
                        }
                    )
        return sorted(found, key=lambda one: -one["customers"])

    async def latest_change(self) -> str:
        """The id of the latest change. Ask for it before reading the queue: then `changes` after this id misses none."""
        latest = await self.redis.xrevrange(f"{self.prefix}alert-stream", count=1)
        return latest[0][0].decode() if latest else "0-0"

    async def changes(self, after: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Changes of alerts after the id `after`, as they happen, without end: pairs of the change's id and its body."""
        key = f"{self.prefix}alert-stream"
        while True:
            for _, entries in await self.redis.xread({key: after}, count=100, block=STREAM_WAIT_MS) or ():
                for entry_id, fields in entries:
                    after = entry_id.decode()
                    yield after, orjson.loads(fields[b"body"])

    # ------------------------------------------------------------ claiming
    async def claim(
        self,
        person: str,
        customer_id: str = "",
        tier: str | None = None,
        cause: str | None = None,
        category: str | None = None,
        region: str | None = None,
        budget: int = 0,
    ) -> dict[str, Any] | None:
        """Claim for a person the most urgent alert without an owner, or this customer's; None if no such alert is left.

        The claim holds for a minute; the command `acknowledged` makes that person the owner. `budget` is how many
        alerts a person may claim in a day, 0 for no limit. Raises OverBudget.
        """
        key = await self._key("open", tier, cause, category, region, None)
        taken = await self._claim(keys=[self.prefix, key], args=[person, _today(), budget, CLAIM_SECONDS, customer_id])
        if taken == -1:
            raise OverBudget(
                f"{person} has claimed {budget} alerts today, as many as the policy allows an agent in a day"
            )
        return None if taken is None else await self.alert(taken.decode())

    async def give_back(self, person: str, customer_id: str) -> None:
        """Undo a claim whose command was not sent."""
        pipe = self.redis.pipeline()
        pipe.delete(f"{self.prefix}claim:{customer_id}")
        pipe.decr(f"{self.prefix}claims:{_today()}:{person}")
        await pipe.execute()

    async def taken_today(self, person: str) -> int:
        """How many alerts somebody claimed today (UTC)."""
        return int(await self.redis.get(f"{self.prefix}claims:{_today()}:{person}") or 0)

    # ------------------------------------------------------------ inside
    async def _key(
        self,
        state: State,
        tier: str | None,
        cause: str | None,
        category: str | None,
        region: str | None,
        owner: str | None,
    ) -> str:
        """The sorted set to read; for several filters their intersection, which is kept for a few seconds."""
        base: str = "queue" if state == "open" else state
        if owner is not None:
            base = f"owner:{owner}"
        filters = {"tier": tier, "cause": cause, "category": category, "region": region}
        keys = [f"{self.prefix}{base}:{name}:{value}" for name, value in filters.items() if value]
        if not keys:
            return f"{self.prefix}{base}"
        if len(keys) == 1:
            return keys[0]
        found = f"{self.prefix}filtered:" + "&".join(key.removeprefix(self.prefix) for key in keys)
        if not await self.redis.exists(found):
            pipe = self.redis.pipeline()
            pipe.zinterstore(found, keys, aggregate="MAX")
            pipe.expire(found, FILTERED_SECONDS)
            await pipe.execute()
        return found

    async def _alerts(self, ids: Sequence[bytes]) -> list[dict[str, Any]]:
        pipe = self.redis.pipeline(transaction=False)
        for one in ids:
            pipe.hget(f"{self.prefix}alert:{one.decode()}", "body")
            pipe.get(f"{self.prefix}claim:{one.decode()}")
        answers = await pipe.execute()
        return [
            {
                "customer_id": one.decode(),
                **orjson.loads(body)["after"],
                "claimed_by": None if claimed is None else claimed.decode(),
            }
            for one, body, claimed in zip(ids, answers[::2], answers[1::2], strict=True)
            if body is not None
        ]


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _bursts(latest_first: list[int], within_ms: int) -> list[list[int]]:
    """Split instants into runs in which neighbours are at most `within_ms` apart.

    >>> _bursts([100, 99, 50, 49, 48], 10)
    [[100, 99], [50, 49, 48]]
    """
    runs: list[list[int]] = []
    for at_ms in latest_first:
        if runs and runs[-1][-1] - at_ms <= within_ms:
            runs[-1].append(at_ms)
        else:
            runs.append([at_ms])
    return runs
