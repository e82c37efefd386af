"""The overview's numbers, against the fold's own customers."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import models
from models import units
from streams.updates import update_of
from streams.view import RedisView
from streams.web.measures import TierMeasures
from streams.web.overview_page import AT_RISK, _back_in_time
from tests import builders
from tests.builders import DAY, ms
from tests.functional.web.people import cheap_hashes, hire, sign_in
from tests.running import Fold

FIRST, DAYS = date(1997, 1, 1), 120


def history() -> tuple[Fold, list[dict[str, float]]]:
    """CDNOW's first months under the calendar programme, and how many each tier had, and were at risk, at the end of each day."""
    fold = Fold(models.load("annual-spend"))
    bought = [wire for wire in builders.cdnow("USD") if int(wire["customer_id"]) % 9 == 0]
    log = sorted(builders.with_made_up_complaints(bought), key=lambda wire: ms(wire["occurred_at"]))
    ends = []
    for number in range(DAYS):
        end_ms = ms((FIRST + timedelta(days=number + 1)).isoformat()) - 1
        while log and ms(log[0]["occurred_at"]) <= end_ms:
            fold.apply(log.pop(0))
        fold.advance(end_ms)
        standings = [customer.standing for customer in fold.customers.values()]
        sizes = {
            tier.name: float(sum(one.tier == tier.name for one in standings)) for tier in fold.policy.ladder.tiers[1:]
        }
        ends.append(sizes | {AT_RISK: float(sum(one.risk_level != "none" for one in standings))})
    return fold, ends


FOLD, ENDS = history()


def days() -> list[dict[str, Any]]:
    """The counts of each day, as streams/lua/apply.lua keeps them."""
    counts: list[dict[str, Any]] = [{"date": (FIRST + timedelta(days=number)).isoformat()} for number in range(DAYS)]
    for output in FOLD.outputs:
        body = json.loads(output.body)
        kinds = {"tier-changes": ("flow", "tier"), "churn-risk": ("risk", "level")}
        if output.topic in kinds:
            kind, field = kinds[output.topic]
            day = counts[(output.occurred_at_ms - ms(FIRST.isoformat())) // DAY]
            before, after = body["before"][field], body["after"][field]
            if kind == "risk" or before != after:
                name = f"{kind}:{before}>{after}"
                day[name] = day.get(name, 0.0) + 1
    return counts


def test_sizes_of_days_gone_by_follow_from_those_of_now_and_from_who_moved() -> None:
    now = ENDS[-1]
    measures = [TierMeasures("member", 0), *(TierMeasures(tier, int(now[tier])) for tier in now if tier != AT_RISK)]
    found = dict(_back_in_time([[day] for day in days()], measures, int(now[AT_RISK])))
    assert max(now.values()) > 20
    assert found == {name: [end[name] for end in ENDS] for name in now}


def test_the_page_shows_what_the_customers_are(
    talking: Any, store: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap_hashes(monkeypatch)
    hire(tmp_path, "lin", "agent")
    monkeypatch.setenv("TIERSTREAM_POLICY", "annual-spend")
    monkeypatch.setenv("TIERSTREAM_CLOCK", "event")

    async def fill() -> None:
        view = RedisView(server.url)
        told = [(one.topic, one.body) for one in FOLD.outputs]
        for id, customer in FOLD.customers.items():
            body = models.profile(customer, id, FOLD.policy)
            assert body is not None
            told.append(("profiles", body))
        updates = [update for topic, body in told if (update := update_of(topic, body)) is not None]
        assert await view.apply("all/0", 0, len(updates), updates) is None
        await view.redis.aclose()

    async def look() -> str:
        await fill()
        async with talking(headers={"Accept": "text/html"}) as client:
            await sign_in(client, "lin")
            answer = await client.get("/overview?days=365")
            assert answer.status_code == 200
            return str(answer.text)

    page = asyncio.run(look())
    tiers = [customer.standing.tier for customer in FOLD.customers.values()]
    for tier in set(tiers):
        row = re.search(rf'<tr><th scope="row">{tier}</th><td class="number">([\d,]+)</td>', page)
        assert row is not None and int(row[1].replace(",", "")) == tiers.count(tier), tier
    opened = [one for one in FOLD.outputs if one.topic == "alerts" and one.change == "opened"]
    assert f"<dd>{len(opened):,}</dd>" in page
    latest = max(one.occurred_at_ms for one in FOLD.outputs)
    assert units.format_time(latest)[:10] in page
