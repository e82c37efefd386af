"""Fits Gamma-Gamma to what customers spend per purchase; for the model and its sources see models/gamma_gamma.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, psi

from models.fitting.maximum_likelihood import LEAST_CUSTOMERS, Array, FitError, is_high, maximise
from models.gamma_gamma import GammaGamma

MEDIAN_MEAN: Final = 10.0
"""The median amount to which amounts are scaled for the fit."""
STARTS: Final = ((1.0, 2.0, 10.0), (5.0, 4.0, 10.0), (2.0, 10.0, 50.0), (20.0, 2.0, 1.0))
KEEP: Final = "or keep the parameters you have"


class StandardErrors(NamedTuple):
    """The standard errors of p, q and v."""

    p: float
    q: float
    v: float


@dataclass(frozen=True, slots=True)
class SpendFit:
    """The likeliest parameters, their standard errors, and how many of the starts led to them."""

    parameters: GammaGamma
    standard_errors: StandardErrors
    log_likelihood: float
    customers: int
    starts_agreed: int


def fit_spend(n: npt.ArrayLike, mean: npt.ArrayLike) -> SpendFit:
    """Fits by maximum likelihood to customers with n purchases of this mean amount. A FitError says what the data lack."""
    spenders = Spenders(n, mean)
    if spenders.count < LEAST_CUSTOMERS:
        raise FitError(
            f"{spenders.count} customers are too few to tell three parameters; "
            f"fit a log with at least {LEAST_CUSTOMERS} that spent something, {KEEP}"
        )
    top = maximise(spenders.mean_log_likelihood, STARTS, spenders.count, _why_at_bound)
    unit = np.array([1.0, 1.0, spenders.scale])
    p, q, v = (top.parameters / unit).tolist()
    if q <= 1.0:
        raise FitError(
            f"a few customers spend so much more than the others that the mean has no end (q is {q:.2f}, at most 1); "
            f"leave out purchases that are not a customer's own, such as a reseller's, {KEEP}"
        )
    return SpendFit(
        GammaGamma(p, q, v),
        StandardErrors(*(top.standard_errors / unit).tolist()),
        spenders.count * top.mean_log_likelihood + spenders.log_unit,
        spenders.count,
        top.starts_agreed,
    )


class Spenders:
    """The data that the likelihood needs, amounts scaled.

    The log-likelihood of one customer is, with z the mean amount (equation 1a of the note),

        lnΓ(pn + q) - lnΓ(pn) - lnΓ(q) + q ln(v) + (pn - 1) ln(z) + pn ln(n) - (pn + q) ln(v + nz).
    """

    def __init__(self, n: npt.ArrayLike, mean: npt.ArrayLike) -> None:
        rows = np.array(np.broadcast_arrays(n, mean), float).reshape(2, -1)
        wrong = np.flatnonzero(~(np.isfinite(rows).all(axis=0) & (rows[0] >= 1) & (rows[1] > 0)))
        if wrong.size:
            first = wrong[0]
            raise FitError(
                f"row {first} has n {rows[0, first]:g}, mean {rows[1, first]:g}, but the model is of customers who "
                "bought at least once and spent something; leave the others out"
            )
        self.count = rows.shape[1]
        self.scale = MEDIAN_MEAN / float(np.median(rows[1])) if self.count else 1.0
        self.log_unit = self.count * float(np.log(self.scale))
        """What to add to the log-likelihood to get that in the data's own unit of money."""
        self._n, self._mean = rows[0], rows[1] * self.scale
        self._log_mean, self._log_total = np.log(self._mean), np.log(self._n * self._mean)

    def mean_log_likelihood(self, log_parameters: Array) -> tuple[float, Array]:
        """The mean log-likelihood per customer, and its gradient; v is in scaled money."""
        p, q, v = np.exp(log_parameters)
        shape = p * self._n
        both = shape + q
        log_all = np.log(v + self._n * self._mean)
        value = gammaln(both) - gammaln(shape) + shape * self._log_total - self._log_mean - both * log_all
        psi_both = psi(both)
        by_p = self._n * (psi_both - psi(shape) + self._log_total - log_all)
        by_q = psi_both - log_all
        by_v = q / v - both / (v + self._n * self._mean)
        gradient = np.array([p * by_p.mean(), q * (by_q.mean() - psi(q) + np.log(v)), v * by_v.mean()])
        return float(value.mean() - gammaln(q) + q * np.log(v)), gradient


def _why_at_bound(parameters: Array) -> str:
    p, q, v = parameters
    if is_high(p):
        return f"one customer's amounts don't seem to vary, which the model supposes; fit more customers, {KEEP}"
    if is_high(q) or is_high(v):
        return f"customers don't differ in what they spend, which the model supposes; fit more of them, {KEEP}"
    return (
        f"the likeliest parameters lie at a bound (p {p:.3g}, q {q:.3g}, v {v:.3g}): the data don't tell them; "
        f"fit more customers, {KEEP}"
    )
