"""Maximises a likelihood over positive parameters from several starts, and checks that the result is a maximum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]
LogLikelihood = Callable[[Array], tuple[float, Array]]
"""From the logarithms of the parameters to the mean log-likelihood per customer, and its gradient."""

SMALLEST: Final = 1e-4
LARGEST: Final = 1e4
"""The bounds of a parameter: with well-scaled data, one that reaches them has no finite optimum."""
LARGEST_GRADIENT: Final = 1e-7
"""The largest gradient at a maximum: of the log-likelihood per customer, by the logarithm of a parameter."""
AGREEMENT: Final = 0.01
"""By how much the log-likelihoods of two starts may differ that found the same maximum: far too little to matter in any
test.
"""
DIFFERENCE: Final = 1e-4
"""The step in the logarithm of a parameter for second derivatives."""
LEAST_CUSTOMERS: Final = 100


class FitError(ValueError):
    """The data don't determine the parameters; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Maximum:
    """The maximum of the likelihood, and how many starts led there."""

    parameters: Array
    standard_errors: Array
    mean_log_likelihood: float
    starts_agreed: int


def maximise(
    log_likelihood: LogLikelihood,
    starts: Iterable[tuple[float, ...]],
    customers: float,
    why_at_bound: Callable[[Array], str],
) -> Maximum:
    """The maximum. Raises FitError if it lies at a bound (`why_at_bound` explains that), if the gradient is not zero
    there, or if no two starts lead to it.
    """
    found = [_climb(log_likelihood, np.log(start)) for start in starts]
    best, highest = max(found, key=lambda pair: pair[1])
    if any(is_low(value) or is_high(value) for value in np.exp(best)):
        raise FitError(why_at_bound(np.exp(best)))
    agreed = sum((highest - value) * customers < AGREEMENT for _, value in found)
    if agreed < 2:
        raise FitError(
            f"from {len(found)} starts the fit came to different ends: the data don't tell the parameters; "
            "fit more customers or a longer time, or keep the parameters you have"
        )
    information = _information(log_likelihood, best)
    if np.linalg.eigvalsh(information)[0] > 0:
        # One step of Newton's method gives the last digits.
        best = best + np.linalg.solve(information, log_likelihood(best)[1])
        highest, gradient = log_likelihood(best)
        if np.abs(gradient).max() < LARGEST_GRADIENT:
            # The delta method: the error of a parameter is the parameter times that of its logarithm.
            errors = np.exp(best) * np.sqrt(np.diag(np.linalg.inv(information)) / customers)
            return Maximum(np.exp(best), errors, highest, agreed)
    raise FitError(
        "the fit did not converge: other parameters explain the data as well; "
        "fit more customers or a longer time, or keep the parameters you have"
    )


def is_low(parameter: float) -> bool:
    """Whether a parameter is at its lower bound."""
    return parameter < 1.01 * SMALLEST


def is_high(parameter: float) -> bool:
    """Whether a parameter is at its upper bound."""
    return parameter > 0.99 * LARGEST


def _climb(log_likelihood: LogLikelihood, start: Array) -> tuple[Array, float]:
    def negative(log_parameters: Array) -> tuple[float, Array]:
        value, gradient = log_likelihood(log_parameters)
        return -value, -gradient

    end = minimize(
        negative,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(np.log(SMALLEST), np.log(LARGEST))] * len(start),
        options={"maxiter": 500, "ftol": 1e-14, "gtol": LARGEST_GRADIENT / 10},
    )
    return end.x, -float(end.fun)


def _information(log_likelihood: LogLikelihood, log_parameters: Array) -> Array:
    """Minus the second derivatives, per customer: central differences of the gradient."""
    rows = [
        (log_likelihood(log_parameters - step)[1] - log_likelihood(log_parameters + step)[1]) / (2 * DIFFERENCE)
        for step in DIFFERENCE * np.eye(len(log_parameters))
    ]
    return (np.array(rows) + np.array(rows).T) / 2
