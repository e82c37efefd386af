"""The Chinese pages of customers to whom everything happened, under each shipped policy: nothing on them is English."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

import models
from models.bodies import Breakpoints, Command
from models.policy import SHIPPED, Policy
from models.policy.editions import Editions
from streams.view.customers import RedisView
from streams.view.updates import update_of
from tests.builders import DAY
from tests.outputs import END_MS, profiles, varied_log
from tests.running import Fold
from tests.web.people import cheap_hashes, hire, sign_in

CUSTOMERS = 60
MOST_PAGES = 25
WORD = re.compile("[A-Za-z]{3,}")
NOT_PROSE = ("Enter", "UTC", "eve", "lin", "asked", "promise")
"""A key, the clock, people, and what people wrote."""


def drawn(policy: Policy) -> Policy:
    """A policy with lines, where it waits for a census to draw them."""
    if policy.relative is None:
        return policy
    lines = {
        "recency": ("recency_ms", [DAY, 10 * DAY, 30 * DAY, 90 * DAY]),
        "frequency": ("frequency", [2, 3, 4, 6]),
        "monetary": ("monetary_minor", [1000, 2500, 5000, 10000]),
    }
    found = dict(lines[term] for term in policy.relative.by_quintiles)
    top = [5000, 10000, 20000][: len(policy.relative.top_shares)]
    command = Command(
        event_id="e", customer_id="*", command="use_edition", occurred_at="1996-01-01T00:00:00Z", edition=1,
        breakpoints=Breakpoints(as_of_ms=0, customers=CUSTOMERS, top_spend_minor=top, **found),
    )  # fmt: skip
    return Editions.of(policy).extended_by(command, 0).current


def some_of(log: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    ids = list(dict.fromkeys(wire["customer_id"] for wire in log))
    chosen = set(ids[:: len(ids) // CUSTOMERS])
    return (wire for wire in log if wire["customer_id"] in chosen)


def prose(page: str) -> str:
    """What people read of a page's main part, and have read to them."""
    main = re.search("<main.*</main>", page, re.DOTALL)
    assert main is not None
    attributes = re.findall(r"(?:title|aria-label|data-label|data-samples|placeholder|alt)=\"([^\"]*)\"", main[0])
    times = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
    return times.sub("", html.unescape(" ".join([re.sub("<[^>]*>", " ", main[0]), *attributes])))


@pytest.mark.parametrize("name", SHIPPED)
def test_no_word_on_a_chinese_page_is_english_but_for_names(
    name: str, talking: Any, store: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap_hashes(monkeypatch)
    hire(tmp_path, "lin", "agent")
    monkeypatch.setenv("TIERSTREAM_POLICY", name)
    monkeypatch.setenv("TIERSTREAM_CLOCK", "event")
    policy = models.load(name)
    fold = Fold(drawn(policy))
    for wire in some_of(varied_log(policy)):
        fold.apply(wire)
    fold.advance(END_MS - 500 * DAY)
    told = [(one.topic, one.body) for one in fold.outputs] + list(profiles(fold))
    by_customer: dict[str, set[str]] = {}
    categories = set()
    for topic, value in told:
        body = orjson.loads(value)
        known = by_customer.setdefault(body["customer_id"], set())
        known.add(body.get("change", topic))
        for one in body["risk"]["contributions"] if topic == "profiles" else body.get("contributions", ()):
            known |= {one["term"]} if one["log_odds"] else set()
            categories |= {complaint["category"] for complaint in one.get("complaints", ())}
    looked_at = sorted(by_customer, key=lambda id: -len(by_customer[id]))[:MOST_PAGES]
    assert {"silence", "rhythm", "complaints", "satisfaction", "upgrade", "opened", "lock", "breached", "saved"} <= set(
        known for id in looked_at for known in by_customer[id]
    )
    names = {
        *NOT_PROSE, policy.currency, *filter(None, categories), *(tier.name for tier in policy.ladder.tiers),
        *(level.name for level in policy.risk.levels), *(segment.name for segment in policy.segments),
    }  # fmt: skip

    async def look() -> dict[str, str]:
        view = RedisView(server.url)
        updates = [update for topic, value in told if (update := update_of(topic, value)) is not None]
        assert await view.apply("all/0", 0, len(updates), updates) is None
        await view.redis.aclose()
        async with talking(headers={"Accept": "text/html", "Accept-Language": "zh"}) as client:
            await sign_in(client, "lin")
            paths = [f"/queue?state={state}" for state in ("open", "held", "snoozed", "closed")]
            paths += ["/overview?days=365", *(f"/customers/{id}" for id in looked_at)]
            found = {}
            for path in paths:
                answer = await client.get(path)
                assert answer.status_code in (200, 404), path
                found[path] = str(answer.text)
            return found

    pages = asyncio.run(look())
    for path, page in pages.items():
        text = re.sub(
            "|".join(rf"\b{re.escape(one)}\b" for one in sorted(names, key=len, reverse=True)), "", prose(page)
        )
        assert WORD.findall(text) == [], path
    everything = " ".join(map(prose, pages.values()))
    for said in ("距上次购买已", "天再次购买", "提出，", "分（满分 100", "即可"):
        assert said in everything
    assert any(action.do_zh is not None and action.do_zh in everything for action in policy.actions)
