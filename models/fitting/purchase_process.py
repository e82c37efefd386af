"""BG/NBD and MBG/NBD over many customers: their likelihood, fit and expectations.

BG/NBD: Fader, Hardie and Lee (2005), "Counting your customers the easy way", Marketing Science 24(2). MBG/NBD:
Batislam, Denizel and Filiztekin (2007); its expectations: Wagner and Hoppe (2008). Both say that a customer buys at a
gamma-distributed rate (r, alpha) and leaves after a purchase with a beta-distributed probability (a, b). In MBG/NBD the
first purchase counts too: with `j` the number of purchases after which a customer could have left, x in BG/NBD and x +
1 in MBG/NBD, the formulas are the same.

`x` is the number of repeat purchases, `t_x` the age at the last of them, `age` the time since the first purchase; time
is in weeks, or in any unit, then that of alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, expit, gammaln, hyp2f1, psi

from models.fitting.maximum_likelihood import LEAST_CUSTOMERS, Array, FitError, is_high, is_low, maximise

Kind = Literal["bg-nbd", "mbg-nbd"]

LEAST_REPEATERS: Final = 30
MEAN_AGE: Final = 10.0
"""The mean age to which times are scaled for the fit."""
STARTS: Final = ((0.3, 0.3, 1.0, 3.0), (1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 0.5, 10.0), (3.0, 1.0, 2.0, 5.0))
"""r, alpha relative to r and to the mean time between purchases, a, b."""
LEAST_MEAN_AGE: Final = 1e-9
"""A smaller mean age counts as 0, in any unit."""
LITTLE_VARIETY: Final = 1000.0
"""An r with which the rates of customers differ by 3 in 100."""
KEEP: Final = "or keep the parameters you have"


class Parameters(NamedTuple):
    """The four parameters, all positive, a other than 1; alpha is a time."""

    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The likeliest parameters, their standard errors, and how many of the starts led to them."""

    kind: Kind
    parameters: Parameters
    standard_errors: Parameters
    log_likelihood: float
    customers: int
    starts_agreed: int


def fit_purchase_process(
    x: npt.ArrayLike, t_x: npt.ArrayLike, age: npt.ArrayLike, kind: Kind, weights: npt.ArrayLike | None = None
) -> Fit:
    """Fits by maximum likelihood; a weight is a number of equal customers. A FitError says what the data lack."""
    customers = Customers(x, t_x, age, kind, weights)
    customers.check_enough()
    starts = [(r, relative * r * customers.time_per_purchase, a, b) for r, relative, a, b in STARTS]
    top = maximise(customers.mean_log_likelihood, starts, customers.count, _why_at_bound)
    unit = np.array([1.0, customers.scale, 1.0, 1.0])
    return Fit(
        kind,
        Parameters(*(top.parameters / unit).tolist()),
        Parameters(*(top.standard_errors / unit).tolist()),
        customers.count * top.mean_log_likelihood + customers.log_unit,
        round(customers.count),
        top.starts_agreed,
    )


def log_likelihood(
    parameters: Parameters,
    x: npt.ArrayLike,
    t_x: npt.ArrayLike,
    age: npt.ArrayLike,
    kind: Kind,
    weights: npt.ArrayLike | None = None,
) -> float:
    """The log-likelihood of the data under given parameters: for one customer, the logarithm of the BG/NBD paper's
    equation 6.
    """
    customers = Customers(x, t_x, age, kind, weights)
    r, alpha, a, b = parameters
    mean, _ = customers.mean_log_likelihood(np.log([r, alpha * customers.scale, a, b]))
    return customers.count * mean + customers.log_unit


class Customers:
    """The data that the likelihood needs: equal customers grouped, times scaled.

    The log-likelihood of one customer is, with n = r + x and D the odds of having left,

        lnΓ(n) - lnΓ(r) + r ln(alpha) - n ln(alpha + age) + lnB(a, b + j) - lnB(a, b) + ln(1 + D)
        D = a / (b + j - 1) ((alpha + age) / (alpha + t_x))^n, or 0 when j = 0.
    """

    def __init__(
        self, x: npt.ArrayLike, t_x: npt.ArrayLike, age: npt.ArrayLike, kind: Kind, weights: npt.ArrayLike | None = None
    ) -> None:
        rows = np.array(np.broadcast_arrays(x, t_x, age), float).reshape(3, -1)
        counts = np.array(np.broadcast_to(1.0 if weights is None else weights, rows.shape[1:]), float)
        _check(rows, counts)
        (self._x, self._t_x, self._age), counts = _grouped(rows, counts)
        self.count = float(counts.sum())
        self._share = counts / self.count
        mean_age = self._age @ self._share
        self.scale = MEAN_AGE / mean_age if mean_age > LEAST_MEAN_AGE else 1.0
        self._t_x *= self.scale
        self._age *= self.scale
        self._repeaters = float(counts[self._x > 0].sum())
        self.log_unit = float(counts @ self._x) * float(np.log(self.scale))
        """What to add to the log-likelihood to get that in the data's own unit of time."""
        # Terms that depend on x alone are computed once per x.
        self._each_x, self._which = np.unique(self._x, return_inverse=True)
        self._share_of_x = np.bincount(self._which, self._share)
        self._each_j = self._each_x + (kind == "mbg-nbd")

    @property
    def time_per_purchase(self) -> float:
        """The mean, if nobody left, in scaled time; there must be repeat purchases."""
        return float(self._age @ self._share / (self._x @ self._share))

    def check_enough(self) -> None:
        """Raises FitError if there are too few data to fit four parameters."""
        if self.count < LEAST_CUSTOMERS:
            raise FitError(
                f"{self.count:.0f} customers are too few to tell four parameters; "
                f"fit a log of at least {LEAST_CUSTOMERS}, {KEEP}"
            )
        if self._repeaters < LEAST_REPEATERS:
            raise FitError(
                f"{self._repeaters:.0f} of {self.count:.0f} customers bought again, too few to tell a rhythm; "
                f"fit a longer log, in which at least {LEAST_REPEATERS} did, {KEEP}"
            )
        if not self._age.any():
            raise FitError(f"the log ends at the first purchase of all its customers; fit a longer log, {KEEP}")

    def mean_log_likelihood(self, log_parameters: Array) -> tuple[float, Array]:
        """The mean log-likelihood per customer, and its gradient; alpha is in scaled time."""
        r, alpha, a, b = np.exp(log_parameters)
        each_x, each_j, share = self._each_x, self._each_j, self._share
        n = r + self._x
        known, until_last = alpha + self._age, alpha + self._t_x
        log_known = np.log(known)
        log_ratio = log_known - np.log(until_last)
        log_odds_left = _log_a_to_b(a, b, each_j)[self._which] + n * log_ratio
        left = expit(log_odds_left) * share
        of_x = gammaln(r + each_x) - gammaln(r) + betaln(a, b + each_j) - betaln(a, b)
        value = of_x @ self._share_of_x + r * np.log(alpha) + (np.logaddexp(0.0, log_odds_left) - n * log_known) @ share
        left_of_x = np.bincount(self._which, left)
        together = psi(a + b + each_j) - psi(a + b)
        by_r = (psi(r + each_x) - psi(r)) @ self._share_of_x + np.log(alpha) - log_known @ share + log_ratio @ left
        by_alpha = r / alpha - (n / known) @ share + (n / known - n / until_last) @ left
        by_a = left_of_x.sum() / a - together @ self._share_of_x
        by_b = (psi(b + each_j) - psi(b) - together) @ self._share_of_x - (left_of_x / _last(b, each_j)).sum()
        return float(value), np.array([r * by_r, alpha * by_alpha, a * by_a, b * by_b])


def p_alive(parameters: Parameters, x: npt.ArrayLike, t_x: npt.ArrayLike, age: npt.ArrayLike, kind: Kind) -> Array:
    """The probability of not having left: Fader and Hardie (2008), brucehardie.com/notes/021; Batislam et al. (2007)."""
    r, alpha, a, b = parameters
    x, t_x, age = (np.asarray(each, float) for each in (x, t_x, age))
    log_ratio = np.log(alpha + age) - np.log(alpha + t_x)
    alive: Array = expit(-(_log_a_to_b(a, b, x + (kind == "mbg-nbd")) + (r + x) * log_ratio))
    return alive


def expected_purchases(
    parameters: Parameters, x: npt.ArrayLike, t_x: npt.ArrayLike, age: npt.ArrayLike, horizon: npt.ArrayLike, kind: Kind
) -> Array:
    """Expected purchases within `horizon`, given the observed purchases: equation 10 of the BG/NBD paper; Wagner and
    Hoppe (2008).

    Their 2F1 after Euler's transformation, as in models/mbg_nbd.py: the same value, without overflow.
    """
    r, alpha, a, b = parameters
    x, age, horizon = (np.asarray(each, float) for each in (x, age, horizon))
    c = a + b + x + (kind == "mbg-nbd") - 1.0
    rest = (alpha + age) / (alpha + age + horizon)
    still = hyp2f1(c - r - x, a - 1.0, c, 1.0 - rest) * rest ** (a - 1.0)
    if_alive: Array = c / (a - 1.0) * (1.0 - still)
    return p_alive(parameters, x, t_x, age, kind) * if_alive


def expected_purchases_of_new(parameters: Parameters, horizon: npt.ArrayLike, kind: Kind) -> Array:
    """Expected repeat purchases of a new customer within `horizon`: equation 9 of the BG/NBD paper."""
    return expected_purchases(parameters, 0, 0.0, 0.0, horizon, kind)


def _last(b: float, j: Array) -> Array:
    """B + j - 1 of the formulas; any positive number where j is 0, since it is not used there."""
    last: Array = b + np.maximum(j, 1.0) - 1.0
    return last


def _log_a_to_b(a: float, b: float, j: Array) -> Array:
    """ln(a / (b + j - 1)), the log-odds of having left after the last purchase; minus infinity where j is 0."""
    return np.where(j > 0, np.log(a) - np.log(_last(b, j)), -np.inf)


def _check(rows: Array, counts: Array) -> None:
    x, t_x, age = rows
    for wrong, what in (
        ((x < 0) | (x != np.floor(x)), "x is the number of repeat purchases: a whole number, 0 or more"),
        (~np.isfinite(rows).all(axis=0), "x, t_x and age are finite numbers"),
        (~((t_x >= 0) & (t_x <= age)), "t_x, the age at the last purchase, is 0 or more and at most the age"),
        ((x == 0) & (t_x != 0), "without repeat purchases the last purchase is the first, and t_x is 0"),
        (~((counts > 0) & np.isfinite(counts)), "a weight is a number of customers, positive"),
    ):
        if wrong.any():
            (first, *_) = np.flatnonzero(wrong)
            given = ", ".join(
                f"{name} {value:g}" for name, value in zip(("x", "t_x", "age"), rows[:, first], strict=True)
            )
            raise FitError(f"row {first} has {given}, weight {counts[first]:g}, but {what}")


def _grouped(rows: Array, counts: Array) -> tuple[Array, Array]:
    """Each distinct row once, with its total count."""
    if not counts.size:
        return rows, counts
    order = np.lexsort(rows)
    rows = rows[:, order]
    starts = np.flatnonzero(np.append(True, (rows[:, 1:] != rows[:, :-1]).any(axis=0)))
    return rows[:, starts], np.add.reduceat(counts[order], starts)


def _why_at_bound(parameters: Array) -> str:
    r, alpha, a, b = parameters
    if a < 0.001 * b and (is_low(a) or is_high(b)):
        return (
            "no customer ever seems to leave: all still bought lately, by their own rhythm; "
            f"fit a log that goes on for longer after the purchases, {KEEP}"
        )
    if is_high(a) or is_high(b):
        return f"customers don't differ in how readily they leave, which the model supposes; fit more of them, {KEEP}"
    if r > LITTLE_VARIETY and (is_high(r) or is_high(alpha)):
        return f"customers don't differ in how often they buy, which the model supposes; fit more of them, {KEEP}"
    found = ", ".join(f"{name} {value:.3g}" for name, value in zip(Parameters._fields, parameters, strict=True))
    return f"the likeliest parameters lie at a bound ({found}): the data don't tell them; fit more customers, {KEEP}"
