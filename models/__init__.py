"""Tierstream's pure core: what a customer's purchases and complaints make of their tier and their risk.

No clock, no I/O, no randomness and no environment: models.fold takes a customer and an event and returns the
next customer and what is to be announced. (Reading a policy file is the one door to the disk, at start.)
"""

from models import _compiled

__path__[:0] = _compiled.find("models")

# ruff: noqa: E402
from models.customer import Customer
from models.events import Decoder, Event, Rejected
from models.fold import advance, advance_own, apply, apply_own, new_customer, next_change_ms
from models.outputs import Output
from models.policy import Policy
from models.policy_file import load
from models.policy_problem import PolicyError
from models.profile import profile
from models.state import decode, encode

__all__ = [
    "Customer",
    "Decoder",
    "Event",
    "Output",
    "Policy",
    "PolicyError",
    "Rejected",
    "advance",
    "advance_own",
    "apply",
    "apply_own",
    "decode",
    "encode",
    "load",
    "new_customer",
    "next_change_ms",
    "profile",
]
