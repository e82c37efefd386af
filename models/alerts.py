r"""The ledger of alerts: one alert a customer at a time, from when it opens until somebody, or the customer, closes it.

    held -> open -> acknowledged -> contacted -> saved, lost, dismissed      what people do about it
               \-> snoozed ->/                 -> recovered                  what the customer does

Held is an alert that is not shown to anybody yet: soon after the one before it was closed, or about silence while a complaint
is open. A new crossing while one is open changes it and makes no other. What the ledger knows is part of the customer's
state, so it replays, and its instants (a hold or a snooze that ends, a deadline that passes) are exact like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from models.bodies import Command
from models.customer import NEVER_MS
from models.remembered import Alert

HELD: Final = "held"
OPEN: Final = "open"
ACKNOWLEDGED: Final = "acknowledged"
CONTACTED: Final = "contacted"
SNOOZED: Final = "snoozed"
RECOVERED: Final = "recovered"
CLOSED: Final = ("saved", "lost", "dismissed", RECOVERED)
"""States that end an alert."""
COOL_DOWN: Final = "cool-down"
COMPLAINT_OPEN: Final = "complaint-open"
"""Why an alert is held."""
OF_SILENCE: Final = ("base", "rhythm", "silence", "basket_trend")
"""Main causes that another purchase removes."""

Change = tuple[str, Alert]
"""What happened to an alert, and the alert after it."""


@dataclass(init=False, slots=True)
class Seen:
    """What the ledger looks at, at one instant."""

    now_ms: int
    rank: int
    """Of the risk level; 0 for the base level."""
    cause: str
    """What the score is mainly about."""
    complaint_until_ms: int
    """When the last of the open complaints is forgotten at the latest; -1 if none is open."""
    last_purchase_ms: int
    within_ms: int
    """How soon to act on an alert of this tier, cause and level."""

    def __init__(
        self, now_ms: int, rank: int, cause: str, complaint_until_ms: int, last_purchase_ms: int, within_ms: int
    ) -> None:
        self.now_ms = now_ms
        self.rank = rank
        self.cause = cause
        self.complaint_until_ms = complaint_until_ms
        self.last_purchase_ms = last_purchase_ms
        self.within_ms = within_ms


@dataclass(frozen=True, slots=True)
class AlertRules:
    """The ledger's part of a policy."""

    rank: int
    """Of the risk level from which a customer is an alert."""
    cool_down_ms: int
    """After an alert was closed; one that is worse does not wait."""
    deadline_ms: int
    """How soon to act where no row of the policy's actions says so."""
    hold_silence: bool
    """Whether an alert about silence waits while a complaint is open."""
    budget: int
    """Alerts that an agent takes on a day, at the most; 0: any number."""
    incident_customers: int
    incident_within_ms: int
    """So many alerts about one category of complaint, each so soon after the one before, are one incident."""

    def raised(self, before: Alert | None, seen: Seen) -> Change:
        """The alert of a customer without an open one, whose risk just rose to a level that makes one."""
        number = 1 if before is None else before.number + 1
        cool_until_ms = -1
        if before is not None and seen.rank <= before.rank:
            cool_until_ms = before.since_ms + self.cool_down_ms
        alert = Alert(number, HELD, seen.now_ms, seen.now_ms, -1, -1, cool_until_ms, seen.rank, seen.cause)
        hold, until_ms = self._hold(alert, seen)
        return (HELD, replace(alert, hold=hold, until_ms=until_ms)) if hold else ("opened", self._opened(alert, seen))

    def followed(self, alert: Alert, seen: Seen) -> list[Change]:
        """What became of an open alert by what is seen now."""
        now_ms = seen.now_ms
        bought_again = seen.last_purchase_ms > alert.opened_at_ms and alert.cause in OF_SILENCE
        if seen.rank < self.rank or bought_again:
            return [(RECOVERED, replace(alert, state=RECOVERED, since_ms=now_ms, until_ms=-1, hold=""))]
        changes: list[Change] = []
        is_worse = seen.rank > alert.rank
        if is_worse and alert.state == HELD:
            alert = replace(alert, cool_until_ms=-1)
        if alert.state == SNOOZED and (is_worse or alert.until_ms <= now_ms):
            woken = ACKNOWLEDGED if alert.owner else OPEN
            alert = replace(alert, state=woken, since_ms=now_ms, until_ms=-1)
            changes.append(("woke", alert))
        if alert.state in (HELD, OPEN):
            is_new = is_worse or seen.cause != alert.cause
            alert = replace(alert, rank=seen.rank, cause=seen.cause)
            hold, until_ms = self._hold(alert, seen)
            if hold and alert.state == OPEN:
                alert = replace(
                    alert, state=HELD, since_ms=now_ms, hold=hold, until_ms=until_ms, deadline_ms=-1, is_breached=False
                )
                changes.append((HELD, alert))
            elif hold:
                alert = replace(alert, hold=hold, until_ms=until_ms)
            elif alert.state == HELD:
                alert = self._opened(alert, seen)
                changes.append(("opened", alert))
            elif is_new:
                alert = self._hurried(alert, seen)
                changes.append(("updated", alert))
        elif is_worse:
            alert = self._hurried(replace(alert, rank=seen.rank), seen)
            changes.append(("updated", alert))
        elif seen.rank < alert.rank:
            alert = replace(alert, rank=seen.rank)
        if alert.state in (OPEN, ACKNOWLEDGED) and not alert.is_breached and 0 <= alert.deadline_ms <= now_ms:
            alert = replace(alert, is_breached=True)
            changes.append(("breached", alert))
        if not changes or changes[-1][1] is not alert:
            changes.append(("", alert))  # what of it changed without a name
        return changes

    def _hold(self, alert: Alert, seen: Seen) -> tuple[str, int]:
        """Why an alert that nobody has is to be held now, and until when at the latest; "" if it is not."""
        if alert.cool_until_ms > seen.now_ms:
            return COOL_DOWN, alert.cool_until_ms
        if self.hold_silence and alert.cause in OF_SILENCE and seen.complaint_until_ms > seen.now_ms:
            return COMPLAINT_OPEN, seen.complaint_until_ms
        return "", -1

    @staticmethod
    def _opened(alert: Alert, seen: Seen) -> Alert:
        now_ms = seen.now_ms
        return replace(
            alert, state=OPEN, opened_at_ms=now_ms, since_ms=now_ms, deadline_ms=now_ms + seen.within_ms, until_ms=-1,
            hold="", rank=seen.rank, cause=seen.cause,
        )  # fmt: skip

    @staticmethod
    def _hurried(alert: Alert, seen: Seen) -> Alert:
        """What got worse is not to be acted on later than a new alert would be."""
        deadline_ms = min(alert.deadline_ms, seen.now_ms + seen.within_ms)
        return alert if deadline_ms == alert.deadline_ms else replace(alert, deadline_ms=deadline_ms)


def is_open(alert: Alert | None) -> bool:
    """Whether there is an alert that nothing has closed yet."""
    return alert is not None and alert.state not in CLOSED


def due_ms(alert: Alert | None) -> int:
    """When time alone changes an alert next, the customer being as they are; NEVER_MS if it does not."""
    if alert is None or alert.state in CLOSED or alert.state == CONTACTED:
        return NEVER_MS
    if alert.state in (HELD, SNOOZED):
        return alert.until_ms
    return NEVER_MS if alert.is_breached or alert.deadline_ms < 0 else alert.deadline_ms


def acted(alert: Alert, body: Command, until_ms: int, seen: Seen) -> Change | None:
    """What somebody's action makes of an open alert; None if it does not apply, as when another was quicker.

    `until_ms` is the end of a snooze.
    """
    action, actor, now_ms = body.action or "", body.actor or "", seen.now_ms
    if body.number is not None and body.number != alert.number:
        return None
    since = replace(alert, since_ms=now_ms, until_ms=-1, hold="", reason=body.reason or "")
    owner = body.owner or actor
    if action == ACKNOWLEDGED:
        if alert.owner and (alert.owner == owner or not body.owner):
            return None
        state = CONTACTED if alert.state == CONTACTED else ACKNOWLEDGED
        deadline_ms = alert.deadline_ms if alert.deadline_ms >= 0 else now_ms + seen.within_ms
        return action, replace(since, state=state, owner=owner, deadline_ms=deadline_ms)
    if action == CONTACTED:
        return None if alert.state == CONTACTED else (action, replace(since, state=action, owner=alert.owner or owner))
    if action == SNOOZED:
        if until_ms <= now_ms:
            return None
        # Whoever wakes it has as long as with a new one.
        return action, replace(
            since, state=action, until_ms=until_ms, deadline_ms=until_ms + seen.within_ms, is_breached=False
        )
    if action == "released":
        if alert.state in (HELD, OPEN):
            return None
        deadline_ms = alert.deadline_ms if alert.deadline_ms >= 0 else now_ms + seen.within_ms
        return action, replace(since, state=OPEN, owner="", deadline_ms=deadline_ms)
    return action, replace(since, state=action, owner=alert.owner or owner)
