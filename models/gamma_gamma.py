"""Gamma-Gamma: how much does a customer spend per purchase, when only few of their purchases were observed?

Colombo and Jiang (1999), "A stochastic RFM model"; Fader and Hardie (2013), "The Gamma-Gamma model of monetary value",
brucehardie.com/notes/025. A customer's amounts are gamma-distributed with shape p and a scale of their own, whose
inverse is gamma-distributed with shape q and rate v: the mean of few purchases is shrunk towards the mean of all
customers. Amounts are independent of how often somebody buys. `n` is the number of purchases, `mean` their mean amount,
in the unit of v.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GammaGamma:
    """The three parameters, all positive, q above 1: else the population has no finite mean. v is an amount of money."""

    p: float
    q: float
    v: float

    def __post_init__(self) -> None:
        if not (self.p > 0 and self.q > 1 and self.v > 0):
            raise ValueError(f"p and v must be positive and q above 1, not {self.p}, {self.v} and {self.q}")

    def expected_spend(self, n: int, mean: float) -> float:
        """Expected amount of one of the customer's purchases (equation 5 of the note); with n = 0, of a new customer's.

        >>> round(GammaGamma(6.25, 3.74, 15.44).expected_spend(2, 22.35), 2)
        24.66
        """
        return self.p * (self.v + n * mean) / (self.p * n + self.q - 1.0)
