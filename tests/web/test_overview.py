"""The numbers of the overview, compared with the fold's customers."""

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
from streams.view.customers import RedisView
from streams.view.updates import update_of
from streams.web.pages.overview_page import AT_RISK, _sizes_over_time
from streams.web.pages.tier_measures import SAMPLE, Figures, Sample, TierMeasures, figures_of, measures_of, yearly_spend
from tests import builders
from tests.builders import DAY, complaint, ms, policy_text, purchase, rfc3339
from tests.running import Fold, policy_of
from tests.web.people import hash_cheaply, hire, sign_in

FIRST, DAYS = date(1997, 1, 1), 120


def history() -> tuple[Fold, list[dict[str, float]]]:
    """CDNOW's first months under `annual-spend`: the fold, and for each day's end how many customers each tier had and
    were at risk.
    """
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
    """The counts of each day, as streams/view/lua/apply.lua keeps them."""
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


def test_sizes_of_earlier_days_follow_from_the_present_ones_and_the_moves() -> None:
    now = ENDS[-1]
    measures = [TierMeasures("member", 0), *(TierMeasures(tier, int(now[tier])) for tier in now if tier != AT_RISK)]
    found = dict(_sizes_over_time([[day] for day in days()], measures, int(now[AT_RISK])))
    assert max(now.values()) > 20
    assert found == {name: [end[name] for end in ENDS] for name in now}


# ------------------------------------------------------------ measures of tiers, against sums worked out in the test
NOW_MS = ms("2024-12-31")


def profile_of(fold: Fold, customer_id: str) -> dict[str, Any]:
    body = models.profile(fold.customers[customer_id], customer_id, fold.policy)
    assert body is not None
    found: dict[str, Any] = json.loads(body)
    return found


def test_cost_and_benefit_of_a_customer_are_those_worked_out_by_hand() -> None:
    value = {
        "margin": 0.5,
        "cost_to_serve": {"silver": "10", "gold": "30"},
        "complaint_cost": {"low": "2", "high": "5"},
    }
    fold = Fold(policy_of(policy_text(value=value)))
    fold.apply(purchase("ada", "60", on=NOW_MS - 400 * DAY, id="a1"))
    fold.apply(purchase("ada", "80", on=NOW_MS - 100 * DAY, id="a2"))
    fold.apply(purchase("ada", "40", on=NOW_MS - 99 * DAY, id="a3"))
    fold.apply(complaint("ada", "c1", on=NOW_MS - 9 * DAY, severity="high"))
    fold.apply(complaint("ada", "c2", on=NOW_MS - 8 * DAY, severity="low"))
    fold.apply(complaint("ada", "c2", on=NOW_MS - 7 * DAY, severity="low", status="resolved"))
    found = figures_of(profile_of(fold, "ada"), fold.policy, NOW_MS)
    # 80 and 40 within the year, half of which is earned; the tier costs 30, and of the complaints the open one 5.
    assert (found.cost, found.benefit) == (30.0, 0.5 * 120 - 30 - 5)
    assert found.churn is not None and found.retention == pytest.approx(1 - found.churn)
    assert (found.repeat_rate, found.frequency, found.spend) == (1.0, 2, 120.0)
    later = figures_of(profile_of(fold, "ada"), fold.policy, NOW_MS + 365 * DAY)
    assert later.benefit == -30 - 5  # a customer who buys no more still costs as much


def test_the_spend_of_a_year_is_scaled_up_where_the_profile_has_less() -> None:
    def spent(*buckets: tuple[int, str], window_days: int) -> float:
        bought = [[rfc3339(NOW_MS - days_ago * DAY), 1, spend] for days_ago, spend in buckets]
        return yearly_spend({"history": {"purchases": bought}}, window_days * DAY, NOW_MS)

    assert spent((367, "7"), (366, "5"), (365, "20"), (1, "-4"), window_days=366) == 16.0
    assert spent((100, "9"), (73, "5"), (10, "8"), window_days=73) == 13.0 * 5
    # A profile has 200 buckets at most: 200 within 50 days are 1,460 a year.
    many = [(50 - number // 4, "1") for number in range(200)]
    assert spent(*many, window_days=365) == pytest.approx(200 / 50 * 365)


def figures(**known: float) -> Figures:
    return Figures._make(known.get(name) for name in Figures._fields)


def test_tiers_are_weighted_by_their_customers_and_missing_figures_left_out() -> None:
    gold = Sample("gold", 10, ["none", "watch"], [figures(benefit=90.0, satisfaction=80), figures(benefit=70.0)])
    base = Sample("member", 90, ["none"] * 3, [figures(benefit=-1.0, satisfaction=50), *[figures(benefit=2.0)] * 2])
    empty = Sample("platinum", 0)
    assert measures_of("gold", [gold]).means["benefit"] == 80.0
    assert set(measures_of("platinum", [empty]).means.values()) == {None}
    whole = measures_of("all", [base, gold, empty])
    assert whole.customers == 100
    assert whole.levels == {"none": (90 + 5) / 100, "watch": 5 / 100}
    assert whole.means["benefit"] == pytest.approx((90 * 1 + 10 * 80) / 100)
    # One in three of 90 answered, and one in two of 10.
    assert whole.means["satisfaction"] == pytest.approx((30 * 50 + 5 * 80) / 35)
    assert whole.means["churn"] is None


def test_the_page_shows_the_measures_of_the_customers(
    talking: Any, store: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_cheaply(monkeypatch)
    hire(tmp_path, "lin", "agent")
    monkeypatch.setenv("TIERSTREAM_POLICY", "annual-spend")
    monkeypatch.setenv("TIERSTREAM_CLOCK", "event")

    async def fill() -> None:
        view = RedisView(server.url)
        records = [(one.topic, one.body) for one in FOLD.outputs]
        for id, customer in FOLD.customers.items():
            body = models.profile(customer, id, FOLD.policy)
            assert body is not None
            records.append(("profiles", body))
        updates = [update for topic, body in records if (update := update_of(topic, body)) is not None]
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
    whole = re.search(r'<tr class="total"><th scope="row">All</th><td class="number">([\d,]+)</td>', page)
    assert whole is not None and int(whole[1].replace(",", "")) == len(tiers)
    assert f"at most {SAMPLE} customers of each tier" in page
    assert "Margin (100%) × net spend of the last 365 days" in page
    latest = max(one.occurred_at_ms for one in FOLD.outputs)
    assert units.format_time(latest)[:10] in page
