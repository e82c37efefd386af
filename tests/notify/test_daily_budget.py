"""A daily budget of new alerts: the most urgent of a real Redis' queue, and what the topic announces of them."""

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
from streams.broker.keyed_queues import KeyedQueues
from streams.notify.daily_budget import DailyBudget
from streams.notify.push import CHANGES, Sender
from streams.view.customers import RedisView
from streams.view.queue import AlertQueue
from streams.view.updates import update_of
from tests.builders import DAY, HOUR, act_on_alert, complaint, erase, ms, purchase
from tests.notify.doubles import GivenUpRecordsDouble, WebhookDouble
from tests.running import Fold

POLICY = models.load("annual-spend")
START_MS = ms("2024-01-01")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


class Shop:
    """A fold, its view in Redis, and a push with a budget. View and push may each be behind the fold, and either one
    further.
    """

    def __init__(self, view: RedisView, most_a_day: int) -> None:
        self.view, self.fold, self.position = view, Fold(POLICY), 0
        self.webhook, self.queues, self.today = WebhookDouble(), KeyedQueues(1), date(2024, 1, 1)
        self.most_a_day = most_a_day
        sender = Sender(self.webhook, GivenUpRecordsDouble())
        self.push = DailyBudget(
            AlertQueue(view), sender, self.queues, "push", CHANGES, self.budget, today=lambda: self.today
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
                await self.push.handle(Record(one.customer_id.encode(), one.body, {}))

    async def fold_and_send(self, *wires: dict[str, Any]) -> None:
        outputs = self.fold_only(*wires)
        await self.to_topic(outputs)
        await self.to_view(outputs)

    def sent(self) -> list[tuple[str, str]]:
        """The alerts that were sent since the last call."""
        found, self.webhook.sent = self.webhook.sent, []
        return found


def complaining(customer_id: str, spent: str = "250", at_ms: int = START_MS, **more: Any) -> list[dict[str, Any]]:
    return [
        purchase(customer_id, spent, on=at_ms, id=f"{customer_id}-p{at_ms}"),
        complaint(
            customer_id,
            f"{customer_id}-c",
            on=at_ms,
            severity="critical",
            category="delivery",
            id=f"{customer_id}-c{at_ms}",
            **more,
        ),
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
                queues = asyncio.create_task(here.queues.run())
                await work(here)
                here.queues.stop()
                await queues
            finally:
                await view.redis.aclose()

        asyncio.run(within())

    return run


def test_the_most_urgent_alerts_are_sent_and_the_others_on_later_days(shop: Any) -> None:
    async def work(here: Shop) -> None:
        for customer_id, spent in (("small", "100"), ("large", "900"), ("middle", "300"), ("least", "5")):
            await here.fold_and_send(*complaining(customer_id, spent))
        assert here.sent() == []
        await here.push.send_most_urgent()
        await here.push.send_most_urgent()
        assert here.sent() == [("large", "opened"), ("middle", "opened")]
        here.today = date(2024, 1, 2)
        await here.fold_and_send(*complaining("huge", "5000", at_ms=START_MS + HOUR))
        await here.push.send_most_urgent()
        assert here.sent() == [("huge", "opened"), ("small", "opened")]
        here.today = date(2024, 1, 3)
        await here.push.send_most_urgent()
        await here.push.send_most_urgent()
        assert here.sent() == [("least", "opened")]

    shop(work)


def test_later_changes_are_sent_only_of_alerts_that_were_announced(shop: Any) -> None:
    async def work(here: Shop) -> None:
        await here.fold_and_send(*complaining("heard", "900"))
        await here.push.send_most_urgent()
        await here.fold_and_send(*complaining("second", "800"))
        await here.push.send_most_urgent()
        await here.fold_and_send(*complaining("waits", "100"))
        assert here.sent() == [("heard", "opened"), ("second", "opened")]
        late = here.fold.advance(START_MS + 5 * DAY)
        await here.to_topic(late)
        await here.to_view(late)
        assert sorted(here.sent()) == [("heard", "breached"), ("second", "breached")]
        # The first record of it that is sent is its latest one.
        here.today = date(2024, 1, 6)
        await here.push.send_most_urgent()
        assert here.sent() == [("waits", "breached")]

    shop(work)


def test_an_alert_that_was_closed_while_it_waited_is_not_sent(shop: Any) -> None:
    async def work(here: Shop) -> None:
        for customer_id in ("taken", "erased", "left"):
            await here.fold_and_send(*complaining(customer_id))
        await here.fold_and_send(act_on_alert("taken", "dismissed", on=START_MS + 1, actor="mia", reason="test"))
        await here.fold_and_send(erase("erased", on=START_MS + 1))
        await here.push.send_most_urgent()
        assert here.sent() == [("left", "opened")]

    shop(work)


def test_nothing_is_lost_where_the_topic_is_read_before_the_view_has_it(shop: Any) -> None:
    async def work(here: Shop) -> None:
        opened = here.fold_only(*complaining("ada"))
        later = here.fold.advance(START_MS + 5 * DAY)
        await here.to_topic(opened + later)
        await here.to_view(opened)
        # The queue has an older record of the alert: if that one were sent now, the breach would never be.
        await here.push.send_most_urgent()
        assert here.sent() == []
        await here.to_view(later)
        await here.push.send_most_urgent()
        assert here.sent() == [("ada", "breached")]

    shop(work)


def test_nothing_is_sent_twice_where_the_view_is_first_or_the_topic_is_read_again(shop: Any) -> None:
    async def work(here: Shop) -> None:
        opened = here.fold_only(*complaining("ada"))
        later = here.fold.advance(START_MS + 5 * DAY)
        await here.to_view(opened + later)
        await here.push.send_most_urgent()
        assert here.sent() == [("ada", "breached")]
        await here.to_topic(opened + later)
        await here.to_topic(opened + later)
        assert here.sent() == []
        closing = here.fold_only(act_on_alert("ada", "dismissed", on=START_MS + 6 * DAY, actor="mia", reason="test"))
        await here.to_topic(closing)
        await here.push.send_most_urgent()
        assert here.sent() == []

    shop(work)


def test_the_next_alert_of_a_customer_waits_for_its_turn_again(shop: Any) -> None:
    async def work(here: Shop) -> None:
        await here.fold_and_send(*complaining("ada"))
        await here.push.send_most_urgent()
        await here.fold_and_send(act_on_alert("ada", "saved", on=START_MS + HOUR, actor="mia"))
        assert here.sent() == [("ada", "opened")]
        at_ms = START_MS + 400 * DAY
        outputs = here.fold.advance(at_ms)
        await here.to_topic(outputs)
        await here.to_view(outputs)
        await here.fold_and_send(*complaining("ada", at_ms=at_ms + DAY, status="opened"))
        again = json.loads((await AlertQueue(here.view).records())[0])
        assert again["after"]["number"] == 2
        assert here.sent() == []
        await here.push.send_most_urgent()
        assert here.sent() == [("ada", again["change"])]

    shop(work)


def test_refused_alerts_count_too_so_that_no_flood_of_them_is_set_aside(shop: Any) -> None:
    async def work(here: Shop) -> None:
        here.webhook.refuses = {"a", "b", "c", "d"}
        for customer_id in sorted(here.webhook.refuses):
            await here.fold_and_send(*complaining(customer_id))
        await here.push.send_most_urgent()
        await here.push.send_most_urgent()
        assert len(here.sent()) == 2

    shop(work)


def test_after_redis_lost_its_data_alerts_are_sent_again_with_the_same_ids(shop: Any) -> None:
    async def work(here: Shop) -> None:
        outputs = here.fold_only(*complaining("ada"), *complaining("bob"))
        await here.to_view(outputs)
        await here.push.send_most_urgent()
        first = sorted(here.webhook.ids)
        await here.view.redis.flushall()
        here.position = 0
        await here.to_view(outputs)
        await here.push.send_most_urgent()
        assert sorted(here.webhook.ids[2:]) == first

    shop(work)


def test_a_long_queue_is_read_to_its_end(shop: Any) -> None:
    async def work(here: Shop) -> None:
        outputs = [one for number in range(250) for one in here.fold_only(*complaining(f"c{number}"))]
        for first in range(0, len(outputs), 100):
            await here.to_view(outputs[first : first + 100])
        await here.push.send_most_urgent()
        assert len(set(here.sent())) == 230
        here.today = date(2024, 1, 2)
        await here.push.send_most_urgent()
        assert len(set(here.sent())) == 20

    shop(work, most_a_day=230)
