"""Hypothesis strategies: random policies in which tiers move, and random logs that hit boundaries and ties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests import builders
from tests.builders import DAY, HOUR, Wire, ms, policy_text

START_MS = ms("2019-12-20T05:00:00Z")
AMOUNTS = ("0", "0.01", "9.99", "10", "10.01", "25", "49.99", "50", "75.50", "100", "200")
SEVERITIES = ("low", "medium", "high", "critical")
STATUSES = ("opened", "escalated", "resolved", "reopened")
REGIONS = ("north", "south", "")
TIERS = ("member", "silver", "gold", "platinum")


# ---------------------------------------------------------------- policies
WINDOWS: tuple[Wire, ...] = (
    {"kind": "trailing", "length": "30d"},
    {"kind": "trailing", "length": "90d", "bucket": "1d"},
    {"kind": "trailing", "length": "90d", "bucket": "15m", "lateness": "10d"},
    {"kind": "trailing", "length": "365d", "lateness": "400d"},
    {"kind": "trailing", "length": "1d", "bucket": "1m", "lateness": "0d"},
    {"kind": "calendar-year", "length": None},
    {"kind": "calendar-year", "length": None, "utc_offset": "+08:00", "lateness": "30d"},
    {"kind": "calendar-year", "length": None, "utc_offset": "-05:30", "bucket": "30m"},
    {"kind": "anniversary-year", "length": None},
    {"kind": "anniversary-year", "length": None, "utc_offset": "+05:45", "bucket": "15m"},
)
LADDERS: tuple[list[Wire], ...] = (
    [{"name": "silver", "min_spend": "50"}, {"name": "gold", "min_spend": "100"}, {"name": "platinum", "min_spend": "200"}],
    [
        {"name": "silver", "min_spend": "10", "min_satisfaction": 50},
        {"name": "gold", "min_spend": "50", "min_satisfaction": 70},
        {"name": "platinum", "min_spend": "100", "min_satisfaction": 90},
    ],
    [
        {"name": "silver", "min_active_periods": 1, "max_recency": "60d"},
        {"name": "gold", "min_active_periods": 2, "min_orders": 2, "max_recency": "45d"},
        {"name": "platinum", "min_active_periods": 2, "min_orders": 3, "max_recency": "20d", "min_score": 2.5},
    ],
    [{"name": "silver", "min_score": 1.4}, {"name": "gold", "min_score": "2.2"}, {"name": "platinum", "min_score": 3}],
    [{"name": "silver", "min_orders": 1}, {"name": "gold", "min_satisfaction": 70}, {"name": "platinum", "min_orders": 2, "max_recency": "1h"}],
)  # fmt: skip
SCORES = (
    {
        "recency": {"weight": 0.4, "breakpoints": ["15d", "30d", "45d"]},
        "frequency": {"weight": 0.4, "breakpoints": [1, 2, 4]},
        "monetary": {"weight": 0.2, "breakpoints": ["10", "50", "100.01"]},
    },
    {
        "recency": {"weight": 1, "breakpoints": ["1ms", "1d", "100d"]},
        "frequency": {"weight": "0.333", "breakpoints": [2]},
        "monetary": {"weight": 0, "breakpoints": ["1"]},
    },
)


CARDS: tuple[Wire, ...] = (
    {},
    {},
    {"card": {"intercept": 0.2, "model": 0.7, "silence": 0.6, "frequency": -0.5, "spend": -0.1, "basket_trend": -0.3, "typical_spend": "20"}},
    {"card": {"intercept": -1, "model": 0.0, "silence": 2.5, "frequency": 0.0}},
    {"card": {"model": 1.4, "basket_trend": -1, "typical_spend": "0.5"}},
)  # fmt: skip


LIVES = (
    None,
    {"loyal_days": 3, "loyal_after": "30d", "cooling_after": "20d", "lost_after": "45d"},
    {"loyal_days": 2, "loyal_after": "0d", "high_frequency": "1h", "active": "1d", "regular": "400d"},
)


LEDGERS = (
    None,
    {},
    {"cool_down": "10d", "deadline": "3d", "hold_silence": False},
    {"level": "watch", "cool_down": "0d", "deadline": "1d"},
)
ACTIONS: tuple[list[Wire], ...] = (
    [],
    [
        {"tier": "gold", "do": "Call", "within": "4h"},
        {"cause": "complaints", "do": "Mend it", "do_zh": "解决它", "within": "2d"},
        {"level": "watch", "do": "Write", "within": "20d"},
    ],
)


@st.composite
def policy_texts(draw: st.DrawFn, ledgers: tuple[Wire | None, ...] = LEDGERS) -> str:
    """A policy like the shipped ones, with thresholds that a few purchases reach and lose."""
    window = draw(st.sampled_from(WINDOWS))
    graces = ["0d", "1ms", "14d", "30d", "60d"] + (["period-end"] * 3 if window["kind"] != "trailing" else [])
    levels = [("watch", 0.6, 0.55), ("high", 0.8, 0.75), ("critical", 0.92, 0.92)][: draw(st.integers(1, 3))]
    assumed = draw(st.sampled_from([None, None, 40, 80]))
    return policy_text(
        window=window,
        tiers=draw(st.sampled_from(LADDERS)),
        score=draw(st.sampled_from(SCORES)),
        period=draw(st.sampled_from(["30d", "7d", "1d"])),
        rates={"JPY": "0.0071", "KWD": "3.25", "EUR": "1.1"},
        downgrade={
            "grace": draw(st.sampled_from(graces)),
            "step": draw(st.sampled_from(["one", "direct"])),
            "min_hold": draw(st.sampled_from(["0d", "0d", "10d", "45d", "180d"])),
        },
        life_cycle=draw(st.sampled_from(LIVES)),
        alerts=draw(st.sampled_from(ledgers)),
        actions=draw(st.sampled_from(ACTIONS)),
        satisfaction={"valid_for": draw(st.sampled_from(["30d", "365d"])), "assume": assumed},
        risk={
            "horizon": draw(st.sampled_from(["30d", "90d"])),
            **draw(st.sampled_from(CARDS)),
            "levels": [{"name": name, "raise_at": up, "ease_below": down} for name, up, down in levels],
            "complaints": {
                "forget_after": draw(st.sampled_from(["40d", "365d"])),
                "step": draw(st.sampled_from(["1d", "7d"])),
                "half_life": draw(st.sampled_from(["10d", "60d"])),
                "repeat_within": draw(st.sampled_from(["1d", "60d"])),
                "repeat_factor": draw(st.sampled_from([1.0, 1.5])),
            },
        },
    )


# ---------------------------------------------------------------- logs
GAPS_MS = st.one_of(
    st.sampled_from([0, 0, 1, 1000, HOUR - 1, HOUR, DAY - 1, DAY, 7 * DAY, 14 * DAY, 30 * DAY, 31 * DAY, 45 * DAY]),
    st.sampled_from([60 * DAY, 90 * DAY, 180 * DAY, 365 * DAY, 366 * DAY, 400 * DAY]),
    st.integers(0, 3 * DAY),
    st.integers(0, 60 * DAY),
)
SNAPS = ("no", "no", "no", "day", "day's end", "hour", "year", "year's end")


@st.composite
def times(draw: st.DrawFn, least: int = 1, most: int = 16, gaps: st.SearchStrategy[int] = GAPS_MS) -> list[int]:
    """Instants in order, over a few years, with ties, and some on boundaries of hours, days and years."""
    at_ms, found = START_MS, []
    for _ in range(draw(st.integers(least, most))):
        at_ms = max(at_ms, _snapped(at_ms + draw(gaps), draw(st.sampled_from(SNAPS))))
        found.append(at_ms)
    return found


def _snapped(at_ms: int, snap: str) -> int:
    """The boundary before `at_ms`, or the last millisecond before the next one."""
    if snap in ("day", "hour"):
        return at_ms - at_ms % (DAY if snap == "day" else HOUR)
    if snap == "day's end":
        return at_ms - at_ms % DAY + DAY - 1
    if snap in ("year", "year's end"):
        year = int(builders.rfc3339(at_ms)[:4])
        return ms(f"{year + 1}-01-01") - (1 if snap == "year's end" else 0)
    return at_ms


@st.composite
def facts_about(draw: st.DrawFn, customer_id: str, at_ms: int, earlier: list[int], number: int) -> Wire:
    """An event that changes facts: a purchase, refund, complaint, answer or prospect."""
    id = f"{customer_id}-{number}"
    kind = draw(st.sampled_from(["purchase"] * 5 + ["refund", "complaint", "complaint", "feedback", "prospect"]))
    if kind == "purchase":
        currency = draw(st.sampled_from(["USD"] * 5 + ["JPY", "KWD", "EUR"]))
        amount = draw(st.sampled_from(AMOUNTS))
        if currency == "JPY":
            amount = amount.split(".", maxsplit=1)[0]
        region = draw(st.sampled_from([None, None, *REGIONS]))
        return builders.purchase(customer_id, amount, on=at_ms, currency=currency, id=id, region=region)
    if kind == "refund":
        of = draw(st.sampled_from([None, at_ms, *[before for before in earlier if before <= at_ms]]))
        amount = draw(st.sampled_from(AMOUNTS))
        return builders.refund(customer_id, amount, on=at_ms, of=of, full=draw(st.booleans()), id=id)
    if kind == "prospect":
        money, authority = draw(st.booleans()), draw(st.booleans())
        need, region = draw(st.booleans()), draw(st.sampled_from(REGIONS))
        return builders.prospect(
            customer_id, on=at_ms, money=money, authority=authority, need=need, region=region, id=id
        )
    if kind == "complaint":
        return builders.complaint(
            customer_id,
            draw(st.sampled_from(["c1", "c1", "c2", "c3"])),
            on=at_ms,
            status=draw(st.sampled_from(STATUSES)),
            severity=draw(st.sampled_from(SEVERITIES)),
            category=draw(st.sampled_from([None, "delivery"])),
            satisfaction=draw(st.sampled_from([None, None, 0, 30, 95])),
            region=draw(st.sampled_from([None, *REGIONS])),
            id=id,
        )
    score = draw(st.sampled_from([0, 49, 50, 69, 70, 89, 90, 100]))
    return builders.feedback(customer_id, score, on=at_ms, kind=draw(st.sampled_from(["csat", "nps"])), id=id)


@st.composite
def commands_about(draw: st.DrawFn, customer_id: str, at_ms: int, number: int) -> Wire:
    """A command."""
    what = draw(st.sampled_from(["lock", "unlock", "unlock", "act", "act", "act", "erase"]))
    id = f"{customer_id}-{number}"
    if what == "lock":
        return builders.lock(customer_id, draw(st.sampled_from(TIERS)), on=at_ms, id=id)
    if what == "unlock":
        return builders.unlock(customer_id, on=at_ms, id=id)
    if what == "act":
        return draw(actions_about(customer_id, at_ms, id))
    return builders.erase(customer_id, on=at_ms, id=id)


@st.composite
def actions_about(draw: st.DrawFn, customer_id: str, at_ms: int, id: str) -> Wire:
    """Somebody's action on an alert."""
    action = draw(
        st.sampled_from(
            ["acknowledged", "acknowledged", "contacted", "snoozed", "released", "saved", "lost", "dismissed"]
        )
    )
    more: Wire = {"actor": draw(st.sampled_from(["mia", "kim"]))}
    if draw(st.integers(0, 3)) == 0:
        more["owner"] = draw(st.sampled_from(["mia", "kim", "lea"]))
    if draw(st.integers(0, 3)) == 0:
        more["number"] = draw(st.integers(1, 2))
    if action == "snoozed":
        more["until"] = builders.rfc3339(at_ms + draw(st.sampled_from([0, 1, DAY, 5 * DAY, 40 * DAY])))
    if action == "dismissed" or draw(st.booleans()):
        more["reason"] = "spoke to them"
    return builders.act_on_alert(customer_id, action, on=at_ms, id=id, **more)


@st.composite
def customer_logs(draw: st.DrawFn, customer_id: str = "ada", most: int = 16) -> list[Wire]:
    """One customer's log in order of arrival: mostly in order of time, with some late and some repeated events."""
    log: list[Wire] = []
    instants = draw(times(most=most))
    for number, at_ms in enumerate(instants):
        if draw(st.integers(0, 9)) == 0:
            log.append(draw(commands_about(customer_id, at_ms, number)))
        else:
            log.append(draw(facts_about(customer_id, at_ms, instants[:number], number)))
    for _ in range(draw(st.integers(0, 3))):
        late = log.pop(draw(st.integers(0, len(log) - 1)))
        log.insert(draw(st.integers(0, len(log))), late)
    for _ in range(draw(st.integers(0, 2))):
        log.insert(draw(st.integers(0, len(log))), dict(draw(st.sampled_from(log))))
    return log


@st.composite
def alert_logs(draw: st.DrawFn) -> list[Wire]:
    """A customer who bought once and complained, with actions on the alert and more events in between."""
    log = [
        builders.purchase("ada", "25", on=START_MS, id="first"),
        builders.complaint("ada", on=START_MS + DAY, severity="critical", category="delivery", id="why"),
    ]
    at_ms = START_MS + DAY
    for number in range(draw(st.integers(2, 14))):
        at_ms += draw(st.sampled_from([0, 1, HOUR, DAY, 2 * DAY, 5 * DAY, 14 * DAY, 60 * DAY]))
        is_action = draw(st.integers(0, 2)) > 0
        log.append(
            draw(
                actions_about("ada", at_ms, f"act-{number}")
                if is_action
                else facts_about("ada", at_ms, [START_MS], number)
            )
        )
    return log


@st.composite
def logs(draw: st.DrawFn) -> list[Wire]:
    """The log of one to three customers, interleaved."""
    whole: list[Any] = []
    for customer_id in ("ada", "bob", "eve")[: draw(st.sampled_from([1, 1, 2, 3]))]:
        for event in draw(customer_logs(customer_id, most=12)):
            whole.append((draw(st.integers(0, 5)) + len(whole), len(whole), event))
    return [event for _, _, event in sorted(whole, key=lambda entry: entry[:2])]


@st.composite
def timely_events(draw: st.DrawFn) -> list[Wire]:
    """Events of one customer within ten days of each other, which change facts."""
    gaps = st.one_of(st.sampled_from([0, 0, 1, HOUR - 1, HOUR, DAY]), st.integers(0, DAY))
    instants = draw(times(least=2, most=10, gaps=gaps))
    instants = [at_ms for at_ms in instants if at_ms <= instants[0] + 10 * DAY]
    return [draw(facts_about("ada", at_ms, instants[:number], number)) for number, at_ms in enumerate(instants)]
