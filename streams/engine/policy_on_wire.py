"""A policy in messages: in the command that activates it, in the record of that activation, and in the serving view."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from models import units
from models.bodies import EVERYBODY, Breakpoints
from models.parameters import Parameters
from models.policy import Policy, parse_with

EDITION: Final = b"edition"
"""Key, in the topic `census`, of the record of the latest edition that was begun."""


class PolicyOnWire(Struct, frozen=True):
    """A policy's file with the fitted parameters that it names. `ref` is the policy's name@version+digest."""

    ref: str
    text: str
    parameters: Parameters | None = None

    @classmethod
    def of(cls, policy: Policy) -> PolicyOnWire:
        """The wire form of a policy, which has everything but the thresholds of a census."""
        return cls(policy.ref, policy.text, policy.fitted)

    def policy(self) -> Policy:
        """Parse the policy. Raises PolicyError."""
        return parse_with(self.text, self.parameters, self.ref)


def edition_body(
    number: int,
    at_ms: int,
    breakpoints: Breakpoints | None = None,
    parameters: Parameters | None = None,
    policy: str | None = None,
    follows: str | None = None,
) -> bytes:
    """The command that begins an edition. An edition always has the same event id, so that it can be sent again."""
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
