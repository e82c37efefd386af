"""Runs the fold over events on the wire, as worker and replay do: decode, then apply, customer by customer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from models import Customer, Decoder, Event, Output, Policy, Rejected, advance, apply
from models.policy import parse


@dataclass
class Step:
    """What one event did to its customer."""

    customer_id: str
    customer: Customer
    outputs: list[Output]
    rejected: Rejected | None = None

    @property
    def changes(self) -> list[str]:
        """The kinds of change: `upgrade`, `raised` and so on."""
        return [output.change for output in self.outputs]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The outputs as their readers see them."""
        return [json.loads(output.body) for output in self.outputs]


def event_of(decoder: Decoder, wire: dict[str, Any]) -> Event:
    """The event in a wire dict, which has to be valid."""
    body = {name: value for name, value in wire.items() if name != "topic"}
    event = decoder.decode(wire["topic"], json.dumps(body).encode())
    assert isinstance(event, Event), f"{event} in {wire}"
    return event


def events_of(policy: Policy, wires: Iterable[dict[str, Any]]) -> list[Event]:
    """The events in wire dicts."""
    decoder = policy.decoder()
    return [event_of(decoder, wire) for wire in wires]


def policy_of(text: str) -> Policy:
    """The policy in a TOML text."""
    return parse(text)


@dataclass
class Fold:
    """The fold, with the customers that it has folded so far."""

    policy: Policy
    customers: dict[str, Customer] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decoder = self.policy.decoder()

    def apply(self, wire: dict[str, Any]) -> Step:
        """Fold one event."""
        return self.apply_event(event_of(self.decoder, wire))

    def apply_event(self, event: Event) -> Step:
        """Fold one decoded event."""
        customer, result = apply(self.customers.get(event.customer_id), event, self.policy)
        assert customer is not None
        self.customers[event.customer_id] = customer
        if isinstance(result, Rejected):
            return Step(event.customer_id, customer, [], result)
        self.outputs.extend(result)
        return Step(event.customer_id, customer, list(result))

    def advance(self, until_ms: int, only: str | None = None) -> list[Output]:
        """Let time pass to `until_ms`, for the customer `only` or for all."""
        found: list[Output] = []
        for customer_id in [only] if only is not None else list(self.customers):
            self.customers[customer_id], outputs = advance(
                self.customers[customer_id], until_ms, self.policy, customer_id
            )
            found += outputs
        self.outputs.extend(found)
        return found


def run(policy: Policy, wires: Iterable[dict[str, Any]]) -> list[Step]:
    """The steps of a log."""
    fold = Fold(policy)
    return [fold.apply(wire) for wire in wires]
