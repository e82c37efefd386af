"""The bodies of the output topics, for their readers: what each field means, and in which unit.

The fold builds these bodies as JSON itself (`fold`, `explain`, `profile`, `outputs`); a test decodes every output into
the classes here, so the two can't drift apart. The schemas in docs/ are generated from them, and streams.client.changes
decodes into them.

A reader ignores fields that it does not know: fields are added, never renamed. A field that may be left out is then
`UNSET`, which differs from null. Times are RFC 3339 in UTC, money is a decimal in major units of `currency`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from models.names import ALERTS, CHURN_RISK, LIFE_CYCLE, PROFILES, TIER_CHANGES, ComplaintStatus, Severity

CONTRACTS_VERSION: Final = "1.0.0"
"""The version of the topics' bodies: an addition raises the second number, a change that breaks readers or producers
the first.
"""
Time = Annotated[datetime, Meta(tz=True)]
Duration = Annotated[str, Meta(pattern=r"^\d+(d|h|m|s|ms)(\d+(d|h|m|s|ms))*$", examples=["90d", "1h30m"])]
Probability = Annotated[float, Meta(ge=0, le=1)]
Points = Annotated[int, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]


class Part(Struct, frozen=True, kw_only=True):
    """A part of a body."""


# ---------------------------------------------------------------- parts about tiers
class Lock(Part, frozen=True, kw_only=True):
    """A tier that somebody pinned."""

    since: Time
    reason: str
    actor: str | None


class TierState(Part, frozen=True, kw_only=True):
    """The tier part of a customer's standing."""

    tier: str
    since: Time
    downgrade_at: Time | None
    """When the grace period ends and the tier is lost, unless the customer qualifies again; null if no downgrade is
    pending.
    """
    lock: Lock | None


class TierName(Part, frozen=True, kw_only=True):
    """The tier before an erasure."""

    tier: str


class Requirement(Part, frozen=True, kw_only=True):
    """One requirement of a tier, with the customer's number."""

    measure: str
    """spend, orders, active_periods, satisfaction, recency or score."""
    needed: int | str
    """Counts and points of satisfaction as numbers, spend and score as decimals, recency as a duration; `not drawn yet`
    for a spend that the first census has yet to compute.
    """
    actual: int | str | None
    """As `needed`; null if there is none."""
    met: bool


class Rule(Part, frozen=True, kw_only=True):
    """The rule that decided, with the customer's numbers."""

    tier: str
    requirements: list[Requirement]
    """All must be met; the base tier has none."""


class Way(Part, frozen=True, kw_only=True):
    """A single change that would lift the score far enough."""

    measure: str
    amount: int | str
    text: str


class Missing(Part, frozen=True, kw_only=True):
    """How far a requirement is from being met."""

    measure: str
    amount: int | str | UnsetType | None = UNSET
    """How much more: a count, or spend or score as a decimal; null if it is not known."""
    at_least: Points | UnsetType = UNSET
    """For satisfaction, in points of 100."""
    within: Duration | UnsetType = UNSET
    """For recency: how recent a purchase has to be."""
    any_of: list[Way] | UnsetType = UNSET
    """For a score."""
    text: str


class Needs(Part, frozen=True, kw_only=True):
    """What keeps, regains or reaches a tier, and by when."""

    goal: Literal["keep", "regain", "reach"]
    tier: str
    from_: Time | None = field(name="from")
    """From when on purchases count; null if from now on."""
    before: Time | None
    """The first instant at which it is too late; null if there is none."""
    missing: list[Missing]
    text: str


# ---------------------------------------------------------------- parts about risk
class ComplaintTerm(Part, frozen=True, kw_only=True):
    """A complaint that counts in the score."""

    complaint_id: str
    category: str | None
    severity: Severity
    status: ComplaintStatus
    opened_at: Time
    repeated: bool
    """Whether it was opened soon after another."""
    log_odds: float


class Contribution(Part, frozen=True, kw_only=True):
    """A signed term of the score. The terms add up to its log-odds."""

    term: str
    """base, rhythm, silence, complaints, satisfaction; with a score card also frequency, spend, basket_trend."""
    log_odds: float
    text: str
    complaints: list[ComplaintTerm] | UnsetType = UNSET
    """Of the term `complaints`."""


class Level(Part, frozen=True, kw_only=True):
    """A risk level."""

    level: str
    """`none`, or a level of the policy."""
    since: Time | None
    """null for the level `none` of a customer who never had another."""


class ScoredLevel(Part, frozen=True, kw_only=True):
    """A risk level, and the score behind it."""

    level: str
    since: Time
    probability: Probability
    """That the customer buys nothing within the policy's horizon."""
    log_odds: float


class Action(Part, frozen=True, kw_only=True):
    """What the policy recommends."""

    do: str
    do_zh: str | UnsetType = UNSET
    """The same in Chinese, if the policy has it."""
    before: Time | None
    """The deadline."""


# ---------------------------------------------------------------- announcements
class Announcement(Struct, frozen=True, kw_only=True):
    """The fields of every announcement."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    """A hash of customer, seq and topic: a repeated record has the same one."""
    seq: Number
    """The customer's announcements are numbered 1, 2, 3 and so on, over all topics together, without a gap."""
    previous_seq: Count
    """`seq` of the customer's announcement before this one on the same topic; 0 if this is the first."""
    customer_id: Annotated[str, Meta(min_length=1, max_length=128)]
    change: str
    occurred_at: Time
    """When it happened: the time of the event, or the exact instant at which time alone changed something."""
    cause: str
    """event_id of the event that caused it; `clock` for time alone, `edition-N` for a new edition of the policy."""
    policy: str
    """id@version of the policy, `+` digest of its fitted parameters, `/` edition; the last two only if it has them."""


class TierChange(Announcement, frozen=True, kw_only=True):
    """On `tier-changes`: a customer's tier changed, was locked or unlocked, or its loss was scheduled or averted."""

    change: Literal["upgrade", "downgrade", "downgrade_scheduled", "downgrade_averted", "lock", "unlock"]
    before: TierState
    after: TierState
    rule: Rule
    needs: Needs | None
    """What keeps the tier, or after a downgrade what regains it; null for the base tier."""


class Erasure(Announcement, frozen=True, kw_only=True):
    """On `tier-changes`: all data about the customer was erased. Readers must erase theirs, too."""

    change: Literal["erase"]
    before: TierName
    after: None


class RiskChange(Announcement, frozen=True, kw_only=True):
    """On `churn-risk`: a customer's risk level changed."""

    change: Literal["raised", "escalated", "eased", "cleared"]
    before: Level
    after: ScoredLevel
    tier: str
    main_cause: str
    """silence, complaints, satisfaction, basket_trend, rhythm or base: the largest term on top of the base."""
    contributions: list[Contribution]
    value_at_stake: Decimal
    """What the customer is expected to be worth within the policy's horizon, if they have not left, in `currency`."""
    lifetime_value: Decimal
    """In `currency`."""
    currency: str
    """ISO 4217."""
    action: Action | None
    """null if the level fell, or no row of the policy's actions matches."""


Stage = Literal["prospect", "new", "active", "loyal", "cooling", "lost", "won-back"]
Qualification = Literal["not-a-target", "automate", "nurture", "qualified"]
Behaviour = Literal["high-frequency", "active", "regular", "occasional"]


class StageBefore(Part, frozen=True, kw_only=True):
    """The stage before; nulls for the first."""

    stage: Stage | None
    since: Time | None


class StageState(Part, frozen=True, kw_only=True):
    """A stage."""

    stage: Stage
    since: Time


class BehaviourState(Part, frozen=True, kw_only=True):
    """A behaviour, by the mean gap between days with a purchase."""

    behaviour: Behaviour


class QualificationBefore(Part, frozen=True, kw_only=True):
    """The qualification before; null for the first."""

    qualification: Qualification | None


class QualificationState(Part, frozen=True, kw_only=True):
    """What to do about a prospect."""

    qualification: Qualification
    since: Time


class StageChange(Announcement, frozen=True, kw_only=True):
    """On `life-cycle`: a customer entered another stage of their life with the shop."""

    change: Literal["stage"]
    before: StageBefore
    after: StageState
    tier: str


class BehaviourChange(Announcement, frozen=True, kw_only=True):
    """On `life-cycle`: a customer buys more or less often than before."""

    change: Literal["behaviour"]
    before: BehaviourState
    after: BehaviourState


class QualificationChange(Announcement, frozen=True, kw_only=True):
    """On `life-cycle`: a prospect was qualified."""

    change: Literal["qualification"]
    before: QualificationBefore
    after: QualificationState


# ---------------------------------------------------------------- the alert ledger
AlertState = Literal["held", "open", "acknowledged", "contacted", "snoozed", "saved", "lost", "dismissed", "recovered"]


class AlertBefore(Part, frozen=True, kw_only=True):
    """The alert before the change."""

    state: AlertState
    owner: str | None


class LedgerEntry(Part, frozen=True, kw_only=True):
    """An alert in the ledger."""

    number: Number
    """The customer's alerts are numbered 1, 2, 3 and so on."""
    kind: Literal["churn"]
    state: AlertState
    """saved, lost, dismissed and recovered are closed."""
    since: Time
    """When it entered this state."""
    opened_at: Time
    deadline: Time | None
    breached: bool
    """Whether the deadline passed before somebody acted."""
    until: Time | None
    """The end of a snooze, or of a hold."""
    hold: Literal["cool-down", "complaint-open"] | None
    """Why it is held."""
    owner: str | None
    reason: str | None
    bought_again: bool
    """Whether the customer has bought since the alert opened."""


class Alert(LedgerEntry, frozen=True, kw_only=True):
    """An alert, with what the person who handles it needs to know."""

    level: str
    main_cause: str
    """As in `churn-risk`."""
    category: str | None
    """Category of the newest open complaint."""
    region: str | None
    """The customer's region at that time."""
    tier: str
    probability: Probability
    value_at_stake: Decimal
    lifetime_value: Decimal
    currency: str
    action: Action | None
    contributions: list[Contribution]


class AlertChange(Announcement, frozen=True, kw_only=True):
    """On `alerts`: a customer's alert changed."""

    change: Literal[
        "opened", "held", "updated", "acknowledged", "contacted", "snoozed", "woke", "released", "breached",
        "saved", "lost", "dismissed", "recovered",
    ]  # fmt: skip
    before: AlertBefore | None
    """null for a new alert."""
    after: Alert


# ---------------------------------------------------------------- profiles
class Answer(Part, frozen=True, kw_only=True):
    """The latest answer to a survey, or given with a complaint."""

    score: Points
    kind: Literal["csat", "nps", "complaint"]
    at: Time


class Potential(Part, frozen=True, kw_only=True):
    """Whether the customer is likely to reach a higher tier."""

    tier: str
    within: Duration
    expected_spend: Decimal
    likely: bool


class LifeCycle(Part, frozen=True, kw_only=True):
    """The customer's stage and behaviour in the life cycle."""

    stage: Stage
    since: Time
    behaviour: Behaviour | None
    qualification: Qualification | UnsetType = UNSET
    """The qualification that the customer had as a prospect."""


class Lifetime(Part, frozen=True, kw_only=True):
    """Everything since the first purchase."""

    first_purchase: Time | None
    last_purchase: Time | None
    orders: int
    """Without fully refunded orders."""
    net_spend: Decimal
    purchase_days: Count
    """Distinct days (UTC) with a purchase."""


class Stretch(Struct, frozen=True, array_like=True):
    """Purchases in one time bucket of the policy's window, an array of three: its start, orders, and net spend."""

    begins: Time
    orders: int
    net_spend: Decimal


class Step(Part, frozen=True, kw_only=True):
    """A step of a complaint."""

    complaint_id: str
    at: Time
    status: ComplaintStatus
    severity: Severity
    category: str | None


class History(Part, frozen=True, kw_only=True):
    """The purchases and complaints that the state still holds, oldest first."""

    purchases: list[Stretch]
    """The latest 200 time buckets that hold something."""
    complaints: list[Step]


class Risk(Part, frozen=True, kw_only=True):
    """The risk part of a profile. Without a purchase there is no probability."""

    level: str
    since: Time | None
    last_alert: Time | None
    alert: LedgerEntry | None
    """The customer's latest alert; null if there was none."""
    probability: Probability | None
    """That the customer buys nothing within the policy's horizon."""
    p_alive: Probability | None
    """That the customer has not left for good."""
    value_at_stake: Decimal
    lifetime_value: Decimal
    contributions: list[Contribution]


class Profile(TierState, frozen=True, kw_only=True):
    """On `profiles`, compacted: the customer as of their clock. A record without a value is an erasure."""

    customer_id: str
    seq: Count
    """`seq` of the customer's latest announcement."""
    revision: Count
    """Grows with every profile of the customer: an older one never replaces a newer one."""
    as_of: Time
    policy: str
    currency: str
    segment: str | UnsetType | None = UNSET
    """If the policy has segments; null if none matches."""
    keeps: Needs | None
    """What keeps the tier; null for the base tier."""
    reaches: Needs | None
    """What reaches the tier above; null for the highest, or a locked one."""
    potential: Potential | UnsetType | None = UNSET
    """If there is a tier above; null if it can't be estimated."""
    life_cycle: LifeCycle | UnsetType = UNSET
    """If the policy has one, and the customer a stage."""
    recency: Duration | None
    """Time since the last purchase."""
    frequency: Count
    """Orders in the policy's window."""
    monetary: Decimal
    """Net spend in the policy's window."""
    active_periods: Count | None
    """Periods of the policy with an order; null if no tier asks for them."""
    satisfaction: Answer | None
    region: str | None
    """The region in the latest event that names one."""
    lifetime: Lifetime
    history: History
    risk: Risk
    due_at: Time | None
    """When time alone changes something next; null if never."""


OUTPUT_BODIES: Final[dict[str, tuple[type[Struct], ...]]] = {
    TIER_CHANGES: (TierChange, Erasure),
    CHURN_RISK: (RiskChange,),
    LIFE_CYCLE: (StageChange, BehaviourChange, QualificationChange),
    ALERTS: (AlertChange,),
    PROFILES: (Profile,),
}
"""The possible bodies of each output topic; where there are several, `change` decides."""


def changes_of(body: type[Struct]) -> tuple[str, ...]:
    """The values of `change` that a body may have; a profile has none.

    >>> changes_of(Erasure)
    ('erase',)
    """
    return get_args(get_type_hints(body).get("change"))


class _Kind(Struct):
    """The field that decides which body it is."""

    change: str = ""


_kind_of: Final = msgspec.json.Decoder(_Kind).decode
_decoders: Final[dict[tuple[str, str], Any]] = {
    (topic, change): msgspec.json.Decoder(body).decode
    for topic, bodies in OUTPUT_BODIES.items()
    for body in bodies
    for change in changes_of(body) or ("",)
}


def decode(topic: str, value: bytes) -> Any:
    """The body of a record of an output topic. Raises msgspec.MsgspecError, which says what is wrong and where."""
    change = _kind_of(value).change
    decoder = _decoders.get((topic, change))
    if decoder is None:
        known = ", ".join(change for name, change in _decoders if name == topic)
        raise msgspec.ValidationError(
            f"Invalid enum value {change!r} - at `$.change`; {topic} has {known or 'no bodies'}"
        )
    return decoder(value)
