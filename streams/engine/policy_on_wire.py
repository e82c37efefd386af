"""A policy as it travels: in the command that activates it, in the note of that, and in the serving view."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from models import units
from models.bodies import EVERYBODY, Breakpoints
from models.parameters import Parameters
from models.policy import Policy, parse_with

EDITION: Final = b"edition"
"""Key, in the topic `census`, of the note of the latest edition that was begun."""


class Rules(Struct, frozen=True):
    """A policy as it is sent: its file, and the fitted parameters that it names."""

    ref: str
    text: str
    parameters: Parameters | None = None

    @classmethod
    def of(cls, policy: Policy) -> Rules:
        """What says all of a policy but the lines of a census."""
        return cls(policy.ref, policy.text, policy.fitted)

    def policy(self) -> Policy:
        """The policy. Raises PolicyError."""
        return parse_with(self.text, self.parameters, self.ref)


def edition_body(
    number: int,
    at_ms: int,
    breakpoints: Breakpoints | None = None,
    parameters: Parameters | None = None,
    policy: str | None = None,
    follows: str | None = None,
) -> bytes:
    """The command that begins an edition. The same edition has the same event id, whoever sends it."""
    body = {
        "event_id": f"edition-{number}",
        "customer_id": EVERYBODY,
        "command": "use_edition",
        "occurred_at": units.format_time(at_ms),
        "edition": number,
        "breakpoints": breakpoints,
        "parameters": parameters,
        "policy": policy,
        "follows": follows,
    }
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})
