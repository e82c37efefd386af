"""MBG/NBD: when does a customer who may silently have left buy again?

Batislam, Denizel and Filiztekin (2007), "Empirical validation and comparison of models for customer base
analysis". While alive a customer buys at a gamma-distributed rate (r, alpha); after every purchase, the first
included, they leave with a beta-distributed probability (a, b). Time is in weeks. `x` is the number of repeat
purchases, `t_x` the age at the last of them, `age` the time since the first purchase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import hyp2f1

ONE_SECOND_WEEKS = 1 / (7 * 24 * 3600)
MAX_EXPONENT = 700.0
"""exp of more overflows a double."""


@dataclass(frozen=True, slots=True)
class MbgNbd:
    """The four parameters, all positive, a other than 1; time in weeks."""

    r: float
    alpha: float
    a: float
    b: float

    def p_alive(self, x: int, t_x: float, age: float) -> float:
        """The probability that the customer has not left.

        >>> round(MbgNbd(0.525, 6.183, 0.891, 1.614).p_alive(0, 0.0, 0.0), 4)
        0.6443
        """
        return 1.0 / (1.0 + math.exp(min(self._log_odds_left(x, t_x, age), MAX_EXPONENT)))

    def log_odds_no_purchase(self, x: int, t_x: float, age: float, horizon: float) -> float:
        """Log-odds of no purchase within `horizon`, having left or not. Rises strictly with `age`."""
        return Silence(self, x, t_x, horizon).log_odds(age)

    def expected_purchases(self, x: int, t_x: float, age: float, horizon: float) -> float:
        """Expected purchases within `horizon`, given what was seen (Wagner and Hoppe 2008)."""
        return self.p_alive(x, t_x, age) * self.expected_purchases_if_alive(x, age, horizon)

    def expected_purchases_if_alive(self, x: int, age: float, horizon: float) -> float:
        """Expected purchases within `horizon` of a customer who has not left."""
        # The paper's 2F1(r+x, b+x+1; a+b+x; z) (1-z)^(r+x) by Euler's transformation: the same, and nothing overflows.
        rest = (self.alpha + age) / (self.alpha + age + horizon)
        hyp = float(hyp2f1(self.a + self.b - self.r, self.a - 1, self.a + self.b + x, 1 - rest))
        still: float = hyp * rest ** (self.a - 1)
        return (self.a + self.b + x) / (self.a - 1) * (1.0 - still)

    def _log_odds_left(self, x: int, t_x: float, age: float) -> float:
        n = self.r + x
        return math.log(self.a / (self.b + x)) + n * (math.log(self.alpha + age) - math.log(self.alpha + t_x))


class Silence:
    """How the log-odds of no purchase within a horizon grow with a customer's age until they buy again.

    With D the odds of having left and q = ((alpha + age) / (alpha + age + horizon))^(r + x) the probability that a
    living customer does not buy, the odds are (D + q) / (1 - q).
    """

    __slots__ = ("_alpha", "_alpha_horizon", "_horizon", "_log_left", "_n")

    def __init__(self, mbg: MbgNbd, x: int, t_x: float, horizon: float) -> None:
        self._n = n = mbg.r + x
        self._alpha = mbg.alpha
        self._alpha_horizon = mbg.alpha + horizon
        self._horizon = horizon
        # log D = this + n * log(alpha + age)
        self._log_left = math.log(mbg.a / (mbg.b + x)) - n * math.log(mbg.alpha + t_x)

    def log_odds(self, age: float) -> float:
        """ln((D + q) / (1 - q)) at an age in weeks."""
        log_age = math.log(self._alpha + age)
        log_left = self._log_left + self._n * log_age
        log_q = self._n * (log_age - math.log(self._alpha_horizon + age))
        if log_left > log_q:
            return log_left + math.log1p(math.exp(log_q - log_left)) - math.log(-math.expm1(log_q))
        return log_q + math.log1p(math.exp(log_left - log_q)) - math.log(-math.expm1(log_q))

    def reaches(self, line: float, from_age: float, to_age: float) -> float:
        """The age in weeks, about, at which the log-odds reach `line`, sought from `from_age` on, at most `to_age`.

        Newton's method over u = log(alpha + age), in which the log-odds are almost straight. It stops when a step is
        under a second: the next would be far under a millisecond. With D/q and 1/q - 1, the log-odds are
        log(1 + D/q) - log(1/q - 1).
        """
        n, horizon = self._n, self._horizon
        u, last = math.log(self._alpha + from_age), math.log(self._alpha + to_age)
        for _ in range(20):
            known = math.exp(u)
            log_q = n * (u - math.log(known + horizon))
            left_to_q = math.exp(min(self._log_left + n * u - log_q, MAX_EXPONENT))
            buys_to_q = math.expm1(min(-log_q, MAX_EXPONENT))
            slope_q = n * horizon / (known + horizon)
            slope = (left_to_q * n + slope_q) / (1.0 + left_to_q) + slope_q / buys_to_q
            step = (line - math.log1p(left_to_q) + math.log(buys_to_q)) / slope
            u = min(u + step, last)
            if abs(step) * known < ONE_SECOND_WEEKS or u == last:
                break
        return min(math.exp(u) - self._alpha, to_age)
