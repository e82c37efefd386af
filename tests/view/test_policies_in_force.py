"""The policies in force in a real Redis: written by workers as editions begin, read with the data judged under them."""

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
from streams.engine.policy_on_wire import PolicyOnWire, edition_body
from streams.notify.daily_budget import BudgetError, PolicyBudget
from streams.view.customers import RedisView
from streams.view.policies_in_force import KEY, PolicyReader, PolicyWriter
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
    """These editions and a further one, with another policy if `text` is given."""
    number = editions.number + 1
    body = edition_body(number, number * 1_000, policy=text)
    return editions.extended_by(msgspec.json.decode(body, type=Command), number * 1_000)


def test_a_reader_finds_each_policy_by_the_label_of_announcements(with_view: Any) -> None:
    async def work(view: RedisView) -> None:
        policies, writer = PolicyReader(view, models.load("pyramid")), PolicyWriter(view)
        assert (await policies.read()).current.ref == "pyramid@1", "no worker has written another"
        before = Editions.of(OWN)
        await writer.write([before])
        assert (await policies.read()).current.ref == "annual-spend@1"
        # One partition is ahead of the other.
        await writer.write([begun(before, SECOND), before])
        seen = await policies.read()
        assert seen.current.alerts is not None and seen.current.alerts.budget == 7
        assert seen.by_label("annual-spend@2/1") is seen.current
        assert seen.by_label("annual-spend@1").text == TEXT
        # The earlier policy again: workers then keep only that one, and the view still has those of older announcements.
        back = begun(begun(before, SECOND), TEXT)
        await PolicyWriter(view).write([back.latest_only()])
        seen = await policies.read()
        assert (seen.current.ref, seen.by_label("annual-spend@2/1").ref) == ("annual-spend@1", "annual-spend@2")
        assert seen.by_label("annual-spend@1/2") is seen.current

    with_view(work)


def test_an_edition_that_changes_only_thresholds_takes_no_room(with_view: Any) -> None:
    async def work(view: RedisView) -> None:
        editions = begun(begun(begun(Editions.of(OWN))), SECOND)
        await PolicyWriter(view).write([editions])
        await PolicyWriter(view).write([begun(editions).latest_only()])
        assert sorted(await view.redis.hkeys(view.prefix + KEY)) == [b"0", b"3"]
        seen = await PolicyReader(view, OWN).read()
        assert [seen.by_label(f"annual-spend@1/{number}").version for number in (1, 2, 3, 4)] == [1, 1, 2, 2]

    with_view(work)


def test_policies_are_written_again_to_a_redis_that_lost_everything(with_view: Any) -> None:
    async def work(view: RedisView) -> None:
        writer, editions = PolicyWriter(view), begun(Editions.of(OWN), SECOND)
        await writer.write([editions])
        await view.redis.flushall()
        writer.forget()
        await writer.write([editions])
        assert (await PolicyReader(view, OWN).read()).current.version == 2

    with_view(work)


def test_a_policy_that_only_a_later_version_understands_is_logged_and_not_used(
    with_view: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(view: RedisView) -> None:
        later = PolicyOnWire("annual-spend@9", TEXT + "\n[not_known_yet]\n")
        await view.redis.hset(view.prefix + KEY, 5, msgspec.json.encode(later))
        with caplog.at_level(logging.WARNING):
            assert (await PolicyReader(view, OWN).read()).current is OWN
        assert "annual-spend@9 can't be read, annual-spend@1 is used" in caplog.text

    with_view(work)


def test_the_daily_budget_follows_the_policy_and_never_becomes_unlimited(with_view: Any) -> None:
    without = TEXT.replace("version = 1", "version = 3", 1).replace("budget = 40\n", "", 1)

    async def work(view: RedisView) -> None:
        budget, writer = PolicyBudget(PolicyReader(view, OWN), 3), PolicyWriter(view)
        assert await budget.most_a_day() == 120
        second = begun(Editions.of(OWN), SECOND)
        await writer.write([second])
        assert await budget.most_a_day() == 21
        await writer.write([begun(second, without)])
        assert await budget.most_a_day() == 21
        with pytest.raises(BudgetError, match="annual-spend@3 has no budget: add `budget = 30`"):
            await PolicyBudget(PolicyReader(view, OWN), 3).most_a_day()

    with_view(work)


def test_fitted_parameters_are_written_with_the_policy_that_names_their_file(with_view: Any, tmp_path: Path) -> None:
    fitted = models.load(write(tmp_path, FITTED.as_toml()))

    async def work(view: RedisView) -> None:
        await PolicyWriter(view).write([Editions.of(fitted)])
        seen = (await PolicyReader(view, OWN).read()).current
        assert (seen.ref, seen.risk.horizon_ms) == (fitted.ref, fitted.risk.horizon_ms)
        assert seen.ref != OWN.ref

    with_view(work)
