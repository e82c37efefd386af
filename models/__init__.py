"""Tierstream's pure core: computes a customer's tier and churn risk from purchases and complaints.

It uses no clock, no I/O, no randomness and no environment: models.fold takes a customer and an event and returns the
next customer and the outputs to announce. Only the loading of a policy file, at start, reads from disk.

>>> policy = load("annual-spend")
>>> event = policy.decoder().decode("purchases", b'''{"event_id": "e1", "customer_id": "ada", "kind": "purchase",
...     "order_id": "o1", "amount": "300.00", "currency": "USD", "occurred_at": "2026-03-01T10:00:00Z"}''')
>>> customer, outputs = apply(None, event, policy)
>>> customer.standing.tier, [output.change for output in outputs]
('gold', ['upgrade'])
"""

from models import _compiled

__path__[:0] = _compiled.find("models")

# ruff: noqa: E402
from models.customer import Customer
from models.events import Decoder, Event, Rejected
from models.fold import advance, advance_in_place, apply, apply_in_place, new_customer, next_change_ms
from models.outputs import Output
from models.policy import Policy, PolicyError, load
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
    "advance_in_place",
    "apply",
    "apply_in_place",
    "decode",
    "encode",
    "load",
    "new_customer",
    "next_change_ms",
    "profile",
]
