"""The maximum of a likelihood over positive parameters: sought from several starts, and not believed unless it is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]
LogLikelihood = Callable[[Array], tuple[float, Array]]
"""Of the logarithms of the parameters: the mean per customer, and its gradient."""

SMALLEST: Final = 1e-4
LARGEST: Final = 1e4
"""A parameter beyond, its data well scaled, grows or shrinks for ever."""
LARGEST_GRADIENT: Final = 1e-7
"""At a maximum: of the log-likelihood per customer, by the logarithm of a parameter."""
AGREEMENT: Final = 0.01
"""By which the log-likelihoods of starts that found the same maximum may differ: far too little for any test to tell."""
DIFFERENCE: Final = 1e-4
"""Of the logarithm of a parameter, for second derivatives."""
LEAST_CUSTOMERS: Final = 100


class FitError(ValueError):
    """The data don't tell the parameters: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Maximum:
    """Where the likelihood is greatest, and how many starts led there."""

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
    """The maximum, or a FitError: when it lies at a bound (`why_at_bound` says what that means), when it isn't flat
    there, and when no two starts lead to it.
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
        # One step of Newton's method: from almost there to the last digits.
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
    """Whether it is as small as it was let be."""
    return parameter < 1.01 * SMALLEST


def is_high(parameter: float) -> bool:
    """Whether it is as large as it was let be."""
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
