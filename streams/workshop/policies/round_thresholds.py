"""Proposes round thresholds between tiers, near given shares of the customers or of their spend."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, Literal

Sharing = Literal["customers", "spend"]

ROUND: Final = (100, 150, 200, 250, 300, 400, 500, 600, 750, 800)
"""The leading digits of round amounts, times 100."""
WITHIN: Final = 3.0
"""A round threshold is sought between a third and three times the exact one."""


class TooFew(ValueError):
    """There are not enough customers, or these are too much alike, for so many tiers."""


class SpendDistribution:
    """What customers spent in a window, in minor units, and what is at or above a threshold."""

    def __init__(self, spend_minor: Sequence[int]) -> None:
        self.spend_minor = sorted(spend_minor)
        self._below = [0, *accumulate(self.spend_minor)]

    def __len__(self) -> int:
        return len(self.spend_minor)

    def customers_from(self, threshold_minor: int) -> int:
        """The number of customers who spent so much or more."""
        return len(self) - bisect_left(self.spend_minor, threshold_minor)

    def spend_from(self, threshold_minor: int) -> int:
        """The spend of these customers."""
        return self._below[-1] - self._below[bisect_left(self.spend_minor, threshold_minor)]

    def share_from(self, threshold_minor: int, sharing: Sharing) -> float:
        """The share of customers, or of spend, at the threshold or above."""
        if sharing == "customers":
            return self.customers_from(threshold_minor) / len(self)
        return self.spend_from(threshold_minor) / self._below[-1]

    def exact_threshold(self, share: float, sharing: Sharing) -> int:
        """The threshold at which the share is reached: as `top_share` (models.policy.census) has it, or the highest at or
        above which so much is spent.
        """
        if sharing == "customers":
            return self.spend_minor[len(self) - max(round(share * len(self)), 1)]
        wanted = share * self._below[-1]
        first = next(at for at in reversed(range(len(self))) if self._below[-1] - self._below[at] >= wanted)
        return self.spend_minor[first]


def propose_thresholds(
    spread: SpendDistribution, shares: Sequence[float], sharing: Sharing, decimals: int
) -> list[int]:
    """A round threshold for each share (of its tier and all above, lowest tier first), in minor units, ascending.

    Raises TooFew.
    """
    if not len(spread) or spread.spend_minor[-1] <= 0 or spread.share_from(spread.spend_minor[0], "spend") <= 0:
        raise TooFew("nobody has spent anything in the window: give a longer log, or another window")
    found: list[int] = []
    for share in shares:
        exact = max(spread.exact_threshold(share, sharing), 1)
        above = found[-1] if found else 0
        near = [one for one in _round_near(exact, decimals) if one > above and spread.customers_from(one)]
        if not near:
            raise TooFew(
                f"{len(spread):,} customers are too few, or too much alike, for {len(shares)} tiers: ask for fewer tiers, or "
                "for other shares"
            )
        found.append(min(near, key=lambda one: _distance(spread.share_from(one, sharing), share, one, exact)))
    return found


def _distance(found: float, wanted: float, threshold: int, exact: int) -> tuple[float, float]:
    """The distance of a share from the one wanted, by ratio; then that of the threshold from the exact one."""
    return round(abs(math.log(found / wanted)), 6) if found > 0 else math.inf, abs(math.log(threshold / exact))


def _round_near(exact_minor: int, decimals: int) -> list[int]:
    """Round amounts of whole major units around a threshold."""
    unit = 10**decimals
    found: set[int] = set()
    power = unit
    while power <= exact_minor * WITHIN:
        found.update(power * digits // 100 for digits in ROUND if power * digits % (100 * unit) == 0)
        power *= 10
    return sorted(one for one in found if exact_minor / WITHIN <= one <= exact_minor * WITHIN) or [unit]
