"""MBG/NBD compared with an independent library (lifetimes) and with its published likelihood, and at its extremes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import hyp2f1

from models import load, profile
from models.mbg_nbd import MbgNbd, Silence
from models.risk import recency_weeks, repeat_purchases
from tests.builders import DAY, act_on_alert, cdnow, feedback, ms, policy_text, purchase
from tests.running import Fold, policy_of

SHIPPED = MbgNbd(0.525, 6.183, 0.891, 1.614)
CALIBRATED_MS = ms("1997-09-30")
WEEK_MS = 7 * DAY
POLICY = load("annual-spend")


@cache
def cdnow_customers() -> dict[str, tuple[int, float, float]]:
    """x, t_x and T in weeks of every CDNOW customer on 1997-09-30, as the fold counts them."""
    fold = Fold(POLICY)
    for wire in cdnow():
        if ms(wire["occurred_at"]) <= CALIBRATED_MS:
            fold.apply(wire)
    found = {}
    for customer_id, customer in fold.customers.items():
        age = (CALIBRATED_MS - customer.facts.first_purchase_ms) / WEEK_MS
        found[customer_id] = (repeat_purchases(customer.facts), recency_weeks(customer.facts), age)
    return found


@pytest.fixture(scope="module")
def lifetimes_fitter() -> Iterator[Any]:
    """lifetimes is archived: it warns under today's numpy and pandas, but its closed forms are right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from lifetimes import ModifiedBetaGeoFitter

        fitter = ModifiedBetaGeoFitter()
        fitter.params_ = pd.Series({"r": 0.525, "alpha": 6.183, "a": 0.891, "b": 1.614})
        yield fitter


# ---------------------------------------------------------------- the data
def test_the_cdnow_sample_has_the_published_statistics() -> None:
    customers = cdnow_customers().values()
    assert len(customers) == 2357
    assert sum(x for x, _, _ in customers) == 2457
    assert sum(x == 0 for x, _, _ in customers) == 1411
    assert max(x for x, _, _ in customers) == 29
    assert min(age for _, _, age in customers) == 27.0
    assert round(max(age for _, _, age in customers), 2) == 38.86


# ---------------------------------------------------------------- lifetimes
@pytest.mark.parametrize("weeks_later", [0, 1, 13.5, 52, 200])
def test_p_alive_equals_lifetimes_on_every_cdnow_customer(lifetimes_fitter: Any, weeks_later: float) -> None:
    for x, t_x, age in sorted(set(cdnow_customers().values())):
        (theirs,) = lifetimes_fitter.conditional_probability_alive(x, t_x, age + weeks_later)
        assert math.isclose(SHIPPED.p_alive(x, t_x, age + weeks_later), theirs, rel_tol=1e-9)


@pytest.mark.parametrize(("weeks_later", "horizon"), [(0, 39), (0, 90 / 7), (26, 1), (52, 52)])
def test_expected_purchases_equal_lifetimes_on_every_cdnow_customer(
    lifetimes_fitter: Any, weeks_later: float, horizon: float
) -> None:
    for x, t_x, age in sorted(set(cdnow_customers().values())):
        theirs = lifetimes_fitter.conditional_expected_number_of_purchases_up_to_time(
            horizon, x, t_x, age + weeks_later
        )
        ours = SHIPPED.expected_purchases(x, t_x, age + weeks_later, horizon)
        assert math.isclose(ours, float(theirs), rel_tol=1e-9)


PUBLISHED = (0.525, 6.183, 0.891, 1.614)
EXACT: list[tuple[tuple[float, float, float, float], tuple[int, float, float], float]] = [
    (PUBLISHED, (0, 0.0, 90 / 7), 0.8236742338106267563),
    (PUBLISHED, (2, 38.86, 39.0), 1.7883837048518457966),
    (PUBLISHED, (29, 38.86, 52.0), 24.041693865873896623),
    (PUBLISHED, (1, 20.0, 1 / 7), 0.0083092461305362381022),
    ((0.525, 6.183, 0.999, 1.614), (1, 20.0, 13.0), 0.67149924425598470974),
    ((0.525, 6.183, 1.0000001, 1.614), (1, 20.0, 13.0), 0.67143692638928191109),
    ((900.0, 1000.0, 30.0, 2000.0), (7, 12.0, 52.0), 33.787322643629275715),
    ((2.0, 400.0, 900.0, 0.02), (4, 250.0, 13.0), 0.11207057411538640489),
    # Thousands of terms.
    (PUBLISHED, (365, 60.0, 156.0), 474.19991879988847275),
    (PUBLISHED, (3000, 600.0, 5200.0), 7690.321879128033316),
    ((50.0, 10.0, 0.2, 1.3), (0, 0.0, 104.0), 210.23587498384249219),
    ((0.004, 1.6, 0.0325, 0.417), (1923, 294.0, 1507.0), 9441.3678367730103758),
    ((0.01, 0.05, 0.01, 0.02), (0, 0.0, 300.0), 55.57332228238027664),
    ((0.3, 0.1, 2.5, 0.4), (0, 0.0, 500.0), 1.7345291073257821658),
]
"""r, alpha, a, b; x, age, horizon; the expected purchases if alive, by mpmath 1.4.1 with 60 digits: Wagner and Hoppe's
formula after Euler's transformation, (a+b+x)/(a-1) (1 - 2F1(a+b-r, a-1; a+b+x; z) (1-z)^(a-1)).
"""


@pytest.mark.parametrize(("parameters", "customer", "expected"), EXACT)
def test_expected_purchases_equal_those_of_sixty_digits(
    parameters: tuple[float, float, float, float], customer: tuple[int, float, float], expected: float
) -> None:
    x, age, horizon = customer
    found = MbgNbd(*parameters).expected_purchases_if_alive(x, age, horizon)
    assert math.isclose(found, expected, rel_tol=1e-14 if (1 + x) * horizon < 2000 and parameters[1] > 1 else 1e-12)


@given(
    st.floats(0.01, 20.0), st.floats(0.5, 50.0), st.floats(0.01, 20.0), st.floats(0.01, 50.0),
    st.integers(0, 300), st.floats(0.0, 200.0), st.floats(0.1, 200.0),
)  # fmt: skip
def test_expected_purchases_equal_the_closed_form(
    r: float, alpha: float, a: float, b: float, x: int, age: float, horizon: float
) -> None:
    """The series of Wagner and Hoppe as printed has positive terms alone; SciPy sums it well where z is at most 0.9."""
    assume(abs(a - 1) > 0.01)
    rest = (alpha + age) / (alpha + age + horizon)
    assume(rest >= 0.1 and (r + x) * math.log(rest) > -300)
    still = rest ** (r + x) * float(hyp2f1(r + x, b + x + 1, a + b + x, 1 - rest))
    assume(math.isfinite(still))
    expected = (a + b + x) / (a - 1) * (1 - still)
    ours = MbgNbd(r, alpha, a, b).expected_purchases_if_alive(x, age, horizon)
    # What the closed form loses where 1 - still cancels, and in rest to the power of r + x.
    lost = 1e-15 * (a + b + x) / abs(a - 1) * max(still, 1.0) * (100 + x)
    assert math.isclose(ours, expected, rel_tol=1e-12, abs_tol=lost)


# ---------------------------------------------------------------- the published fit: MBG/NBD in the table of docs/risk.md
def log_likelihood(model: MbgNbd) -> float:
    """Of the CDNOW calibration, from the integral over (lambda, p) of the likelihood of one customer.

    A customer who is alive at T bought x + 1 times without leaving: (1 - p)^(x+1) lambda^x e^(-lambda T); one who left
    did so after the last purchase: p (1 - p)^x lambda^x e^(-lambda t_x).
    """
    r, alpha, a, b = model.r, model.alpha, model.a, model.b

    def log_beta(one: float, other: float) -> float:
        return math.lgamma(one) + math.lgamma(other) - math.lgamma(one + other)

    total = 0.0
    for x, t_x, age in cdnow_customers().values():
        alive = math.exp(log_beta(a, b + x + 1) - log_beta(a, b)) * (alpha + age) ** -(r + x)
        left = math.exp(log_beta(a + 1, b + x) - log_beta(a, b)) * (alpha + t_x) ** -(r + x)
        total += math.lgamma(r + x) - math.lgamma(r) + r * math.log(alpha) + math.log(alive + left)
    return total


def test_the_shipped_parameters_have_the_published_log_likelihood() -> None:
    assert log_likelihood(SHIPPED) == pytest.approx(-9582.136, abs=0.005)


@pytest.mark.parametrize("changed", [(1.05, 1, 1, 1), (1, 1.05, 1, 1), (1, 1, 1.05, 1), (1, 1, 1, 1.05)])
def test_no_other_parameters_nearby_are_likelier(changed: tuple[float, float, float, float]) -> None:
    values = (SHIPPED.r, SHIPPED.alpha, SHIPPED.a, SHIPPED.b)
    for sign in (1, -1):
        other = MbgNbd(*(value * factor**sign for value, factor in zip(values, changed, strict=True)))
        assert log_likelihood(other) < log_likelihood(SHIPPED)


@pytest.mark.parametrize("name", ["retail-three-tier", "annual-spend", "subscription-like"])
def test_every_shipped_policy_has_these_parameters(name: str) -> None:
    assert load(name).risk.mbg == SHIPPED


# ---------------------------------------------------------------- no purchase within the horizon
def test_the_log_odds_are_those_of_having_left_or_not_buying() -> None:
    horizon = 90 / 7
    for x, t_x, age in sorted(set(cdnow_customers().values())):
        alive = SHIPPED.p_alive(x, t_x, age)
        buying = 1 - ((SHIPPED.alpha + age) / (SHIPPED.alpha + age + horizon)) ** (SHIPPED.r + x)
        ours = SHIPPED.log_odds_no_purchase(x, t_x, age, horizon)
        assert math.isclose(ours, math.log((1 - alive * buying) / (alive * buying)), rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize(("x", "t_x"), [(0, 0.0), (2, 30.43), (29, 30.0), (365, 52.0)])
@pytest.mark.parametrize("threshold", [1.4, 3.5, 6.0])
def test_the_age_at_which_a_threshold_is_reached_is_found(x: int, t_x: float, threshold: float) -> None:
    silence = Silence(SHIPPED, x, t_x, 13.0)
    age = silence.reaches(threshold, t_x, 5200.0)
    assert silence.log_odds(age) == pytest.approx(threshold, abs=1e-4)


@given(
    st.integers(0, 7000), st.floats(0.0, 1.0), st.floats(0.0, 5000.0), st.floats(1 / 7, 5300.0), st.floats(0.001, 100.0)
)
def test_nothing_overflows_and_silence_never_lowers_the_risk(
    x: int, busy: float, silence: float, horizon: float, more: float
) -> None:
    t_x = (x / 7) * (1 + busy)
    age = t_x + silence
    assert 0 <= SHIPPED.p_alive(x, t_x, age) < 1
    assert t_x <= Silence(SHIPPED, x, t_x, horizon).reaches(10.0, t_x, t_x + 5200.0) <= t_x + 5200.0
    expected = SHIPPED.expected_purchases_if_alive(x, age, horizon)
    assert math.isfinite(expected)
    assert expected > 0
    now = SHIPPED.log_odds_no_purchase(x, t_x, age, horizon)
    later = SHIPPED.log_odds_no_purchase(x, t_x, age + more, horizon)
    assert math.isfinite(now)
    assert now < later or math.isclose(now, later, rel_tol=1e-9)


def test_a_daily_buyer_silent_for_ten_years_can_still_be_judged_and_shown() -> None:
    fold = Fold(policy_of(policy_text()))
    for day in range(365):
        fold.apply(purchase("ada", "1", on=ms("2010-01-01") + day * DAY))
    fold.apply(act_on_alert("ada", on="2022-01-01"))
    assert profile(fold.apply(feedback("ada", 50, on="2022-01-02")).customer, "ada", fold.policy)
