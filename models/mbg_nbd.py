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
        return 1.0 / (1.0 + math.exp(self._log_odds_left(x, t_x, age)))

    def log_odds_no_purchase(self, x: int, t_x: float, age: float, horizon: float) -> float:
        """Log-odds of no purchase within `horizon`, having left or not. Rises strictly with `age`.

        With D the odds of having left and q = ((alpha + age) / (alpha + age + horizon))^(r + x) the probability
        that a living customer does not buy, the odds are (D + q) / (1 - q).
        """
        log_left = self._log_odds_left(x, t_x, age)
        log_q = (self.r + x) * (math.log(self.alpha + age) - math.log(self.alpha + age + horizon))
        high, low = (log_left, log_q) if log_left > log_q else (log_q, log_left)
        return high + math.log1p(math.exp(low - high)) - math.log(-math.expm1(log_q))

    def slope_no_purchase(self, x: int, t_x: float, age: float, horizon: float) -> float:
        """d log_odds_no_purchase / d log(alpha + age): what Newton's method needs; it varies slowly."""
        n = self.r + x
        log_left = self._log_odds_left(x, t_x, age)
        log_q = n * (math.log(self.alpha + age) - math.log(self.alpha + age + horizon))
        share_left = 1.0 / (1.0 + math.exp(min(log_q - log_left, 700.0)))
        slope_q = n * horizon / (self.alpha + age + horizon)
        return share_left * n + (1.0 - share_left) * slope_q + slope_q / math.expm1(-log_q)

    def expected_purchases(self, x: int, t_x: float, age: float, horizon: float) -> float:
        """Expected purchases within `horizon`, given what was seen (Wagner and Hoppe 2008)."""
        return self.p_alive(x, t_x, age) * self.expected_purchases_if_alive(x, age, horizon)

    def expected_purchases_if_alive(self, x: int, age: float, horizon: float) -> float:
        """Expected purchases within `horizon` of a customer who has not left."""
        n = self.r + x
        hyp = float(hyp2f1(n, self.b + x + 1, self.a + self.b + x, horizon / (self.alpha + age + horizon)))
        still = hyp * ((self.alpha + age) / (self.alpha + age + horizon)) ** n
        return (self.a + self.b + x) / (self.a - 1) * (1.0 - still)

    def _log_odds_left(self, x: int, t_x: float, age: float) -> float:
        n = self.r + x
        return math.log(self.a / (self.b + x)) + n * (math.log(self.alpha + age) - math.log(self.alpha + t_x))
