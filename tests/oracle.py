"""The semantics of docs/semantics.md, computed the slow way: the fold has to agree with this after every event.

It shares no code with `models/`. It keeps the plain list of events and recomputes everything from it at every question:
no running sums, no search trees, no shortcuts. To find the first instant at which time alone would change something it
tries every instant at which something can change, one after the other; only between two such instants, where the risk
score rises without steps, it bisects down to the millisecond. Section headings are those of the page.

    pictures = replay(policy_toml, events)      # one picture per event, of that event's customer
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.oracle_alerts import Ledger
from tests.oracle_facts import Event, Known, Rules, duration


# ---------------------------------------------------------------- results
@dataclass
class Announcement:
    """One output. `before` and `after` are (tier, downgrade due at) or, for churn risk, a level."""

    topic: str
    change: str
    occurred_at: int
    cause: str
    before: Any
    after: Any
    score: float | None = None


@dataclass
class Picture:
    """A customer right after one event: `verdict` says whether it was counted, a repeat or too late."""

    customer_id: str
    verdict: str
    clock: int
    seq: int
    due_at: int | None
    facts: dict[str, Any]
    standing: dict[str, Any]
    announcements: list[Announcement]
    """Those that this event caused, or time alone before it."""
    close_call: bool
    """Whether the millisecond of a risk change, now or before, depended on the last bits of a floating-point number."""


def replay(policy_toml: str, events: list[dict[str, Any]], until_ms: int | None = None) -> list[Picture]:
    """A picture after every event, in order of arrival; with `until_ms`, one more picture of every customer at the end."""
    rules = Rules(policy_toml)
    customers: dict[str, Customer] = {}
    pictures = []
    for wire in events:
        event = Event(wire, rules)
        if event.customer_id not in customers:
            customers[event.customer_id] = Customer(rules, event.customer_id, event.at)
        pictures.append(customers[event.customer_id].happens(event))
    if until_ms is not None:
        pictures.extend(customer.nothing_happens_until(until_ms) for customer in customers.values())
    return pictures


# ---------------------------------------------------------------- The order of things
@dataclass
class Customer:
    """One customer: what was counted, what was announced, and the clock."""

    rules: Rules
    customer_id: str
    clock: int
    counted: list[Event] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    seq: int = 0
    due_at: int | None = None
    erased_at: int | None = None
    close_call: bool = False
    announcements: list[Announcement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        self.tier, self.tier_since = 0, self.clock
        self.downgrade_at: int | None = None
        self.lock: tuple[int, str, str] | None = None
        self.level, self.level_since = 0, 0
        self.last_alert: int | None = None
        self.ledger = Ledger(self.rules)
        self.stage, self.stage_since, self.behaviour = "", 0, ""
        self.qualification = ""

    def known(self) -> Known:
        return Known(self.rules, self.counted)

    def happens(self, event: Event) -> Picture:
        self.announcements = []
        if event.full_id in self.ids[-64:] or (self.erased_at is not None and event.at <= self.erased_at):
            return self.picture("repeat")
        if event.at < self.clock - self.rules.lateness:
            return self.picture("too_late")
        self.advance_until(event.at)
        self.clock = max(self.clock, event.at)
        self.ids.append(event.full_id)
        if event.what == "erase":
            self.erase(event)
        else:
            self.counted.append(event)
            self.obey(event)
            self.judge(event.id)
        return self.picture("counted")

    def nothing_happens_until(self, until: int) -> Picture:
        self.announcements = []
        self.advance_until(until)
        return self.picture("counted")

    def advance_until(self, until: int) -> None:
        while self.due_at is not None and self.due_at <= until:
            self.clock = self.due_at
            if self.clock == self.downgrade_at:
                self.downgrade(self.known().qualifies_for(self.clock - 1), "clock")
            self.judge("clock")

    def judge(self, cause: str) -> None:
        known = self.known()
        self.judge_tier(known, cause)
        if known.first is not None:
            level, was = known.level_after(self.level, self.clock), self.level
            if level != was:
                self.change_level(known, level, cause)
            if self.rules.has_alerts:
                self.judge_alert(known, level > was, cause)
        risk_crossing = known.next_risk_change(self.level, self.clock)
        if risk_crossing is not None:
            self.close_call = self.close_call or known.too_close_to_call(risk_crossing)
        if known.first is None and known.prospect is not None and self.rules.has_life:
            self.judge_prospect(known.prospect[1], cause)
        if known.first is not None and self.rules.has_life:
            self.judge_life(known, cause)
        crossings = [
            self.downgrade_at,
            self.next_tier_change(known),
            risk_crossing,
            self.next_stage(known),
            self.ledger.next_crossing(),
        ]
        self.due_at = min((crossing for crossing in crossings if crossing is not None), default=None)

    # ------------------------------------------------------------ Tiers
    def judge_tier(self, known: Known, cause: str) -> None:
        if self.lock:
            return
        before, qualified = self.tier_now(), known.qualifies_for(self.clock)
        if qualified > self.tier:
            self.tier, self.tier_since, self.downgrade_at = qualified, self.clock, None
            self.announce("tier-changes", "upgrade", cause, before)
        elif qualified == self.tier and self.downgrade_at is not None:
            self.downgrade_at = None
            self.announce("tier-changes", "downgrade_averted", cause, before)
        elif qualified < self.tier and self.downgrade_at is None:
            due = self.downgrade_due(known)
            if due > self.clock:
                self.downgrade_at = due
                self.announce("tier-changes", "downgrade_scheduled", cause, before)
            else:
                self.downgrade(qualified, cause)
                self.judge_tier(known, cause)

    def downgrade_due(self, known: Known) -> int:
        period_end = self.rules.grace == "period-end"
        grace_ends = known.year(self.clock)[1] if period_end else self.clock + duration(self.rules.grace)
        return max(grace_ends, self.tier_since + self.rules.min_hold)

    def downgrade(self, qualified: int, cause: str) -> None:
        before = self.tier_now()
        self.tier = self.tier - 1 if self.rules.step == "one" else qualified
        self.tier_since, self.downgrade_at = self.clock, None
        self.announce("tier-changes", "downgrade", cause, before)

    def next_tier_change(self, known: Known) -> int | None:
        """The first instant at which judging the tier would announce something, other than the end of a pending
        downgrade.
        """
        if self.lock:
            return None
        for at in known.instants_for_tiers(self.clock):
            if self.downgrade_at is not None and at >= self.downgrade_at:
                return None
            qualified = known.qualifies_for(at)
            averted = qualified == self.tier and self.downgrade_at is not None
            in_danger = qualified < self.tier and self.downgrade_at is None
            if qualified > self.tier or averted or in_danger:
                return at
        return None

    def obey(self, event: Event) -> None:
        """Carry out a command, except erase."""
        before, wire = self.tier_now(), event.wire
        if event.what == "lock_tier":
            named = self.rules.names.index(wire["tier"])
            if named != self.tier:
                self.tier, self.tier_since = named, self.clock
            self.downgrade_at = None
            self.lock = (self.clock, wire["reason"], wire.get("actor") or "")
            self.announce("tier-changes", "lock", event.id, before)
        elif event.what == "unlock_tier" and self.lock:
            self.lock = None
            self.announce("tier-changes", "unlock", event.id, before)
        elif event.what == "act_on_alert" and self.ledger.running:
            self.ledger.act(wire, self.clock, self.within(self.known()))
            self.announce_alerts(event.id)

    def erase(self, event: Event) -> None:
        before = self.tier_now()
        self.start_over()
        self.counted, self.ids, self.erased_at, self.due_at = [], [event.full_id], self.clock, None
        self.announce("tier-changes", "erase", event.id, before)

    # ------------------------------------------------------------ Risk levels
    def change_level(self, known: Known, level: int, cause: str) -> None:
        before = self.level
        self.level, self.level_since = level, self.clock
        if level > before:
            change = "escalated" if before else "raised"
            self.last_alert = self.clock
        else:
            change = "eased" if level else "cleared"
        self.announce("churn-risk", change, cause, self.rules.levels[before], known.risk_score(self.clock))

    # ------------------------------------------------------------ Alerts
    def judge_alert(self, known: Known, rose: bool, cause: str) -> None:
        assert known.last is not None
        main_cause = known.main_cause(self.clock)
        self.ledger.judge(
            self.clock, self.level, rose, main_cause, known.open_until(self.clock), known.last, self.within(known)
        )
        self.announce_alerts(cause)

    def within(self, known: Known) -> int:
        """How soon to act on an alert."""
        now = {
            "tier": self.rules.names[self.tier],
            "cause": known.main_cause(self.clock),
            "level": self.rules.levels[self.level],
        }
        for row in self.rules.actions:
            if all(row.get(name, value) == value for name, value in now.items()):
                return duration(row["within"])
        return self.rules.alert_deadline

    def announce_alerts(self, cause: str) -> None:
        for change, before, after in self.ledger.announcements:
            self.seq += 1
            self.announcements.append(Announcement("alerts", change, self.clock, cause, before, after))
        self.ledger.announcements.clear()

    # ------------------------------------------------------------ Life cycle
    def judge_prospect(self, marks: int, cause: str) -> None:
        qualification = {3: "qualified", 2: "nurture", 1: "automate", 0: "not-a-target"}[marks]
        if qualification != self.qualification:
            before, self.qualification = self.qualification, qualification
            self.announce("life-cycle", "qualification", cause, before)
            if self.stage == "":
                self.stage, self.stage_since = "prospect", self.clock

    def judge_life(self, known: Known, cause: str) -> None:
        behaviour, before = known.behaviour(), self.behaviour
        self.behaviour = behaviour
        if before and before != behaviour:
            self.announce("life-cycle", "behaviour", cause, before)
        stage, was = known.stage_after(self.stage, self.stage_since, self.clock), self.stage
        if stage != was:
            self.stage, self.stage_since = stage, self.clock
            self.announce("life-cycle", "stage", cause, was)

    def next_stage(self, known: Known) -> int | None:
        if known.last is None or not self.rules.has_life:
            return None
        for at in (known.last + self.rules.cooling_after + 1, known.last + self.rules.lost_after + 1):
            if at > self.clock and known.stage_after(self.stage, self.stage_since, at) != self.stage:
                return at
        return None

    # ------------------------------------------------------------ announcing
    def tier_now(self) -> tuple[str, int | None]:
        return self.rules.names[self.tier], self.downgrade_at

    def announce(self, topic: str, change: str, cause: str, before: Any, score: float | None = None) -> None:
        self.seq += 1
        after: Any = self.tier_now() if topic == "tier-changes" else self.rules.levels[self.level]
        if topic == "life-cycle":
            after = {"stage": self.stage, "behaviour": self.behaviour, "qualification": self.qualification}[change]
        if change == "erase":
            after = None
        self.announcements.append(Announcement(topic, change, self.clock, cause, before, after, score))

    def picture(self, verdict: str) -> Picture:
        standing = {
            "tier": self.rules.names[self.tier],
            "tier_since": self.tier_since,
            "downgrade_at": self.downgrade_at,
            "lock": self.lock,
            "level": self.rules.levels[self.level],
            "level_since": self.level_since,
            "last_alert": self.last_alert,
            "alert": self.ledger.alert
            and {name: value for name, value in self.ledger.alert.items() if name != "announced"},
            "life": (self.stage, self.stage_since, self.behaviour, self.qualification),
        }
        facts = self.known().as_kept_at(self.clock)
        return Picture(
            customer_id=self.customer_id,
            verdict=verdict,
            clock=self.clock,
            seq=self.seq,
            due_at=self.due_at,
            facts=facts,
            standing=standing,
            announcements=list(self.announcements),
            close_call=self.close_call,
        )
