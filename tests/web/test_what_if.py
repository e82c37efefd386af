""" "What if" on a customer's page, by the worker's table on a broker: in both languages, with and without scripts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streams.web.services import table_reader
from streams.web.signin.people import Person
from streams.workshop.explain import table_story
from tests.builders import shipped_text
from tests.web.conftest import Store
from tests.web.people import hash_cheaply, hire_staff, sign_in
from tests.workshop import test_explain_live

folded, table = test_explain_live.folded, test_explain_live.broker
"""ada bought for 40 and 50 and complained, in a table on an embedded broker."""
Browse = Callable[[Callable[[Any], Coroutine[Any, Any, Any]], str], Any]


@pytest.fixture
def browse(talking: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Browse:
    hash_cheaply(monkeypatch)
    hire_staff(tmp_path)
    store.policy(0, shipped_text("annual-spend"))
    store.customer("ada")

    def run(work: Callable[[Any], Coroutine[Any, Any, Any]], broker: str) -> Any:
        async def connected() -> Any:
            async with talking(headers={"Accept": "text/html"}, broker=broker) as client:
                await sign_in(client, "lin")
                return await work(client)

        return asyncio.run(connected())

    return run


async def answer_to(client: Any, asked: str, path: str = "/customers/ada") -> str:
    answer = await client.get(f"{path}/what-if?{asked}")
    assert answer.status_code == 200, answer.text
    assert "<!doctype" not in answer.text
    return " ".join(str(answer.text).split())


def spend_moved(answer: str) -> Decimal:
    """By how much the supposed event changes the spend that counts."""
    row = re.search(r"Spend that counts.*?</tr>", answer)
    assert row is not None
    before, after = re.findall(r">(-?[\d.]+)<", row[0])
    return Decimal(after) - Decimal(before)


def test_a_purchase_refund_complaint_or_answer_is_folded_on_the_table(browse: Browse, table: str) -> None:
    async def ask(client: Any) -> None:
        bought = await answer_to(client, "what=purchase&amount=1,240.00")
        assert spend_moved(bought) == 1240
        assert "Tier up" in bought
        assert "Risk cleared" in bought
        assert re.search(r"without it: one purchase of \$[\d.]+ reaches gold", bought)
        assert "Asking changed nothing" in bought
        complained = await answer_to(client, "what=complaint&severity=low")
        assert "low complaint" in complained
        assert spend_moved(complained) == 0
        assert "satisfaction" in await answer_to(client, "what=answer&score=20")
        assert spend_moved(await answer_to(client, "what=refund&amount=5")) == -5
        page = await client.get("/customers/ada?what=purchase&amount=1240")
        assert spend_moved(" ".join(page.text.split())) == 1240
        assert 'value="1240"' in page.text

    browse(ask, table)


@pytest.mark.parametrize("amount", ["", "0", "-5", "12o", "1,24", "1.234", "1e5", "99999999999999999999", "１２"])
def test_a_wrong_amount_is_reported_in_both_languages_without_a_read(
    browse: Browse, monkeypatch: pytest.MonkeyPatch, amount: str
) -> None:
    monkeypatch.setattr(table_reader, "find_in_table", None)

    async def ask(client: Any) -> None:
        asked = f"what=purchase&amount={amount}"
        assert "Write an amount greater than zero, as in 1240.00." in await answer_to(client, asked)
        assert "请填写大于零的金额，例如 1240.00。" in await answer_to(client, f"{asked}&lang=zh")
        assert "Write a whole number from 0 to 100." in await answer_to(client, "what=answer&score=101&lang=en")

    browse(ask, "127.0.0.1:1")


def test_a_table_that_does_not_answer_or_is_too_large_says_so(
    browse: Browse, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(client: Any) -> str:
        return await answer_to(client, "what=purchase&amount=5")

    monkeypatch.setattr(table_reader, "SECONDS", 0.2)
    assert "could not be read. Try again in a moment" in browse(ask, "127.0.0.1:1")
    monkeypatch.setattr(table_reader, "SECONDS", -1.0)
    assert "too large to be read for a page. Use the command tierstream customer explain --event." in browse(ask, table)


def test_a_customer_who_is_only_in_the_view_is_reported(browse: Browse, table: str, store: Store) -> None:
    store.customer("zoe")

    async def ask(client: Any) -> str:
        return await answer_to(client, "what=purchase&amount=5", "/customers/zoe")

    assert "does not have this customer yet, or not any more" in browse(ask, table)


def test_the_table_is_read_once_for_each_state_that_the_view_shows(
    browse: Browse, table: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def counted(settings: Any, customer_id: str, seconds: float) -> Any:
        reads.append(customer_id)
        return table_story.find_in_table(settings, customer_id, seconds)

    monkeypatch.setattr(table_reader, "find_in_table", counted)

    async def ask(client: Any) -> None:
        for amount in (5, 6, 7):
            await answer_to(client, f"what=purchase&amount={amount}")
        assert reads == ["ada"]
        store.customer("ada", revision=10)
        await answer_to(client, "what=purchase&amount=5")
        assert reads == ["ada", "ada"]

    browse(ask, table)


def test_a_viewer_may_ask_and_sees_no_id(browse: Browse, table: str) -> None:
    async def ask(client: Any) -> None:
        await sign_in(client, "vic")
        assert (await client.get("/customers/ada/what-if?what=purchase&amount=5")).status_code == 404
        reference = client.app.state.services.masks.reference(Person("vic", "viewer"), "ada")
        found = await answer_to(client, "what=purchase&amount=5", f"/customers/{reference}")
        assert "What would be announced" in found
        assert "ada" not in found

    browse(ask, table)
