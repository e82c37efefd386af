"""The retention team's queue on a real Redis, filled with what the fold announces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import orjson
import pytest

import models
from models.alerts import AlertRules
from streams.broker.embedded import EmbeddedRedis
from streams.view.customers import RedisView
from streams.view.queue import AlertQueue, OverBudget
from streams.view.updates import update_of, urgency
from tests.builders import DAY, HOUR, act_on_alert, complaint, erase, ms, purchase
from tests.integration.harness import PATIENCE_SECONDS
from tests.view.fed_view import FIELD, POLICY, START_MS, FedView

Work = Callable[[RedisView, AlertQueue], Awaitable[Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def redis(server: EmbeddedRedis) -> Callable[[Work], Any]:
    """Runs something on an empty view."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[RedisView]:
        view = RedisView(server.url)
        try:
            await view.redis.flushall()
            yield view
        finally:
            await view.redis.aclose()

    def run(work: Work) -> Any:
        async def with_view() -> Any:
            async with opened() as view:
                return await work(view, AlertQueue(view))

        return asyncio.run(with_view())

    return run


def ids(page: Any) -> list[str]:
    return [one["customer_id"] for one in page.alerts]


def test_the_queue_is_ordered_by_deadline_and_by_value_at_stake(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed = FedView(view)
        await fed.complain("small", spent="1")
        await fed.complain("large", spent="900")
        await fed.complain("large-later", spent="900", at_ms=START_MS + 400 * DAY)
        return await queue.page()

    page = redis(work)
    expected = sorted(page.alerts, key=lambda one: urgency(ms(one["deadline"]), float(one["value_at_stake"])))
    assert page.total == 3
    assert ids(page) == [one["customer_id"] for one in expected] == ["large", "small", "large-later"]
    assert page.alerts[0]["contributions"]


def test_pages_and_filters_give_what_they_say(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed = FedView(view)
        await fed.complain(*(f"d{n}" for n in range(5)))
        await fed.complain(*(f"b{n}" for n in range(3)), category="billing", region="north", spent="5000")
        whole = await queue.page(count=100)
        parts = [one for first in (0, 3, 6) for one in ids(await queue.page(first=first, count=3))]
        tiers = {one["tier"] for one in whole.alerts}
        by_tier = {tier: await queue.page(tier=tier) for tier in tiers}
        both = await queue.page(tier=whole.alerts[0]["tier"], category="billing", cause="complaints")
        neither = await queue.page(tier="nobody", category="billing")
        north, south = await queue.page(region="north"), await queue.page(region="south")
        assert (sorted(ids(north)), south.alerts) == (["b0", "b1", "b2"], [])
        assert north.alerts[0]["region"] == "north"
        await fed.fold_and_apply(act_on_alert("b0", "lost", on=START_MS + HOUR, actor="mia", id="x1"))
        await fed.fold_and_apply(act_on_alert("b1", "contacted", on=START_MS + HOUR, actor="mia", id="x2"))
        assert ids(await queue.page("closed", category="billing")) == ["b0"]
        assert ids(await queue.page("closed", category="delivery")) == []
        assert ids(await queue.page(owner="mia", category="billing")) == ["b1"]
        assert ids(await queue.page(owner="mia", category="billing", cause="silence")) == []
        return whole, parts, by_tier, both, neither

    whole, parts, by_tier, both, neither = redis(work)
    assert parts == ids(whole)
    assert sum(page.total for page in by_tier.values()) == 8
    assert {one["tier"] for page in by_tier.values() for one in page.alerts} == set(by_tier)
    assert sorted(ids(both)) == ["b0", "b1", "b2"]
    assert neither == (0, [])


def test_no_two_of_a_hundred_simultaneous_claims_get_the_same_alert(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        await FedView(view).complain(*(f"c{n}" for n in range(60)))
        return await asyncio.gather(*(queue.claim(f"agent-{n}") for n in range(100)))

    taken = [one["customer_id"] for one in redis(work) if one is not None]
    assert len(taken) == len(set(taken)) == 60


def test_a_claimed_alert_has_the_agent_as_owner_once_that_is_announced(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed = FedView(view)
        await fed.complain("ada", "bob")
        first = await queue.claim("mia")
        assert first is not None
        customer_id = first["customer_id"]
        assert await queue.claim("kim", customer_id) is None
        await fed.fold_and_apply(act_on_alert(customer_id, "acknowledged", on=START_MS + HOUR, actor="mia"))
        return (
            customer_id,
            await queue.page(),
            await queue.page(owner="mia"),
            await queue.owners(),
            await queue.alert(customer_id),
        )

    customer_id, queued, mine, owners, alert = redis(work)
    assert customer_id not in ids(queued)
    assert ids(mine) == [customer_id]
    assert owners == {"mia": 1}
    assert (alert["state"], alert["owner"], alert["claimed_by"]) == ("acknowledged", "mia", None)


def test_a_claim_that_was_given_back_can_be_claimed_again(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        await FedView(view).complain("ada")
        assert await queue.claim("mia") is not None
        assert await queue.claim("kim") is None
        await queue.give_back("mia", "ada")
        return await queue.taken_today("mia"), (await queue.claim("kim") or {})["customer_id"]

    assert redis(work) == (0, "ada")


def test_an_agent_over_the_days_budget_gets_no_more_and_another_does(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        await FedView(view).complain("ada", "bob", "eve")
        await queue.claim("mia", budget=2)
        await queue.claim("mia", budget=2)
        with pytest.raises(OverBudget, match="mia has claimed 2 alerts today"):
            await queue.claim("mia", budget=2)
        return await queue.taken_today("mia"), await queue.claim("kim", budget=2)

    taken, last = redis(work)
    assert taken == 2
    assert last is not None


def test_held_snoozed_and_closed_alerts_are_each_in_their_own_set(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed = FedView(view)
        await fed.complain("ada", "bob", "eve")
        await fed.fold_and_apply(
            act_on_alert("ada", "snoozed", on=START_MS + 1, actor="mia", until="2024-01-03T00:00:00Z"),
            act_on_alert("bob", "dismissed", on=START_MS + 1, actor="mia", reason="a mistake of ours"),
        )
        snoozed, closed, sizes = await queue.page("snoozed"), await queue.page("closed"), await queue.sizes()
        await fed.apply(fed.fold.advance(START_MS + 2 * DAY))
        return ids(snoozed), ids(closed), sizes, ids(await queue.page()), closed.alerts[0]["reason"]

    snoozed, closed, sizes, woken, reason = redis(work)
    assert (snoozed, closed, sizes) == (["ada"], ["bob"], {"open": 1, "held": 0, "snoozed": 1})
    assert sorted(woken) == ["ada", "eve"]
    assert reason == "a mistake of ours"


def test_the_counts_of_days_ignore_repeated_announcements(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed = FedView(view)
        await fed.complain("ada", "bob")
        await fed.fold_and_apply(act_on_alert("ada", "contacted", on=START_MS + HOUR, actor="mia", id="a"))
        await fed.fold_and_apply(act_on_alert("ada", "saved", on=START_MS + 2 * HOUR, actor="mia", id="b"))
        await fed.apply(fed.fold.advance(START_MS + 3 * DAY))
        once = await queue.days(date(2024, 1, 1), date(2024, 1, 3)), await queue.story("ada")
        await fed.apply(list(fed.outputs))
        return once, (await queue.days(date(2024, 1, 1), date(2024, 1, 3)), await queue.story("ada"))

    once, twice = redis(work)
    assert once == twice
    (first, second, _), story = once
    assert (first["opened"], first["contacted"], first["met"], first["saved"]) == (2, 1, 1, 1)
    assert first["flow:member>gold"] == 2
    assert first["category:delivery"] == 2
    assert first["saved_value"] > 0
    assert second["breached"] == 1
    assert [one["topic"] for one in story][-1] == "tier-changes"
    assert story[0]["change"] == "saved"


def test_counts_are_the_same_in_one_call_and_in_many(redis: Any, server: EmbeddedRedis) -> None:
    async def counted(view: RedisView) -> tuple[list[dict[bytes, float]], bytes]:
        days = [f"{view.prefix}day:2024-01-0{day}" for day in (1, 3)]
        assert all([await view.redis.ttl(day) > 399 * 86_400 for day in days])
        found = [await view.redis.hgetall(day) for day in days]
        amounts = [{name: round(float(amount), 3) for name, amount in day.items()} for day in found]
        return amounts, await view.redis.get(f"{view.prefix}latest-day")

    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed, at_once = FedView(view), RedisView(server.url, "at-once:")
        for number in range(12):
            await fed.complain(f"c{number}", spent=f"{100 + 13.1 * number:.2f}", at_ms=START_MS + number * HOUR)
        for number in range(12):
            on = START_MS + 2 * DAY + number * HOUR
            await fed.fold_and_apply(act_on_alert(f"c{number}", "saved", on=on, actor="mia", id=f"s{number}"))
        updates = [update for one in fed.outputs if (update := update_of(one.topic, one.body)) is not None]
        assert await at_once.apply(FIELD, 0, 1, updates) is None
        found = await counted(view), await counted(at_once)
        await at_once.redis.aclose()
        stakes = [orjson.loads(one.body)["after"]["value_at_stake"] for one in fed.outputs if one.change == "saved"]
        return found, float(sum(map(Decimal, stakes)))

    (one_by_one, at_once), saved = redis(work)
    assert one_by_one == at_once
    (first, third), latest = at_once
    assert (first[b"opened"], third[b"saved"], third[b"saved_value"], latest) == (12, 12, saved, b"2024-01-03")


def test_a_burst_of_complaints_about_one_thing_is_one_incident(redis: Any) -> None:
    rules = AlertRules(1, 0, DAY, True, 0, 5, HOUR)

    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed = FedView(view)
        for number in range(6):
            await fed.complain(f"d{number}", at_ms=START_MS + number * HOUR // 2)
        for number in range(6):
            await fed.complain(f"s{number}", category="sizes", at_ms=START_MS + number * 2 * HOUR)
        before = await queue.incidents(rules)
        for number in range(2):
            await fed.fold_and_apply(act_on_alert(f"d{number}", "saved", on=START_MS + DAY, actor="mia"))
        return before, await queue.incidents(rules)

    before, after = redis(work)
    assert before == [
        {
            "category": "delivery",
            "customers": 6,
            "first_opened_ms": START_MS,
            "last_opened_ms": START_MS + 5 * HOUR // 2,
        }
    ]
    assert after == []


def test_nothing_of_an_erased_customer_is_left_in_the_queue(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed = FedView(view)
        await fed.complain("ada")
        await fed.fold_and_apply(erase("ada", on=START_MS + DAY))
        keys = [key.decode() for key in await view.redis.keys("*ada*")]
        return (await queue.page()).total, await queue.alert("ada"), await queue.story("ada"), keys

    total, alert, _, keys = redis(work)
    assert (total, alert) == (0, None)
    assert keys == ["tierstream:customer:ada"]


def test_an_alert_older_than_an_erasure_stays_out_even_if_a_profile_came_first(
    redis: Any,
) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed, late = FedView(view), FedView(view)
        late.fold_only(purchase("ada", "250", on=START_MS), complaint("ada", on=START_MS, severity="critical"))
        late.fold_only(erase("ada", on=START_MS + DAY), purchase("ada", "10", on=START_MS + 2 * DAY))
        profile = models.profile(late.fold.customers["ada"], "ada", POLICY)
        assert profile is not None
        erasure = [one for one in late.fold.outputs if one.change == "erase"]
        before = [one for one in late.fold.outputs if one.topic == "alerts" and one.seq < erasure[0].seq]
        assert before
        update = update_of("profiles", profile)
        assert update is not None
        assert await view.apply("profiles/0", 0, 1, [update]) is None
        await fed.apply(erasure)
        await fed.apply(before)
        return await queue.alert("ada"), await queue.story("ada"), (await view.customer("ada") or {})["tier"]

    assert redis(work) == (None, [], "member")


def test_a_listener_gets_changes_now_and_when_it_comes_back_later(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        fed, heard = FedView(view), []

        async def listen(after: str, most: int) -> str:
            async for entry_id, body in queue.changes(after):
                heard.append((body["customer_id"], body["change"]))
                if len(heard) == most:
                    return entry_id
            raise AssertionError("the stream ended")

        listening = asyncio.create_task(listen(await queue.latest_change(), 2))
        await asyncio.sleep(0.1)
        await fed.complain("ada", "bob")
        last = await asyncio.wait_for(listening, PATIENCE_SECONDS)
        await fed.fold_and_apply(act_on_alert("bob", "lost", on=START_MS + HOUR, actor="mia"))
        await asyncio.wait_for(listen(last, 3), PATIENCE_SECONDS)
        return heard

    assert redis(work) == [("ada", "opened"), ("bob", "opened"), ("bob", "lost")]


def test_consumer_groups_can_read_the_stream(redis: Any) -> None:
    async def work(view: RedisView, queue: AlertQueue) -> Any:
        await FedView(view).complain("ada", "bob")
        key = "tierstream:alert-stream"
        await view.redis.xgroup_create(key, "crm", id="0")
        first = await view.redis.xreadgroup("crm", "one", {key: ">"}, count=1)
        second = await view.redis.xreadgroup("crm", "two", {key: ">"}, count=1)
        return [orjson.loads(fields[b"body"])["customer_id"] for ((_, ((_, fields),)),) in (first, second)]

    assert redis(work) == ["ada", "bob"]
