"""The policies in a real Redis: told by workers as editions begin, read by whoever shows what was judged under them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import models
from models.bodies import Command
from models.policy.editions import Editions
from streams.broker.embedded import EmbeddedRedis
from streams.engine.policy_on_wire import Rules, edition_body
from streams.notify.daily_budget import Budget, BudgetError
from streams.view.customers import RedisView
from streams.view.rulebook import KEY, Rulebook, RulebookWriter
from tests.builders import shipped_text
from tests.models.test_parameters import FITTED, write

OWN = models.load("annual-spend")
TEXT = shipped_text("annual-spend")
SECOND = TEXT.replace("version = 1", "version = 2", 1).replace("budget = 40", "budget = 7", 1)
Work = Callable[[RedisView], Awaitable[Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def with_view(server: EmbeddedRedis) -> Callable[[Work], Any]:
    """Runs something on an empty Redis."""

    def run(work: Work) -> Any:
        async def worked() -> Any:
            view = RedisView(server.url)
            try:
                await view.redis.flushall()
                return await work(view)
            finally:
                await view.redis.aclose()

        return asyncio.run(worked())

    return run


def begun(editions: Editions, text: str | None = None) -> Editions:
    """These, and another: a policy, or none."""
    number = editions.number + 1
    body = edition_body(number, number * 1_000, policy=text)
    return editions.extended_by(msgspec.json.decode(body, type=Command), number * 1_000)


def test_who_reads_has_each_policy_under_the_name_that_it_is_told_by(with_view: Any) -> None:
    async def work(view: RedisView) -> None:
        rulebook, writer = Rulebook(view, models.load("pyramid")), RulebookWriter(view)
        assert (await rulebook.read()).current.ref == "pyramid@1", "nobody has told of another"
        before = Editions.of(OWN)
        await writer.tell([before])
        assert (await rulebook.read()).current.ref == "annual-spend@1"
        # One partition is ahead of the other.
        await writer.tell([begun(before, SECOND), before])
        seen = await rulebook.read()
        assert seen.current.alerts is not None and seen.current.alerts.budget == 7
        assert seen.named("annual-spend@2/1") is seen.current
        assert seen.named("annual-spend@1").text == TEXT
        # Back, after which only that is kept by the workers; the view still knows what older announcements name.
        back = begun(begun(before, SECOND), TEXT)
        await RulebookWriter(view).tell([back.latest_only()])
        seen = await rulebook.read()
        assert (seen.current.ref, seen.named("annual-spend@2/1").ref) == ("annual-spend@1", "annual-spend@2")
        assert seen.named("annual-spend@1/2") is seen.current

    with_view(work)


def test_an_edition_that_changes_only_lines_takes_no_room(with_view: Any) -> None:
    async def work(view: RedisView) -> None:
        editions = begun(begun(begun(Editions.of(OWN))), SECOND)
        await RulebookWriter(view).tell([editions])
        await RulebookWriter(view).tell([begun(editions).latest_only()])
        assert sorted(await view.redis.hkeys(view.prefix + KEY)) == [b"0", b"3"]
        seen = await Rulebook(view, OWN).read()
        assert [seen.named(f"annual-spend@1/{number}").version for number in (1, 2, 3, 4)] == [1, 1, 2, 2]

    with_view(work)


def test_a_redis_that_lost_everything_is_told_again(with_view: Any) -> None:
    async def work(view: RedisView) -> None:
        writer, editions = RulebookWriter(view), begun(Editions.of(OWN), SECOND)
        await writer.tell([editions])
        await view.redis.flushall()
        writer.forget()
        await writer.tell([editions])
        assert (await Rulebook(view, OWN).read()).current.version == 2

    with_view(work)


def test_rules_that_only_a_later_version_understands_are_told_of_and_our_own_hold(
    with_view: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(view: RedisView) -> None:
        rules = Rules("annual-spend@9", TEXT + "\n[not_known_yet]\n")
        await view.redis.hset(view.prefix + KEY, 5, msgspec.json.encode(rules))
        with caplog.at_level(logging.WARNING):
            assert (await Rulebook(view, OWN).read()).current is OWN
        assert "annual-spend@9 can't be read; going by annual-spend@1" in caplog.text

    with_view(work)


def test_what_agents_take_on_a_day_follows_the_policy_and_never_becomes_everything(with_view: Any) -> None:
    without = TEXT.replace("version = 1", "version = 3", 1).replace("budget = 40\n", "", 1)

    async def work(view: RedisView) -> None:
        budget, writer = Budget(Rulebook(view, OWN), 3), RulebookWriter(view)
        assert await budget.most_a_day() == 120
        second = begun(Editions.of(OWN), SECOND)
        await writer.tell([second])
        assert await budget.most_a_day() == 21
        await writer.tell([begun(second, without)])
        assert await budget.most_a_day() == 21
        with pytest.raises(BudgetError, match="annual-spend@3 has no budget: add `budget = 30`"):
            await Budget(Rulebook(view, OWN), 3).most_a_day()

    with_view(work)


def test_fitted_parameters_go_with_the_policy_that_names_their_file(with_view: Any, tmp_path: Path) -> None:
    fitted = models.load(write(tmp_path, FITTED.as_toml()))

    async def work(view: RedisView) -> None:
        await RulebookWriter(view).tell([Editions.of(fitted)])
        seen = (await Rulebook(view, OWN).read()).current
        assert (seen.ref, seen.risk.horizon_ms) == (fitted.ref, fitted.risk.horizon_ms)
        assert seen.ref != OWN.ref

    with_view(work)
