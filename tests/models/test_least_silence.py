"""The bound of the silence before a threshold is reached is never too long, and close enough to be useful."""

from __future__ import annotations

import math

from hypothesis import assume, event, given
from hypothesis import strategies as st

from models import Policy, load, units
from models.customer import NEVER_MS, Facts
from models.customer_parts import ComplaintStep, Satisfaction
from models.facts import book_complaint, forget_complaints
from models.mbg_nbd import LeastSilence, MbgNbd
from models.risk import LONGEST_SILENCE_MS, repeat_purchases
from tests.builders import DAY, Wire, cdnow, ms, policy_text
from tests.running import Fold, policy_of
from tests.strategies import customer_logs, policy_texts

LONGEST_WEEKS = LONGEST_SILENCE_MS / units.WEEK_MS
CDNOW = MbgNbd(0.525, 6.183, 0.891, 1.614)
TEN_YEARS_MS = 3650 * DAY
LARGEST_ERROR = 0.25
A_FEW_WEEKS = 4.0
PART_OF_T_X = 1 / 4
"""t_x is known to a sixteenth. A silence that is much shorter, or just some days, may not be bounded well."""


def models() -> st.SearchStrategy[MbgNbd]:
    a = st.floats(0.01, 20).filter(lambda value: value != 1)
    return st.builds(MbgNbd, st.floats(0.01, 20), st.floats(0.01, 200), a, st.floats(0.01, 20))


def rhythms() -> st.SearchStrategy[tuple[int, int]]:
    """x and t_x in ms, which are both 0 or both not."""
    t_x_ms = st.one_of(
        st.integers(1, 70),
        st.integers(0, 41).flatmap(lambda shift: st.integers(1 << shift, (2 << shift) - 1)),
        st.sampled_from([32 << 20, (32 << 20) - 1, (33 << 20) - 1, 63 << 25, DAY, 365 * DAY]),
        st.integers(1, TEN_YEARS_MS),
    )
    return st.just((0, 0)) | st.tuples(st.integers(1, 30) | st.integers(1, 3000), t_x_ms)


def log_odds(mbg: MbgNbd, x: int, t_x_ms: int, silence: float, horizon: float) -> float:
    """The exact score after a silence in weeks."""
    t_x = t_x_ms / units.WEEK_MS
    return mbg.log_odds_no_purchase(x, t_x, t_x + silence, horizon)


def crossing(mbg: MbgNbd, x: int, t_x_ms: int, threshold: float, horizon: float) -> float:
    """The silence in weeks at which the exact score reaches the threshold, infinite if none does."""
    low, high = 0.0, LONGEST_WEEKS
    if log_odds(mbg, x, t_x_ms, low, horizon) >= threshold:
        return 0.0
    if log_odds(mbg, x, t_x_ms, high, horizon) < threshold:
        return math.inf
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if log_odds(mbg, x, t_x_ms, middle, horizon) >= threshold else (middle, high)
    return high


@given(
    models(),
    rhythms(),
    st.one_of(st.floats(-12, 12), st.integers(-160, 160).map(lambda cell: cell / 16), st.floats(-2000, 2000)),
    st.floats(0.05, 110),
    st.lists(st.floats(0, 1), max_size=5),
)
def test_at_the_bound_and_any_shorter_silence_the_score_is_below_the_threshold(
    mbg: MbgNbd, rhythm: tuple[int, int], threshold: float, horizon: float, parts: list[float]
) -> None:
    x, t_x_ms = rhythm
    bound = LeastSilence(mbg, horizon, LONGEST_WEEKS).weeks(x, t_x_ms, units.WEEK_MS, threshold)
    assert bound >= 0
    event("can't tell" if bound == 0 else "never" if bound == math.inf else "some weeks")
    if bound > 0:
        furthest = min(bound, LONGEST_WEEKS)
        for silence in (furthest, *(part * furthest for part in parts)):
            assert log_odds(mbg, x, t_x_ms, silence, horizon) < threshold


@given(models(), st.lists(st.tuples(rhythms(), st.floats(-5, 5)), min_size=2, max_size=12), st.floats(0.5, 110))
def test_a_bound_does_not_depend_on_what_was_asked_before(
    mbg: MbgNbd, asked: list[tuple[tuple[int, int], float]], horizon: float
) -> None:
    shared = LeastSilence(mbg, horizon, LONGEST_WEEKS)
    for (x, t_x_ms), threshold in [*asked, *reversed(asked)]:
        alone = LeastSilence(mbg, horizon, LONGEST_WEEKS).weeks(x, t_x_ms, units.WEEK_MS, threshold)
        assert shared.weeks(x, t_x_ms, units.WEEK_MS, threshold) == alone


@given(
    st.just(CDNOW) | st.builds(MbgNbd, st.floats(0.3, 3), st.floats(2, 20), st.floats(0.3, 0.95), st.floats(0.5, 5)),
    st.tuples(st.integers(1, 40), st.integers(2 * 7 * DAY, 1500 * DAY)) | st.just((0, 0)),
    st.floats(0.6, 0.97).map(lambda probability: math.log(probability / (1 - probability))),
    st.sampled_from([30 * DAY, 60 * DAY, 90 * DAY, 180 * DAY]).map(lambda horizon_ms: horizon_ms / units.WEEK_MS),
)
def test_of_typical_customers_the_bound_is_near_the_crossing(
    mbg: MbgNbd, rhythm: tuple[int, int], threshold: float, horizon: float
) -> None:
    exact = crossing(mbg, *rhythm, threshold, horizon)
    assume(max(A_FEW_WEEKS, PART_OF_T_X * rhythm[1] / units.WEEK_MS) < exact < math.inf)
    bound = LeastSilence(mbg, horizon, LONGEST_WEEKS).weeks(*rhythm, units.WEEK_MS, threshold)
    assert (1 - LARGEST_ERROR) * exact <= bound < exact


def test_nine_in_ten_bounds_of_cdnow_customers_are_within_a_tenth_of_the_crossing() -> None:
    policy = load("annual-spend")
    fold = Fold(policy)
    for wire in cdnow():
        fold.apply(wire)
    raise_at = policy.risk.levels[0].raise_at
    rhythms_seen = {
        (repeat_purchases(facts), facts.last_purchase_ms - facts.first_purchase_ms)
        for facts in (customer.facts for customer in fold.customers.values())
    }
    bounds = LeastSilence(CDNOW, policy.risk.horizon_weeks, LONGEST_WEEKS)
    parts = []
    for x, t_x_ms in sorted(rhythms_seen):
        exact = crossing(CDNOW, x, t_x_ms, raise_at, policy.risk.horizon_weeks)
        if 0 < exact < math.inf:
            parts.append(bounds.weeks(x, t_x_ms, units.WEEK_MS, raise_at) / exact)
    assert len(parts) > 500
    assert max(parts) < 1
    assert sum(part > 0.9 for part in parts) > 0.9 * len(parts)


@given(models(), rhythms(), st.floats(-12, 12), st.floats(0.05, 110))
def test_never_is_said_only_of_a_threshold_that_a_hundred_years_do_not_reach(
    mbg: MbgNbd, rhythm: tuple[int, int], threshold: float, horizon: float
) -> None:
    bound = LeastSilence(mbg, horizon, LONGEST_WEEKS).weeks(*rhythm, units.WEEK_MS, threshold)
    if bound == math.inf:
        assert crossing(mbg, *rhythm, threshold, horizon) == math.inf


def assert_quiet_at_most_until_the_change(policy: Policy, facts: Facts, level: str, at_ms: int) -> None:
    """The bound is not beyond the instant at which the level changes; one that is not in the future says nothing."""
    risk = policy.risk
    rank = risk.rank_of(level)
    quiet_ms = risk.unchanged_until_ms(facts, rank, at_ms)
    event("can't tell" if quiet_ms <= at_ms else "never" if quiet_ms == NEVER_MS else "an instant")
    if quiet_ms > at_ms:
        assert quiet_ms <= risk.next_change_ms(facts, rank, at_ms)


@given(policy_texts(), customer_logs())
def test_a_customer_is_never_said_to_be_quiet_beyond_the_next_change_of_their_level(text: str, log: list[Wire]) -> None:
    fold = Fold(policy_of(text))
    for wire in log:
        customer = fold.apply(wire).customer
        if customer.facts.first_purchase_ms >= 0:
            assert_quiet_at_most_until_the_change(
                fold.policy, customer.facts, customer.standing.risk_level, customer.clock_ms
            )


@given(policy_texts(), customer_logs(), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_nor_when_it_is_asked_later_while_nothing_has_happened(text: str, log: list[Wire], parts: list[float]) -> None:
    fold = Fold(policy_of(text))
    for wire in log:
        customer = fold.apply(wire).customer
    facts, level, now_ms = customer.facts, customer.standing.risk_level, customer.clock_ms
    assume(facts.first_purchase_ms >= 0)
    changes_ms = fold.policy.risk.next_change_ms(facts, fold.policy.risk.rank_of(level), now_ms)
    longest_ms = min(changes_ms - 1, now_ms + 3000 * DAY) - now_ms
    for part in parts:
        assert_quiet_at_most_until_the_change(fold.policy, facts, level, now_ms + int(part * longest_ms))


@st.composite
def complaining_customers(draw: st.DrawFn) -> tuple[Facts, int]:
    """A customer with many complaints in several steps, perhaps an answer, and an instant after all that."""
    first_ms = ms("2024-01-01") + draw(st.integers(0, 30 * DAY))
    bought_ms = first_ms + draw(st.sampled_from([0, DAY, 30 * DAY]) | st.integers(0, 400 * DAY))
    days = 1 if bought_ms == first_ms else draw(st.integers(2, 12))
    facts = Facts(first_ms, bought_ms, days, days, days * 1000)
    times = st.integers(-60, 200).map(lambda number: bought_ms + number * DAY) | st.integers(
        bought_ms - 90 * DAY, bought_ms + 200 * DAY
    )
    steps = st.builds(ComplaintStep, times, st.sampled_from("abcde"), st.integers(0, 3), st.integers(0, 3), st.just(""))
    for step in draw(st.lists(steps, min_size=1, max_size=12)):
        book_complaint(facts, step)
    if draw(st.booleans()):
        facts.satisfaction = Satisfaction(draw(times), draw(st.integers(0, 100)), "csat")
    known_ms = max(bought_ms, facts.complaints[-1].at_ms, facts.satisfaction.at_ms if facts.satisfaction else 0)
    return facts, known_ms + draw(st.sampled_from([0, 0, 1, DAY]) | st.integers(0, 200 * DAY))


@given(
    complaining_customers(),
    st.sampled_from(["20d", "60d", "365d"]),
    st.sampled_from(["0d", "1d", "10d", "60d"]),
    st.sampled_from([1.0, 1.5, 4.0]),
    st.sampled_from(["1d", "20d", "365d"]),
    st.floats(0.001, 2),
)
def test_the_bound_holds_even_if_forgetting_makes_complaints_repeated(
    facts_and_now: tuple[Facts, int],
    forget_after: str,
    repeat_within: str,
    repeat_factor: float,
    half_life: str,
    above: float,
) -> None:
    rule = {
        "forget_after": forget_after,
        "repeat_within": repeat_within,
        "repeat_factor": repeat_factor,
        "half_life": half_life,
        "step": "1d",
        "severity": {"low": 0.0, "medium": 0.2, "high": 0.5, "critical": 1.0},
    }
    facts, now_ms = facts_and_now

    def policy_with(raise_at: float) -> Policy:
        levels = [{"name": "watch", "raise_at": raise_at, "ease_below": raise_at / 2}]
        return policy_of(policy_text(risk={"levels": levels, "complaints": rule}, satisfaction={"valid_for": "40d"}))

    # The threshold lies a little above the present score.
    risk = policy_with(0.5).risk
    forget_complaints(facts, risk.complaint_risk.forget_after_ms, now_ms)
    raise_at = 1 / (1 + math.exp(-(risk.log_odds(facts, now_ms) + above)))
    assume(raise_at < 0.9999)
    assert_quiet_at_most_until_the_change(policy_with(raise_at), facts, "none", now_ms)


def test_the_bound_allows_for_a_complaint_that_becomes_repeated_by_forgetting() -> None:
    rule = {
        "forget_after": "60d", "repeat_within": "20d", "repeat_factor": 4.0, "half_life": "365d", "step": "1d",
        "severity": {"low": 0.0, "medium": 0.2, "high": 0.5, "critical": 1.0},
    }  # fmt: skip
    start_ms = ms("2024-01-01")
    facts = Facts(start_ms, start_ms + 54 * DAY, 2, 2, 2000)
    for day, complaint_id, status in ((0, "a", 0), (30, "b", 0), (50, "a", 3)):
        book_complaint(facts, ComplaintStep(start_ms + day * DAY, complaint_id, status, 3, ""))
    now_ms, forgotten_ms = start_ms + 55 * DAY, start_ms + 60 * DAY
    score = policy_of(policy_text(risk={"complaints": rule})).risk.log_odds(facts, now_ms)
    raise_at = 1 / (1 + math.exp(-(score + 1.5)))
    levels = [{"name": "watch", "raise_at": raise_at, "ease_below": raise_at / 2}]
    policy = policy_of(policy_text(risk={"levels": levels, "complaints": rule}))
    assert policy.risk.next_change_ms(facts, 0, now_ms) == forgotten_ms
    assert policy.risk.unchanged_until_ms(facts, 0, now_ms) <= forgotten_ms
