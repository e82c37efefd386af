"""All outputs of varied logs, as their readers see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import models
from models.outputs import PROFILES, Output
from models.policy import Policy
from tests.builders import (
    DAY,
    Wire,
    act_on_alert,
    cdnow,
    erase,
    lock,
    ms,
    prospect,
    rfc3339,
    unlock,
    with_made_up_complaints,
)
from tests.running import Fold

ACTIONS = ("acknowledged", "contacted", "snoozed", "released", "saved", "lost", "dismissed")
END_MS = ms("2000-01-01")


def bodies(outputs: Iterable[Output]) -> Iterator[tuple[str, bytes]]:
    """Topic and body of announcements."""
    for one in outputs:
        yield one.topic, one.body


def profiles(fold: Fold) -> Iterator[tuple[str, bytes]]:
    """The profiles of a fold's customers."""
    for customer_id, customer in fold.customers.items():
        value = models.profile(customer, customer_id, fold.policy)
        if value is not None:
            yield PROFILES, value


def varied_log(policy: Policy) -> list[Wire]:
    """CDNOW, with complaints, prospects before their first purchase, locks, erasures, and people who act on alerts."""
    # The thresholds of the Chinese retailer are far above a CD: there a purchase counts a hundredfold.
    log = with_made_up_complaints(cdnow(policy.currency, times=100 if policy.currency == "CNY" else 1))
    first: dict[str, int] = {}
    for event in log:
        first.setdefault(event["customer_id"], ms(event["occurred_at"]))
    top = policy.ladder.tiers[-1].name
    for number, (customer_id, at_ms) in enumerate(first.items()):
        if number % 5 == 0:
            log.append(
                prospect(
                    customer_id, on=at_ms - 1000 * (number + 1), money=number % 2 == 0, id=f"prospect-{customer_id}"
                )
            )
        if number % 11 == 0:
            log.append(lock(customer_id, top, on=at_ms + 40_000_000 + number, id=f"lock-{customer_id}", actor="eve"))
            log.append(unlock(customer_id, on=at_ms + 4_000_000_000 + number, id=f"unlock-{customer_id}"))
        if number % 13 == 0:
            log.append(erase(customer_id, on=at_ms + 9_000_000_000 + number, id=f"erase-{customer_id}"))
        for turn in range(12 if number % 2 else 0):
            acted_ms = at_ms + (10 + 21 * turn) * DAY + number
            action = ACTIONS[(turn + number) % len(ACTIONS)]
            until = rfc3339(acted_ms + 5 * DAY) if action == "snoozed" else None
            log.append(
                act_on_alert(
                    customer_id,
                    action,
                    on=acted_ms,
                    id=f"act-{customer_id}-{turn}",
                    actor="eve",
                    reason="asked",
                    until=until,
                )
            )
    return sorted(log, key=lambda event: ms(event["occurred_at"]))


def all_outputs(policy: Policy, log: Iterable[Wire], until_ms: int = END_MS) -> Iterator[tuple[str, Any]]:
    """Every output of a log, and all profiles in the middle of it and at its end."""
    fold = Fold(policy)
    events = list(log)
    for wire in events[: len(events) // 2]:
        fold.apply(wire)
    yield from profiles(fold)
    for wire in events[len(events) // 2 :]:
        fold.apply(wire)
    yield from profiles(fold)
    fold.advance(until_ms)
    yield from profiles(fold)
    yield from bodies(fold.outputs)
