"""Round lines between tiers, near the shares of the customers, or of what they spend, that the tiers shall hold."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, Literal

Sharing = Literal["customers", "spend"]

ROUND: Final = (100, 150, 200, 250, 300, 400, 500, 600, 750, 800)
"""Amounts that are easily said, but for powers of ten."""
WITHIN: Final = 3.0
"""A round line is sought between a third of the exact one and three times that."""


class TooFew(ValueError):
    """There are not enough customers to draw lines between."""


class SpendDistribution:
    """What customers spent in a window, and what lies above a line."""

    def __init__(self, spend_minor: Sequence[int]) -> None:
        self.spend_minor = sorted(spend_minor)
        self._below = [0, *accumulate(self.spend_minor)]

    def __len__(self) -> int:
        return len(self.spend_minor)

    def customers_from(self, threshold_minor: int) -> int:
        """How many spent so much or more."""
        return len(self) - bisect_left(self.spend_minor, threshold_minor)

    def spend_from(self, threshold_minor: int) -> int:
        """What those spent altogether."""
        return self._below[-1] - self._below[bisect_left(self.spend_minor, threshold_minor)]

    def share_from(self, threshold_minor: int, sharing: Sharing) -> float:
        """The share of customers, or of spend, at the line or above."""
        if sharing == "customers":
            return self.customers_from(threshold_minor) / len(self)
        return self.spend_from(threshold_minor) / self._below[-1]

    def exact_threshold(self, share: float, sharing: Sharing) -> int:
        """The line at which the share is reached: as `top_share` draws it (models.relative), or the highest above which
        so much is spent.
        """
        if sharing == "customers":
            return self.spend_minor[len(self) - max(round(share * len(self)), 1)]
        wanted = share * self._below[-1]
        first = next(at for at in reversed(range(len(self))) if self._below[-1] - self._below[at] >= wanted)
        return self.spend_minor[first]


def propose_thresholds(
    spread: SpendDistribution, shares: Sequence[float], sharing: Sharing, decimals: int
) -> list[int]:
    """A round line for each share (of its tier and all above, lowest tier first), in minor units, ascending.

    Raises TooFew.
    """
    if not len(spread) or spread.spend_minor[-1] <= 0 or spread.share_from(spread.spend_minor[0], "spend") <= 0:
        raise TooFew("nobody has spent anything in the window: give a longer log, or another window")
    lines: list[int] = []
    for share in shares:
        exact = max(spread.exact_threshold(share, sharing), 1)
        above = lines[-1] if lines else 0
        near = [line for line in _round_near(exact, decimals) if line > above and spread.customers_from(line)]
        if not near:
            raise TooFew(
                f"{len(spread):,} customers are too few, or too much alike, for {len(shares)} tiers: ask for fewer tiers, or "
                "for other shares"
            )
        lines.append(min(near, key=lambda line: _distance(spread.share_from(line, sharing), share, line, exact)))
    return lines


def _distance(found: float, wanted: float, line: int, exact: int) -> tuple[float, float]:
    """How far a share is from the one wanted, by ratio; of equals, how far the line is from the exact one."""
    return round(abs(math.log(found / wanted)), 6) if found > 0 else math.inf, abs(math.log(line / exact))


def _round_near(exact_minor: int, decimals: int) -> list[int]:
    """Round amounts of whole major units around a line."""
    unit = 10**decimals
    found: set[int] = set()
    power = unit
    while power <= exact_minor * WITHIN:
        found.update(power * digits // 100 for digits in ROUND if power * digits % (100 * unit) == 0)
        power *= 10
    return sorted(line for line in found if exact_minor / WITHIN <= line <= exact_minor * WITHIN) or [unit]
