"""Masks customer ids for people who may not see them, in the console and in the digest."""

from __future__ import annotations

from typing import Final

DOTS: Final = "•••"
SHOWN: Final = 2
"""How many characters at either end stay readable in an id that is long enough."""


def mask(customer_id: str) -> str:
    """A masked id: only its ends are readable, of a short id only the end, of a very short one nothing.

    >>> mask("customer-1542"), mask("c0042"), mask("42")
    ('cu•••42', '•••42', '•••')
    """
    if len(customer_id) >= 3 * SHOWN:
        return customer_id[:SHOWN] + DOTS + customer_id[-SHOWN:]
    return DOTS + customer_id[-SHOWN:] if len(customer_id) > 2 * SHOWN else DOTS
