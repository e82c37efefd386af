"""A policy as it travels: in the command that activates it, in the note of that, and in the serving view."""

from __future__ import annotations

from msgspec import Struct

from models.parameters import Parameters
from models.policy import Policy
from models.policy_file import parse_with


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
