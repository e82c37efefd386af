"""A budget of new alerts a day: the most urgent of a real Redis' queue, with what the topic tells in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import date
from typing import Any

import pytest

import models
from models import Output
from streams.broker.embedded import EmbeddedRedis
from streams.broker.group_reader import Record
from streams.broker.keyed_queues import Lanes
from streams.notify.daily_budget import Ration
from streams.notify.push import CHANGES, Sender
from streams.notify.webhook import GivenUp
from streams.view.customers import RedisView
from streams.view.queue import AlertQueue
from streams.view.updates import update_of
from tests.builders import DAY, HOUR, act_on_alert, complaint, erase, ms, purchase
from tests.running import Fold

POLICY = models.load("annual-spend")
START_MS = ms("2024-01-01")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


class Taking:
    """A webhook that notes what it was given; `refuses` are ids of customers."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.refuses: set[str] = set()

    async def deliver(self, record_id: str, body: bytes) -> GivenUp | None:
        found = json.loads(body)
        assert found["id"] == record_id
        self.taken.append((found["customer_id"], found["change"]))
        self.ids.append(record_id)
        return GivenUp("refused", 400, 1, "no") if found["customer_id"] in self.refuses else None

    async def put(self, record: Record, given_up: GivenUp) -> None:
        """What was given up is set aside."""


class Shop:
    """A fold, its view in Redis, and a push with a budget; the two may be behind the fold, and one before the other."""

    def __init__(self, view: RedisView, most_a_day: int) -> None:
        self.view, self.fold, self.position = view, Fold(POLICY), 0
        self.webhook, self.lanes, self.today = Taking(), Lanes(1), date(2024, 1, 1)
        self.most_a_day = most_a_day
        sender: Any = Sender(self.webhook, self.webhook)  # type: ignore[arg-type]
        self.ration = Ration(
            AlertQueue(view), sender, self.lanes, "push", CHANGES, self.budget, today=lambda: self.today
        )

    async def budget(self) -> int:
        return self.most_a_day

    def fold_only(self, *wires: dict[str, Any]) -> list[Output]:
        return [one for wire in wires for one in self.fold.apply(wire).outputs]

    async def to_view(self, outputs: list[Output]) -> None:
        updates = [update for one in outputs if (update := update_of(one.topic, one.body)) is not None]
        assert await self.view.apply("outputs/0", self.position, self.position + 1, updates) is None
        self.position += 1

    async def to_topic(self, outputs: list[Output]) -> None:
        for one in outputs:
            if one.topic == "alerts":
                await self.ration.handle(Record(one.customer_id.encode(), one.body, {}))

    async def happens(self, *wires: dict[str, Any]) -> None:
        outputs = self.fold_only(*wires)
        await self.to_topic(outputs)
        await self.to_view(outputs)

    def taken(self) -> list[tuple[str, str]]:
        """What was sent since it was last asked."""
        found, self.webhook.taken = self.webhook.taken, []
        return found


def complaining(who: str, spent: str = "250", at_ms: int = START_MS, **more: Any) -> list[dict[str, Any]]:
    return [
        purchase(who, spent, on=at_ms, id=f"{who}-p{at_ms}"),
        complaint(who, f"{who}-c", on=at_ms, severity="critical", category="delivery", id=f"{who}-c{at_ms}", **more),
    ]


Work = Callable[[Shop], Awaitable[None]]


@pytest.fixture
def shop(server: EmbeddedRedis) -> Callable[..., None]:
    """Runs something with a budget of two a day and an empty Redis."""

    def run(work: Work, most_a_day: int = 2) -> None:
        async def within() -> None:
            view = RedisView(server.url)
            try:
                await view.redis.flushall()
                here = Shop(view, most_a_day)
                lanes = asyncio.create_task(here.lanes.run())
                await work(here)
                here.lanes.stop()
                await lanes
            finally:
                await view.redis.aclose()

        asyncio.run(within())

    return run


def test_the_most_urgent_go_out_and_the_rest_rise_the_next_day(shop: Any) -> None:
    async def work(here: Shop) -> None:
        for who, spent in (("small", "100"), ("large", "900"), ("middle", "300"), ("least", "5")):
            await here.happens(*complaining(who, spent))
        assert here.taken() == []
        await here.ration.hand_out()
        await here.ration.hand_out()
        assert here.taken() == [("large", "opened"), ("middle", "opened")]
        here.today = date(2024, 1, 2)
        await here.happens(*complaining("huge", "5000", at_ms=START_MS + HOUR))
        await here.ration.hand_out()
        assert here.taken() == [("huge", "opened"), ("small", "opened")]
        here.today = date(2024, 1, 3)
        await here.ration.hand_out()
        await here.ration.hand_out()
        assert here.taken() == [("least", "opened")]

    shop(work)


def test_what_happens_to_an_alert_is_told_only_to_who_has_heard_of_it(shop: Any) -> None:
    async def work(here: Shop) -> None:
        await here.happens(*complaining("heard", "900"))
        await here.ration.hand_out()
        await here.happens(*complaining("second", "800"))
        await here.ration.hand_out()
        await here.happens(*complaining("waits", "100"))
        assert here.taken() == [("heard", "opened"), ("second", "opened")]
        late = here.fold.advance(START_MS + 5 * DAY)
        await here.to_topic(late)
        await here.to_view(late)
        assert sorted(here.taken()) == [("heard", "breached"), ("second", "breached")]
        # Its latest record is the first that the receiver hears of it.
        here.today = date(2024, 1, 6)
        await here.ration.hand_out()
        assert here.taken() == [("waits", "breached")]

    shop(work)


def test_what_was_settled_while_it_waited_is_not_told(shop: Any) -> None:
    async def work(here: Shop) -> None:
        for who in ("taken", "erased", "left"):
            await here.happens(*complaining(who))
        await here.happens(act_on_alert("taken", "dismissed", on=START_MS + 1, actor="mia", reason="test"))
        await here.happens(erase("erased", on=START_MS + 1))
        await here.ration.hand_out()
        assert here.taken() == [("left", "opened")]

    shop(work)


def test_nothing_gets_lost_where_the_topic_is_read_before_the_view_has_it(shop: Any) -> None:
    async def work(here: Shop) -> None:
        opened = here.fold_only(*complaining("ada"))
        later = here.fold.advance(START_MS + 5 * DAY)
        await here.to_topic(opened + later)
        await here.to_view(opened)
        # The queue shows the alert as it was: telling that now would leave the breach untold for ever.
        await here.ration.hand_out()
        assert here.taken() == []
        await here.to_view(later)
        await here.ration.hand_out()
        assert here.taken() == [("ada", "breached")]

    shop(work)


def test_nothing_is_told_twice_where_the_view_has_it_before_the_topic_is_read_or_it_is_read_again(shop: Any) -> None:
    async def work(here: Shop) -> None:
        opened = here.fold_only(*complaining("ada"))
        later = here.fold.advance(START_MS + 5 * DAY)
        await here.to_view(opened + later)
        await here.ration.hand_out()
        assert here.taken() == [("ada", "breached")]
        await here.to_topic(opened + later)
        await here.to_topic(opened + later)
        assert here.taken() == []
        closing = here.fold_only(act_on_alert("ada", "dismissed", on=START_MS + 6 * DAY, actor="mia", reason="test"))
        await here.to_topic(closing)
        await here.ration.hand_out()
        assert here.taken() == []

    shop(work)


def test_the_next_alert_of_a_customer_waits_for_its_turn_again(shop: Any) -> None:
    async def work(here: Shop) -> None:
        await here.happens(*complaining("ada"))
        await here.ration.hand_out()
        await here.happens(act_on_alert("ada", "saved", on=START_MS + HOUR, actor="mia"))
        assert here.taken() == [("ada", "opened")]
        at_ms = START_MS + 400 * DAY
        outputs = here.fold.advance(at_ms)
        await here.to_topic(outputs)
        await here.to_view(outputs)
        await here.happens(*complaining("ada", at_ms=at_ms + DAY, status="opened"))
        again = json.loads((await AlertQueue(here.view).records())[0])
        assert again["after"]["number"] == 2
        assert here.taken() == []
        await here.ration.hand_out()
        assert here.taken() == [("ada", again["change"])]

    shop(work)


def test_what_is_refused_counts_too_so_that_no_flood_goes_aside(shop: Any) -> None:
    async def work(here: Shop) -> None:
        here.webhook.refuses = {"a", "b", "c", "d"}
        for who in sorted(here.webhook.refuses):
            await here.happens(*complaining(who))
        await here.ration.hand_out()
        await here.ration.hand_out()
        assert len(here.taken()) == 2

    shop(work)


def test_a_redis_that_lost_its_data_means_repetitions_with_the_same_ids_and_nothing_else(shop: Any) -> None:
    async def work(here: Shop) -> None:
        outputs = here.fold_only(*complaining("ada"), *complaining("bob"))
        await here.to_view(outputs)
        await here.ration.hand_out()
        first = sorted(here.webhook.ids)
        await here.view.redis.flushall()
        here.position = 0
        await here.to_view(outputs)
        await here.ration.hand_out()
        assert sorted(here.webhook.ids[2:]) == first

    shop(work)


def test_a_long_queue_is_gone_through(shop: Any) -> None:
    async def work(here: Shop) -> None:
        outputs = [one for number in range(250) for one in here.fold_only(*complaining(f"c{number}"))]
        for first in range(0, len(outputs), 100):
            await here.to_view(outputs[first : first + 100])
        await here.ration.hand_out()
        assert len(set(here.taken())) == 230
        here.today = date(2024, 1, 2)
        await here.ration.hand_out()
        assert len(set(here.taken())) == 20

    shop(work, most_a_day=230)
