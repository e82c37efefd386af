"""Customers' ids for eyes that may not know them: in the console and in the digest alike."""

from __future__ import annotations

from typing import Final

DOTS: Final = "•••"
SHOWN: Final = 2
"""Characters at either end, of an id that is long enough."""


def mask(customer_id: str) -> str:
    """An id of which only its ends can be seen, and of a short one nothing.

    >>> mask("customer-1542"), mask("c0042"), mask("42")
    ('cu•••42', '•••42', '•••')
    """
    if len(customer_id) >= 3 * SHOWN:
        return customer_id[:SHOWN] + DOTS + customer_id[-SHOWN:]
    return DOTS + customer_id[-SHOWN:] if len(customer_id) > 2 * SHOWN else DOTS
