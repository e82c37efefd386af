"""BG/NBD, MBG/NBD and Gamma-Gamma against the published numbers, an independent library (lifetimes), integrals of what
the models say, and customers simulated from known parameters.
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from models.fitting.maximum_likelihood import FitError, maximise
from models.fitting.purchase_process import (
    Customers,
    Fit,
    Kind,
    Parameters,
    expected_purchases,
    expected_purchases_of_new,
    fit_purchase_process,
    log_likelihood,
    p_alive,
)
from models.fitting.spend import Spenders, SpendFit, fit_spend
from models.gamma_gamma import GammaGamma
from models.mbg_nbd import MbgNbd

KINDS: tuple[Kind, ...] = ("bg-nbd", "mbg-nbd")
BG_PUBLISHED = Parameters(0.2425945, 4.4136019, 0.7929199, 2.4258881)
MBG_PUBLISHED = Parameters(0.525, 6.183, 0.891, 1.614)
TRAP = 1.105171
"""e^0.1: where lifetimes starts, and what a fit returns that never moved."""


# ---------------------------------------------------------------- CDNOW
def cdnow_file(name: str) -> list[np.ndarray]:
    spec = find_spec("lifetimes")
    assert spec and spec.submodule_search_locations
    with (Path(spec.submodule_search_locations[0]) / "datasets" / name).open() as lines:
        rows = [[float(value) for value in row[1:]] for row in list(csv.reader(lines))[1:] if row]
    return list(np.array(rows).T)


@cache
def as_shipped() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, t_x and T of the calibration, in weeks of two decimals."""
    x, t_x, age = cdnow_file("cdnow_customers_summary.csv")
    return x, t_x, age


@cache
def cdnow() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same in whole days, as weeks: what the high-precision numbers were fitted to."""
    x, t_x, age = as_shipped()
    return x, np.round(t_x * 7) / 7, np.round(age * 7) / 7


@cache
def fitted(kind: Kind) -> Fit:
    return fit_purchase_process(*cdnow(), kind)


@cache
def spenders() -> list[np.ndarray]:
    """Repeat purchases and their mean amount, of those who bought again."""
    x, _, _, mean = cdnow_file("cdnow_customers_summary_with_transactions.csv")
    return [x[x > 0], mean[x > 0]]


@cache
def fitted_spend() -> SpendFit:
    return fit_spend(*spenders())


# ---------------------------------------------------------------- published: the purchase process
def test_bg_nbd_has_the_published_parameters_and_log_likelihood() -> None:
    fit = fitted("bg-nbd")
    assert [round(value, 3) for value in fit.parameters] == [0.243, 4.414, 0.793, 2.426]
    assert fit.parameters == pytest.approx(BG_PUBLISHED, rel=1e-5)
    assert fit.log_likelihood == pytest.approx(-9582.429, abs=5e-4)
    assert fit.log_likelihood >= log_likelihood(BG_PUBLISHED, *cdnow(), "bg-nbd")
    assert fit.customers == 2357


def test_mbg_nbd_has_the_published_parameters_and_log_likelihood() -> None:
    fit = fitted("mbg-nbd")
    assert [round(value, 3) for value in fit.parameters] == list(MBG_PUBLISHED)
    assert fit.log_likelihood == pytest.approx(-9582.136, abs=5e-4)


@pytest.mark.parametrize(("kind", "published"), [("bg-nbd", -9582.429), ("mbg-nbd", -9582.136)])
def test_weeks_of_two_decimals_change_little(kind: Kind, published: float) -> None:
    fit = fit_purchase_process(*as_shipped(), kind)
    assert fit.log_likelihood == pytest.approx(published, abs=0.01)
    assert fit.parameters == pytest.approx(fitted(kind).parameters, rel=1e-4)


@pytest.mark.parametrize(
    ("weeks", "published"),
    # The spreadsheet has 1.8576 in the end; the integral (below) agrees with 1.8580.
    [(0.1429, 0.0078), (1, 0.0532), (3, 0.1506), (31.8571, 1.0405), (32, 1.0437), (78, 1.8580)],
)
def test_a_new_customer_is_expected_to_buy_as_often_as_published(weeks: float, published: float) -> None:
    assert expected_purchases_of_new(fitted("bg-nbd").parameters, weeks, "bg-nbd") == pytest.approx(published, abs=5e-5)


def test_the_spreadsheets_78_weeks_are_met_to_three_digits() -> None:
    assert expected_purchases_of_new(fitted("bg-nbd").parameters, 78, "bg-nbd") == pytest.approx(1.8576, abs=5e-4)


@pytest.mark.parametrize(
    ("x", "t_x", "age", "published"),
    [(2, 30.43, 38.86, 0.72661), (26, 30.86, 31, 0.96892), (1, 1, 39, 0.18714), (5, 10, 39, 0.02441), (0, 0, 39, 1)],
)
def test_customers_are_as_likely_alive_as_published(x: int, t_x: float, age: float, published: float) -> None:
    assert p_alive(fitted("bg-nbd").parameters, x, t_x, age, "bg-nbd") == pytest.approx(published, abs=5e-6)


def test_the_first_customer_is_expected_to_buy_as_often_as_published() -> None:
    expected = expected_purchases(fitted("bg-nbd").parameters, 2, 30.43, 38.86, 39, "bg-nbd")
    assert expected == pytest.approx(1.226, abs=5e-4)


# ---------------------------------------------------------------- published: spend
def test_gamma_gamma_has_the_published_parameters_and_log_likelihood() -> None:
    fit = fitted_spend()
    # The note's last digits are a spreadsheet's: 3.745 and 15.448 here.
    assert fit.parameters.p == pytest.approx(6.25, abs=0.005)
    assert fit.parameters.q == pytest.approx(3.74, abs=0.005)
    assert fit.parameters.v == pytest.approx(15.44, abs=0.01)
    assert fit.log_likelihood == pytest.approx(-4055.92, abs=0.005)
    assert fit.customers == 946


def test_the_repeaters_spend_on_average_what_is_published() -> None:
    _, mean = spenders()
    assert mean.mean() == pytest.approx(35.0786, abs=5e-5)


@pytest.mark.parametrize(("n", "mean", "published"), [(2, 22.35, 24.65), (1, 11.77, 18.91), (0, 0.0, 35.17)])
def test_the_first_three_customers_are_expected_to_spend_what_is_published(
    n: int, mean: float, published: float
) -> None:
    assert fitted_spend().parameters.expected_spend(n, mean) == pytest.approx(published, abs=0.01)


# ---------------------------------------------------------------- lifetimes
@pytest.fixture(scope="module")
def lifetimes() -> Iterator[Any]:
    """Archived: it warns under today's numpy and pandas, but its closed forms are right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lifetimes

        yield lifetimes


def theirs(lifetimes: Any, kind: Kind) -> Any:
    fitter = lifetimes.BetaGeoFitter if kind == "bg-nbd" else lifetimes.ModifiedBetaGeoFitter
    return fitter()


@pytest.mark.parametrize("kind", KINDS)
def test_lifetimes_finds_the_same_parameters(lifetimes: Any, kind: Kind) -> None:
    fitter = theirs(lifetimes, kind)
    fitter.fit(*cdnow())
    assert fitted(kind).parameters == pytest.approx(fitter.params_.tolist(), rel=1e-3)
    # Its error of alpha is that of scaled time.
    for name in ("r", "a", "b"):
        ours = getattr(fitted(kind).standard_errors, name)
        assert ours == pytest.approx(fitter.standard_errors_[name], rel=0.01)


def test_lifetimes_finds_the_same_spend(lifetimes: Any) -> None:
    fitter = lifetimes.GammaGammaFitter()
    fitter.fit(*spenders())
    ours = fitted_spend()
    p, q, v = fitter.params_
    assert (ours.parameters.p, ours.parameters.q, ours.parameters.v) == pytest.approx((p, q, v), rel=1e-4)
    assert ours.standard_errors == pytest.approx(fitter.standard_errors_.tolist(), rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_lifetimes_expects_the_same_of_every_customer(lifetimes: Any, kind: Kind) -> None:
    import pandas as pd

    parameters = fitted(kind).parameters
    fitter = theirs(lifetimes, kind)
    fitter.params_ = pd.Series(parameters._asdict())
    x, t_x, age = cdnow()
    np.testing.assert_allclose(
        p_alive(parameters, x, t_x, age, kind), fitter.conditional_probability_alive(x, t_x, age), rtol=1e-9
    )
    np.testing.assert_allclose(
        expected_purchases(parameters, x, t_x, age, 39, kind),
        fitter.conditional_expected_number_of_purchases_up_to_time(39, x, t_x, age),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        expected_purchases_of_new(parameters, age, kind),
        fitter.expected_number_of_purchases_up_to_time(age),
        rtol=1e-9,
    )


# ---------------------------------------------------------------- other ways to say the same
def test_the_fold_expects_the_same_of_every_customer() -> None:
    parameters = fitted("mbg-nbd").parameters
    mbg = MbgNbd(*parameters)
    x, t_x, age = cdnow()
    alive = p_alive(parameters, x, t_x, age, "mbg-nbd")
    expected = expected_purchases(parameters, x, t_x, age, 13, "mbg-nbd")
    for i in range(x.size):
        one = (int(x[i]), float(t_x[i]), float(age[i]))
        assert math.isclose(alive[i], mbg.p_alive(*one), rel_tol=1e-12)
        assert math.isclose(expected[i], mbg.expected_purchases(*one, 13), rel_tol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weeks", [0.1429, 1, 31.8571, 78, 520])
def test_a_new_customers_expectation_is_the_mean_over_all_customers(kind: Kind, weeks: float) -> None:
    """Of a customer who leaves with probability p after each purchase: (1 - e^(-lambda p t)) / p repeat purchases, or
    (1 - p) times that when they may leave after the first. The mean over the gamma-distributed lambda is known.
    """
    r, alpha, a, b = parameters = fitted(kind).parameters

    def of_p(p: float) -> float:
        stays = 1.0 if kind == "bg-nbd" else 1.0 - p
        return stays * -math.expm1(-r * math.log1p(p * weeks / alpha)) / p

    # Over the quantiles of p, so that nothing is infinite.
    mean, _ = quad(lambda share: of_p(max(beta.ppf(share, a, b), 1e-12)), 0, 1, epsabs=1e-7)
    assert expected_purchases_of_new(parameters, weeks, kind) == pytest.approx(mean, rel=1e-5)


def test_a_gradient_is_what_a_small_step_changes() -> None:
    step = 1e-5
    functions = [Customers(*cdnow(), kind).mean_log_likelihood for kind in KINDS]
    for function, size in [(functions[0], 4), (functions[1], 4), (Spenders(*spenders()).mean_log_likelihood, 3)]:
        for point in np.random.default_rng(1).uniform(-2, 3, (20, size)):
            _, gradient = function(point)
            numeric = [
                (function(point + one)[0] - function(point - one)[0]) / (2 * step) for one in step * np.eye(size)
            ]
            np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_so_many_customers_alike(kind: Kind) -> None:
    weights = np.random.default_rng(1).integers(1, 4, cdnow()[0].size)
    weighted = fit_purchase_process(*cdnow(), kind, weights)
    x, t_x, age = (np.repeat(column, weights) for column in cdnow())
    repeated = fit_purchase_process(x, t_x, age, kind)
    assert weighted.customers == repeated.customers == weights.sum()
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, abs=1e-6)
    assert weighted.parameters == pytest.approx(repeated.parameters, rel=1e-6)
    assert weighted.standard_errors == pytest.approx(repeated.standard_errors, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1 / 52, 7, 7 * 24 * 3600])
def test_the_unit_of_time_changes_alpha_alone(kind: Kind, unit: float) -> None:
    x, t_x, age = cdnow()
    fit = fit_purchase_process(x, t_x * unit, age * unit, kind)
    in_weeks = fit.parameters._replace(alpha=fit.parameters.alpha / unit)
    assert in_weeks == pytest.approx(fitted(kind).parameters, rel=1e-6)
    assert fit.log_likelihood == pytest.approx(
        log_likelihood(fit.parameters, x, t_x * unit, age * unit, kind), abs=1e-6
    )
    assert fit.standard_errors.alpha / unit == pytest.approx(fitted(kind).standard_errors.alpha, rel=1e-4)


@pytest.mark.parametrize("unit", [0.01, 100, 7.1e6])
def test_the_unit_of_money_changes_v_alone(unit: float) -> None:
    n, mean = spenders()
    fit, known = fit_spend(n, mean * unit), fitted_spend()
    ours = (fit.parameters.p, fit.parameters.q, fit.parameters.v / unit)
    assert ours == pytest.approx((known.parameters.p, known.parameters.q, known.parameters.v), rel=1e-6)
    assert fit.log_likelihood == pytest.approx(known.log_likelihood - n.size * math.log(unit), abs=1e-5)


# ---------------------------------------------------------------- known parameters
def simulated(parameters: Parameters, kind: Kind, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, t_x and age of customers who came within two years, drawn from the model."""
    rng = np.random.default_rng(seed)
    r, alpha, a, b = parameters
    rate, leaves, age = rng.gamma(r, 1 / alpha, count), rng.beta(a, b, count), rng.uniform(1, 104, count)
    most = rng.geometric(np.maximum(leaves, 1e-12)) - (kind == "mbg-nbd")
    in_time = rng.poisson(rate * age)
    x = np.minimum(in_time, most)
    # The x-th smallest of so many times, all equally likely.
    return x, np.where(x > 0, age * rng.beta(np.maximum(x, 1), in_time - x + 1), 0.0), age


def is_within_four_errors(found: tuple[float, ...], errors: tuple[float, ...], true: tuple[float, ...]) -> bool:
    return all(abs(one - known) < 4 * error for one, error, known in zip(found, errors, true, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "true", [Parameters(0.525, 6.183, 0.891, 1.614), Parameters(2.0, 10.0, 1.5, 6.0), Parameters(1.0, 0.05, 0.7, 50.0)]
)
def test_the_parameters_of_simulated_customers_are_found_again(kind: Kind, true: Parameters) -> None:
    fit = fit_purchase_process(*simulated(true, kind, 10_000, seed=7), kind)
    assert is_within_four_errors(fit.parameters, fit.standard_errors, true)
    # Not because the errors are too large to tell.
    assert all(error < 0.2 * value for error, value in zip(fit.standard_errors, true, strict=True))


def test_the_parameters_of_simulated_spend_are_found_again() -> None:
    rng = np.random.default_rng(7)
    n = 1 + rng.geometric(0.3, 20_000)
    mean = rng.gamma(6.25 * n) / (n * rng.gamma(3.74, 1 / 15.44, n.size))
    fit = fit_spend(n, mean)
    found = (fit.parameters.p, fit.parameters.q, fit.parameters.v)
    assert is_within_four_errors(found, fit.standard_errors, (6.25, 3.74, 15.44))
    assert all(error < 0.2 * value for error, value in zip(fit.standard_errors, found, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_to_busy_customers_in_seconds_does_not_stay_where_it_began(kind: Kind) -> None:
    true = Parameters(1.0, 0.05, 1.0, 300.0)
    x, t_x, age = simulated(true, kind, 5_000, seed=7)
    assert x.max() > 1000
    fit = fit_purchase_process(x, t_x * 604_800, age * 604_800, kind)
    assert is_within_four_errors(fit.parameters, fit.standard_errors, true._replace(alpha=true.alpha * 604_800))
    assert not any(value == pytest.approx(TRAP, abs=1e-5) for value in fit.parameters)


# ---------------------------------------------------------------- nothing overflows
sizes = st.floats(math.log(1e-4), math.log(1e4))
histories = st.lists(
    st.tuples(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 10_000), st.floats(0.5, 1000)),
    min_size=1,
    max_size=5,
)


@given(st.tuples(sizes, sizes, sizes, sizes), histories, st.sampled_from(KINDS))
def test_every_history_has_a_likelihood_under_any_parameters(
    logs: tuple[float, ...], rows: list[tuple[int, float, float, float]], kind: Kind
) -> None:
    x, part, age, weights = np.array(rows).T
    t_x = np.where(x > 0, part * age, 0.0)
    value, gradient = Customers(x, t_x, age, kind, weights).mean_log_likelihood(np.array(logs))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    alive = p_alive(Parameters(*np.exp(logs)), x, t_x, age, kind)
    assert ((alive >= 0) & (alive <= 1)).all()


@given(
    st.tuples(sizes, sizes, sizes),
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.01, 1e9)), min_size=1, max_size=5),
)
def test_every_spend_has_a_likelihood_under_any_parameters(
    logs: tuple[float, ...], rows: list[tuple[int, float]]
) -> None:
    value, gradient = Spenders(*np.array(rows).T).mean_log_likelihood(np.array(logs))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@given(st.floats(0.01, 100), st.floats(1.01, 100), st.floats(0.01, 1e6), st.integers(0, 10_000), st.floats(0, 1e9))
def test_expected_spend_lies_between_the_own_mean_and_that_of_all(
    p: float, q: float, v: float, n: int, mean: float
) -> None:
    model = GammaGamma(p, q, v)
    everybodys = model.expected_spend(0, 0.0)
    low, high = sorted((everybodys, mean))
    found = model.expected_spend(n, mean)
    assert low <= found * (1 + 1e-9)
    assert found <= high * (1 + 1e-9)


@pytest.mark.parametrize(("p", "q", "v"), [(1, 1, 1), (0, 2, 1), (1, 2, 0), (math.nan, 2, 1)])
def test_parameters_without_a_mean_spend_are_refused(p: float, q: float, v: float) -> None:
    with pytest.raises(ValueError, match="q above 1"):
        GammaGamma(p, q, v)


# ---------------------------------------------------------------- what can't be fitted
def rhythm(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customers who differ in their rate, and none of whom leaves."""
    rng = np.random.default_rng(3)
    age = rng.uniform(20, 60, count)
    x = rng.poisson(rng.gamma(2, 0.25, count) * age)
    return x, np.where(x > 0, age * rng.beta(np.maximum(x, 1), 1), 0.0), age


@pytest.mark.parametrize("kind", KINDS)
def test_without_repeat_purchases_the_message_asks_for_a_longer_log(kind: Kind) -> None:
    with pytest.raises(FitError, match=r"0 of 500 customers bought again.* fit a longer log"):
        fit_purchase_process(np.zeros(500), np.zeros(500), np.full(500, 30.0), kind)


def test_a_log_in_which_no_time_passes_is_not_fitted() -> None:
    with pytest.raises(FitError, match="fit a longer log"):
        fit_purchase_process(np.ones(500), np.zeros(500), np.zeros(500), "mbg-nbd")


@pytest.mark.parametrize("kind", KINDS)
def test_few_customers_are_too_few(kind: Kind) -> None:
    with pytest.raises(FitError, match=r"99 customers are too few .* at least 100"):
        x, t_x, age = (column[:99] for column in cdnow())
        fit_purchase_process(x, t_x, age, kind)
    with pytest.raises(FitError, match="0 customers are too few"):
        fit_purchase_process([], [], [], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_when_nobody_leaves_the_message_says_so(kind: Kind) -> None:
    with pytest.raises(FitError, match=r"no customer ever seems to leave.* or keep the parameters you have"):
        fit_purchase_process(*rhythm(3000), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_when_all_leave_as_readily_the_message_says_so(kind: Kind) -> None:
    same = Parameters(1.0, 2.0, 300.0, 900.0)
    with pytest.raises(FitError, match="don't differ in how readily they leave"):
        fit_purchase_process(*simulated(same, kind, 3000, seed=4), kind)


def test_when_all_buy_as_often_the_message_says_so() -> None:
    rng = np.random.default_rng(3)
    age = rng.uniform(20, 60, 3000)
    x = np.minimum(rng.geometric(rng.beta(1, 4, 3000)) - 1, age // 4)
    with pytest.raises(FitError, match="don't differ in how often they buy"):
        fit_purchase_process(x, 4 * x, age, "mbg-nbd")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ((1.5, 3, 10), "x is the number of repeat purchases"),
        ((-1, 3, 10), "x is the number of repeat purchases"),
        ((2, 11, 10), "at most the age"),
        ((2, -1, 10), "0 or more"),
        ((0, 3, 10), "without repeat purchases"),
        ((2, math.nan, 10), "finite"),
        ((2, 3, math.inf), "finite"),
    ],
)
def test_a_history_that_cannot_be_is_named_by_its_row(row: tuple[float, float, float], what: str) -> None:
    with pytest.raises(FitError, match=rf"row 1 has .*{what}"):
        x, t_x, age = np.array([(2, 3, 10), row]).T
        Customers(x, t_x, age, "mbg-nbd")


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf])
def test_a_weight_is_positive(weight: float) -> None:
    with pytest.raises(FitError, match=r"row 1 has .*a weight is"):
        Customers([2, 2], [3, 3], [10, 10], "mbg-nbd", [1, weight])


@pytest.mark.parametrize(("n", "mean"), [(0, 5), (1, 0), (1, -3), (math.nan, 5), (1, math.inf)])
def test_a_customer_who_spent_nothing_is_refused(n: float, mean: float) -> None:
    with pytest.raises(FitError, match=r"row 1 has .* leave the others out"):
        fit_spend([1, n], [5, mean])


def test_a_few_spenders_are_too_few() -> None:
    with pytest.raises(FitError, match="99 customers are too few"):
        fit_spend(*(column[:99] for column in spenders()))


def test_spend_without_a_mean_is_not_fitted() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(FitError, match="mean has no end"):
        fit_spend(np.ones(5000), rng.gamma(2, 1, 5000) / rng.gamma(0.5, 1, 5000))


def test_when_amounts_do_not_vary_the_message_says_so() -> None:
    with pytest.raises(FitError, match="don't seem to vary"):
        fit_spend(np.arange(500) % 9 + 1, np.full(500, 9.99))


# ---------------------------------------------------------------- what is a maximum
def two_hills(log_parameters: np.ndarray) -> tuple[float, np.ndarray]:
    """Hills at the logarithms -2 and 2, the right one higher."""
    (u,) = log_parameters
    left, right = math.exp(-((u + 2) ** 2)), 2 * math.exp(-((u - 2) ** 2))
    return left + right, np.array([-2 * (u + 2) * left - 2 * (u - 2) * right])


def test_an_end_that_only_one_start_comes_to_is_not_believed() -> None:
    starts = [math.exp(-2.1), math.exp(-1.9), math.exp(1.9)]
    with pytest.raises(FitError, match="from 3 starts the fit came to different ends"):
        maximise(two_hills, [(start,) for start in starts], 1000, lambda _: "")


def test_the_highest_end_that_two_starts_reach_is_the_maximum() -> None:
    starts = [math.exp(-2.1), math.exp(1.9), math.exp(2.2)]
    found = maximise(two_hills, [(start,) for start in starts], 1000, lambda _: "")
    assert found.starts_agreed == 2
    assert np.log(found.parameters) == pytest.approx(2, abs=1e-4)
    assert found.standard_errors == pytest.approx(math.exp(2) / math.sqrt(4 * 1000), rel=1e-3)


def test_a_likelihood_that_is_flat_has_no_maximum() -> None:
    with pytest.raises(FitError, match="other parameters explain the data as well"):
        maximise(lambda point: (0.0, 0 * point), [(1.0,), (2.0,)], 1000, lambda _: "")
