"""MBG/NBD: when will a customer buy again, given that they may have left unnoticed?

Batislam, Denizel and Filiztekin (2007), "Empirical validation and comparison of models for customer base
analysis". While alive a customer buys at a gamma-distributed rate (r, alpha); after every purchase, the first
included, they leave with a beta-distributed probability (a, b). Time is in weeks. `x` is the number of repeat
purchases, `t_x` the age at the last of them, `age` the time since the first purchase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from mypy_extensions import i64, mypyc_attr

# mypyc calls math.log and math.exp directly, but looks up other functions at every call.
_log1p: Final = math.log1p
_expm1: Final = math.expm1

ONE_SECOND_WEEKS: Final = 1 / (7 * 24 * 3600)
MAX_EXPONENT: Final = 700.0
"""exp of a larger number overflows a double."""
LARGE: Final = 1e100
T_X_BITS: Final = 5
T_X_CELLS: Final = 1 << T_X_BITS
"""Cells of t_x; an octave has half of them."""
THRESHOLD_CELLS: Final = 16
"""Cells of a threshold, per unit of log-odds."""
LARGEST_THRESHOLD: Final = 1000.0
FIRST_SILENCE_WEEKS: Final = 1 / 168
LEAST_PRECISION: Final = 0.01
"""Relative precision of a bound."""
MOST_BOUNDS: Final = 200_000
"""The cache of bounds is emptied when it has so many."""


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
        """Log-odds of no purchase within `horizon`, whether the customer has left or not. Rises strictly with `age`."""
        return Silence(self, x, t_x, horizon).log_odds(age)

    def expected_purchases(self, x: int, t_x: float, age: float, horizon: float) -> float:
        """Expected purchases within `horizon`, given the observed purchases (Wagner and Hoppe 2008)."""
        return self.p_alive(x, t_x, age) * self.expected_purchases_if_alive(x, age, horizon)

    def expected_purchases_if_alive(self, x: int, age: float, horizon: float) -> float:
        """Expected purchases within `horizon` of a customer who has not left.

        They would buy k times within the horizon if they never left, with negative binomial probability

            (r + x)_k / k! z^k (1 - z)^(r + x),  z = horizon / (alpha + age + horizon),

        and do buy once more after j purchases with probability (b + x + 1)_j / (a + b + x + 1)_j, where (y)_j is
        y (y + 1) ... (y + j - 1). So k become the sum of that over j < k, and the sum over k is the closed form of
        Wagner and Hoppe (2008), with Gauss's hypergeometric function. All terms are positive, so nothing cancels: the
        relative error is below 1e-14 for a thousand terms, and below 1e-12 for all that a policy allows. There are
        about 36 (1 + horizon / (alpha + age)) terms, and one for each purchase of a customer who never leaves.
        """
        n, z = self.r + x, horizon / (self.alpha + age + horizon)
        stays = self.b + x + 1.0
        leaves_or_stays = self.a + stays
        negligible = 1e-17 * (1.0 - z)
        k = 0.0
        weight = weights = survival = 1.0  # weights: of k purchases, up to a factor; their sum gives the factor
        purchases = total = 0.0
        while True:
            purchases += survival
            survival *= (stays + k) / (leaves_or_stays + k)
            weight *= z * (n + k) / (k + 1.0)
            k += 1.0
            weights += weight
            term = weight * purchases
            total += term
            if term <= negligible * total:
                return total / weights
            if weights > LARGE:
                weight, weights, total = weight / LARGE, weights / LARGE, total / LARGE

    def _log_odds_left(self, x: int, t_x: float, age: float) -> float:
        n = self.r + x
        return math.log(self.a / (self.b + x)) + n * (math.log(self.alpha + age) - math.log(self.alpha + t_x))


def _log_odds(log_left: float, log_q: float) -> float:
    """ln((D + q) / (1 - q)) of ln D and ln q."""
    more, less = (log_left, log_q) if log_left > log_q else (log_q, log_left)
    return more + _log1p(math.exp(less - more)) - math.log(-_expm1(log_q))


@mypyc_attr(acyclic=True, free_list_len=1)
class Silence:
    """How a customer's score grows with their age until they buy again: a weight times the log-odds of no purchase
    within a horizon, and another times ln(1 + silence / horizon).

    With D the odds of having left and q = ((alpha + age) / (alpha + age + horizon))^(r + x) the probability that a
    living customer does not buy, the odds are (D + q) / (1 - q).
    """

    __slots__ = ("_alpha", "_alpha_horizon", "_horizon", "_log_left", "_n", "_of_model", "_of_silence", "_t_x")

    def __init__(
        self, mbg: MbgNbd, x: int, t_x: float, horizon: float, of_model: float = 1.0, of_silence: float = 0.0
    ) -> None:
        self._n = n = mbg.r + x
        self._alpha = mbg.alpha
        self._alpha_horizon = mbg.alpha + horizon
        self._horizon = horizon
        self._t_x = t_x
        self._of_model = of_model
        self._of_silence = of_silence
        # log D = this + n * log(alpha + age)
        self._log_left = math.log(mbg.a / (mbg.b + x)) - n * math.log(mbg.alpha + t_x)

    def log_odds(self, age: float) -> float:
        """The growing part of the score, at an age in weeks."""
        log_age = math.log(self._alpha + age)
        log_odds = self._of_model * _log_odds(
            self._log_left + self._n * log_age, self._n * (log_age - math.log(self._alpha_horizon + age))
        )
        if self._of_silence:
            log_odds += self._of_silence * math.log(1.0 + (age - self._t_x) / self._horizon)
        return log_odds

    def reaches(self, threshold: float, from_age: float, to_age: float) -> float:
        """The approximate age in weeks at which the log-odds reach `threshold`, searched from `from_age` on, at most
        `to_age`.

        Newton's method in u = log(alpha + age), in which the log-odds are almost linear. It stops when a step is
        shorter than a second: the next would be far shorter than a millisecond. With D/q and 1/q - 1, the model's
        log-odds are log(1 + D/q) - log(1/q - 1).
        """
        n, horizon, of_model, of_silence = self._n, self._horizon, self._of_model, self._of_silence
        u, last = math.log(self._alpha + from_age), math.log(self._alpha + to_age)
        for _ in range(20):
            known = math.exp(u)
            log_q = n * (u - math.log(known + horizon))
            left_to_q = math.exp(min(self._log_left + n * u - log_q, MAX_EXPONENT))
            buys_to_q = _expm1(min(-log_q, MAX_EXPONENT))
            slope_q = n * horizon / (known + horizon)
            slope = of_model * ((left_to_q * n + slope_q) / (1.0 + left_to_q) + slope_q / buys_to_q)
            missing = threshold - of_model * (_log1p(left_to_q) - math.log(buys_to_q))
            if of_silence:
                stretched = horizon + known - self._alpha - self._t_x
                slope += of_silence * known / stretched
                missing -= of_silence * math.log(stretched / horizon)
            step = missing / slope
            u = min(u + step, last)
            if abs(step) * known < ONE_SECOND_WEEKS or u == last:
                break
        return min(math.exp(u) - self._alpha, to_age)


class LeastSilence:
    """A lower bound of the silence after which a customer's log-odds reach a threshold, from a cache.

    The exact silence depends on x, t_x and the threshold, and on the weights of `Silence`. The bound is computed once
    for each combination of x, a cell of t_x (a sixteenth wide) and a cell of the threshold, with the D of the cell's
    beginning and the q of its end. No customer in the cell has a larger D or q: D falls with t_x at equal silence, q
    rises; both raise the log-odds, and both grow with silence.
    """

    def __init__(
        self, mbg: MbgNbd, horizon: float, longest: float, of_model: float = 1.0, of_silence: float = 0.0
    ) -> None:
        self._mbg = mbg
        self._of_model = of_model
        self._of_silence = of_silence
        self._horizon = horizon
        self._longest = longest
        self._found: dict[int, float] = {}

    def weeks(self, x: i64, t_x_ms: i64, ms_per_week: int, threshold: float) -> float:
        """A silence in weeks such that the log-odds are below `threshold` at it and at any shorter one; infinite if
        that holds up to the longest silence.
        """
        if threshold < -LARGEST_THRESHOLD:
            return 0.0
        # After the shift, t_x is less than T_X_CELLS.
        shift: i64 = 0
        while t_x_ms >> shift + 8 >= T_X_CELLS:
            shift += 8
        while t_x_ms >> shift >= T_X_CELLS:
            shift += 1
        width = t_x_ms >> shift
        cells = min(threshold, LARGEST_THRESHOLD) * THRESHOLD_CELLS
        threshold_cell = i64(cells)
        if float(threshold_cell) > cells:
            threshold_cell -= 1  # down, not towards zero
        key = ((x * 64 + shift) * T_X_CELLS + width) * 65536 + (threshold_cell & 65535)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= MOST_BOUNDS:
                self._found.clear()
            begin, end = int(width << shift) / ms_per_week, int((width + 1 << shift) - 1) / ms_per_week
            found = self._found[key] = self._least(int(x), begin, end, int(threshold_cell) / THRESHOLD_CELLS)
        return found

    def _least(self, x: int, begin: float, end: float, threshold: float) -> float:
        mbg, n = self._mbg, self._mbg.r + x
        log_left = math.log(mbg.a / (mbg.b + x)) - n * math.log(mbg.alpha + begin)

        def is_below(silence: float) -> bool:
            log_q = n * (math.log(mbg.alpha + end + silence) - math.log(mbg.alpha + end + silence + self._horizon))
            log_odds = _log_odds(log_left + n * math.log(mbg.alpha + begin + silence), log_q)
            return self._of_model * log_odds + self._of_silence * _log1p(silence / self._horizon) < threshold

        if not is_below(0.0):
            return 0.0
        low, high = 0.0, FIRST_SILENCE_WEEKS
        while is_below(high):
            if high > self._longest:
                return math.inf
            low, high = high, 2 * high
        while high - low > LEAST_PRECISION * high:
            middle = (low + high) / 2
            low, high = (middle, high) if is_below(middle) else (low, middle)
        # A little less, since the exact function rounds differently.
        return low * (1 - 1e-9)
