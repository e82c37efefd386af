"""Which partitions of an input topic an event goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.bodies import EVERYBODY
from streams.topics import COMMANDS

EVERYBODY_KEY: Final = EVERYBODY.encode()
BY_KEY: Final = (-1,)
"""The partition that the producer chooses by the key."""


def destinations(topic: str, key: bytes, partitions: Sequence[int]) -> Sequence[int]:
    """The partitions, of all `partitions` of the topic, that an event with this key goes to.

    >>> destinations("purchases", b"ada", [0, 1]), destinations("commands", b"*", [0, 1])
    ((-1,), [0, 1])
    """
    return partitions if topic == COMMANDS and key == EVERYBODY_KEY else BY_KEY
