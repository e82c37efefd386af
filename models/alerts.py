r"""The ledger of alerts: a customer has at most one open alert, until somebody or a purchase closes it.

    held -> open -> acknowledged -> contacted -> saved, lost, dismissed      what people do about it
               \-> snoozed ->/                 -> recovered                  what the customer does

An alert is held, and shown to nobody, soon after the previous one was closed, or while it is about silence and a
complaint is open. When the risk rises again while an alert is open, the alert changes and no second one is made. The
ledger is part of the customer's state, so a replay computes it too, and its instants (the end of a hold or a snooze, a
deadline) are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from models.bodies import Command
from models.customer import NEVER_MS
from models.customer_parts import Alert

HELD: Final = "held"
OPEN: Final = "open"
ACKNOWLEDGED: Final = "acknowledged"
CONTACTED: Final = "contacted"
SNOOZED: Final = "snoozed"
RECOVERED: Final = "recovered"
CLOSED: Final = ("saved", "lost", "dismissed", RECOVERED)
"""The final states of an alert."""
COOL_DOWN: Final = "cool-down"
COMPLAINT_OPEN: Final = "complaint-open"
"""The reasons for which an alert is held."""
OF_SILENCE: Final = ("base", "rhythm", "silence", "basket_trend")
"""The main causes that another purchase removes."""

Change = tuple[str, Alert]
"""What happened to an alert (empty if it changed without an announcement), and the alert after it."""


@dataclass(init=False, slots=True)
class Situation:
    """What the ledger needs to know about the customer at one instant."""

    at_ms: int
    rank: int
    """Of the risk level; 0 for the base level."""
    cause: str
    """The main cause of the risk score."""
    complaint_until_ms: int
    """When the last of the open complaints is forgotten at the latest; -1 if none is open."""
    last_purchase_ms: int
    within_ms: int
    """How soon somebody should act on an alert of this tier, cause and level."""

    def __init__(
        self, at_ms: int, rank: int, cause: str, complaint_until_ms: int, last_purchase_ms: int, within_ms: int
    ) -> None:
        self.at_ms = at_ms
        self.rank = rank
        self.cause = cause
        self.complaint_until_ms = complaint_until_ms
        self.last_purchase_ms = last_purchase_ms
        self.within_ms = within_ms


@dataclass(frozen=True, slots=True)
class AlertRules:
    """The ledger's part of a policy."""

    rank: int
    """Rank of the lowest risk level that makes an alert."""
    cool_down_ms: int
    """How long the next alert is held after one was closed, unless its risk level is higher."""
    deadline_ms: int
    """How soon to act where no row of the policy's actions matches."""
    hold_silence: bool
    """Whether an alert about silence waits while a complaint is open."""
    budget: int
    """How many alerts an agent takes in a day at most; 0: no limit."""
    incident_customers: int
    incident_within_ms: int
    """So many alerts about one category of complaint, each within this time of the previous one, are one incident."""

    def raise_alert(self, before: Alert | None, now: Situation) -> Change:
        """The new alert of a customer who has no open one, when the risk has just risen to a level that makes an alert."""
        number = 1 if before is None else before.number + 1
        cool_until_ms = -1
        if before is not None and now.rank <= before.rank:
            cool_until_ms = before.since_ms + self.cool_down_ms
        alert = Alert(number, HELD, now.at_ms, now.at_ms, -1, -1, cool_until_ms, now.rank, now.cause)
        hold, until_ms = self._hold(alert, now)
        return (HELD, replace(alert, hold=hold, until_ms=until_ms)) if hold else ("opened", self._open(alert, now))

    def follow(self, alert: Alert, now: Situation) -> list[Change]:
        """The changes of an open alert in the present situation, in order; the last one has the final alert."""
        now_ms = now.at_ms
        bought_again = now.last_purchase_ms > alert.opened_at_ms and alert.cause in OF_SILENCE
        if now.rank < self.rank or bought_again:
            return [(RECOVERED, replace(alert, state=RECOVERED, since_ms=now_ms, until_ms=-1, hold=""))]
        changes: list[Change] = []
        is_worse = now.rank > alert.rank
        if is_worse and alert.state == HELD:
            alert = replace(alert, cool_until_ms=-1)
        if alert.state == SNOOZED and (is_worse or alert.until_ms <= now_ms):
            woken = ACKNOWLEDGED if alert.owner else OPEN
            alert = replace(alert, state=woken, since_ms=now_ms, until_ms=-1)
            changes.append(("woke", alert))
        if alert.state in (HELD, OPEN):
            is_new = is_worse or now.cause != alert.cause
            alert = replace(alert, rank=now.rank, cause=now.cause)
            hold, until_ms = self._hold(alert, now)
            if hold and alert.state == OPEN:
                alert = replace(
                    alert, state=HELD, since_ms=now_ms, hold=hold, until_ms=until_ms, deadline_ms=-1, is_breached=False
                )
                changes.append((HELD, alert))
            elif hold:
                alert = replace(alert, hold=hold, until_ms=until_ms)
            elif alert.state == HELD:
                alert = self._open(alert, now)
                changes.append(("opened", alert))
            elif is_new:
                alert = self._with_earlier_deadline(alert, now)
                changes.append(("updated", alert))
        elif is_worse:
            alert = self._with_earlier_deadline(replace(alert, rank=now.rank), now)
            changes.append(("updated", alert))
        elif now.rank < alert.rank:
            alert = replace(alert, rank=now.rank)
        if alert.state in (OPEN, ACKNOWLEDGED) and not alert.is_breached and 0 <= alert.deadline_ms <= now_ms:
            alert = replace(alert, is_breached=True)
            changes.append(("breached", alert))
        if not changes or changes[-1][1] is not alert:
            changes.append(("", alert))  # a change that is not announced
        return changes

    def _hold(self, alert: Alert, now: Situation) -> tuple[str, int]:
        """Why an alert that nobody has taken is held now, and until when at the latest; "" if it is not held."""
        if alert.cool_until_ms > now.at_ms:
            return COOL_DOWN, alert.cool_until_ms
        if self.hold_silence and alert.cause in OF_SILENCE and now.complaint_until_ms > now.at_ms:
            return COMPLAINT_OPEN, now.complaint_until_ms
        return "", -1

    @staticmethod
    def _open(alert: Alert, now: Situation) -> Alert:
        now_ms = now.at_ms
        return replace(
            alert, state=OPEN, opened_at_ms=now_ms, since_ms=now_ms, deadline_ms=now_ms + now.within_ms, until_ms=-1,
            hold="", rank=now.rank, cause=now.cause,
        )  # fmt: skip

    @staticmethod
    def _with_earlier_deadline(alert: Alert, now: Situation) -> Alert:
        """An alert that got worse is due no later than a new alert would be."""
        deadline_ms = min(alert.deadline_ms, now.at_ms + now.within_ms)
        return alert if deadline_ms == alert.deadline_ms else replace(alert, deadline_ms=deadline_ms)


def is_open(alert: Alert | None) -> bool:
    """Whether an alert exists and is not closed."""
    return alert is not None and alert.state not in CLOSED


def due_ms(alert: Alert | None) -> int:
    """When time alone changes the alert next, without further events; NEVER_MS if it does not."""
    if alert is None or alert.state in CLOSED or alert.state == CONTACTED:
        return NEVER_MS
    if alert.state in (HELD, SNOOZED):
        return alert.until_ms
    return NEVER_MS if alert.is_breached or alert.deadline_ms < 0 else alert.deadline_ms


def act(alert: Alert, body: Command, until_ms: int, now: Situation) -> Change | None:
    """The alert after somebody's action on it; None if the action does not apply, as when somebody else was faster.

    `until_ms` is the end of a snooze.
    """
    action, actor, now_ms = body.action or "", body.actor or "", now.at_ms
    if body.number is not None and body.number != alert.number:
        return None
    since = replace(alert, since_ms=now_ms, until_ms=-1, hold="", reason=body.reason or "")
    owner = body.owner or actor
    if action == ACKNOWLEDGED:
        if alert.owner and (alert.owner == owner or not body.owner):
            return None
        state = CONTACTED if alert.state == CONTACTED else ACKNOWLEDGED
        deadline_ms = alert.deadline_ms if alert.deadline_ms >= 0 else now_ms + now.within_ms
        return action, replace(since, state=state, owner=owner, deadline_ms=deadline_ms)
    if action == CONTACTED:
        return None if alert.state == CONTACTED else (action, replace(since, state=action, owner=alert.owner or owner))
    if action == SNOOZED:
        if until_ms <= now_ms:
            return None
        # When it wakes, there is as much time to act as for a new alert.
        return action, replace(
            since, state=action, until_ms=until_ms, deadline_ms=until_ms + now.within_ms, is_breached=False
        )
    if action == "released":
        if alert.state in (HELD, OPEN):
            return None
        deadline_ms = alert.deadline_ms if alert.deadline_ms >= 0 else now_ms + now.within_ms
        return action, replace(since, state=OPEN, owner="", deadline_ms=deadline_ms)
    return action, replace(since, state=action, owner=alert.owner or owner)
