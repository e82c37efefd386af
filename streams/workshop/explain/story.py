"""One customer's story by a log: the events, what each changed and why, the effects of time, and the customer now.

The log is read as a replay and the worker read it. Other customers affect a customer in two ways: their events move the
clock, which decides what is late, and thresholds may follow the base. So the clock is moved by every record, but only
the customer's own records are folded, unless the policy's thresholds depend on all customers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

import msgspec
import orjson

import models
from models import counterfactual, story, units
from models.bodies import Command
from models.customer import Customer
from models.events import Event, Rejected
from models.outputs import CLOCK_CAUSE
from models.placement import EVERYBODY_KEY
from models.policy import Policy
from models.policy.editions import Editions
from models.story import Moment
from streams.engine.batch import Batch
from streams.engine.merge import Record
from streams.engine.plan import Plan
from streams.sources.logs import Log
from streams.terminal import printable
from streams.workshop.explain.sentences import announcement_in_words, event_in_words
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import fold_all

LOOK_AHEAD_MS: Final = 5 * 366 * units.DAY_MS
"""How far ahead the effects of time are computed."""
MOST_NEAR_IDS: Final = 5
MOST_COMPARED: Final = 200_000
"""With more ids than this, the search for similar ids would take too long."""


class ExplainError(ValueError):
    """A story can't be told; the message says why, and what to do."""


class _PartialEvent(msgspec.Struct):
    """The fields of a record that could not be used, as far as they are readable."""

    customer_id: str | None = None
    event_id: str | None = None
    occurred_at: Any = None


_decode_partial = msgspec.json.Decoder(_PartialEvent).decode


@dataclass(frozen=True, slots=True)
class StoryEntry:
    """A moment of a customer, and the record that caused it."""

    moment: Moment
    record: Record | None = None


@dataclass
class Story:
    """A customer's moments up to an instant, and the customer then."""

    customer_id: str
    policy: Policy
    at_ms: int
    customer: Customer
    entries: list[StoryEntry] = field(default_factory=list)
    announced: list[dict[str, Any]] | None = None
    """Without a log: the announcements, the latest last; None with a log."""

    def as_json(self, last: int | None = None) -> dict[str, Any]:
        """The whole story, or its last moments; docs/explain.md describes the fields."""
        moments = self.moments()
        return {
            "customer_id": self.customer_id,
            "policy": self.policy.label,
            "currency": self.policy.currency,
            "horizon": units.format_duration(self.policy.risk.horizon_ms),
            "at": units.format_time(self.at_ms),
            "events": sum(one["kind"] == "event" for one in moments),
            "moments": moments if last is None else moments[max(len(moments) - last, 0) :],
            **({} if self.announced is None else {"announced": self.announced}),
            **now_and_ahead(self.customer, self.policy, self.customer_id, self.at_ms),
        }

    def moments(self) -> list[dict[str, Any]]:
        """Every moment, each with what moved the score since the previous one."""
        found, before = [], None
        for one in self.entries:
            found.append(_moment(one, before))
            before = found[-1]["after"]
        return found


def now_and_ahead(customer: Customer, policy: Policy, customer_id: str, at_ms: int) -> dict[str, Any]:
    """A customer at an instant, the effect of one purchase, and the effects of time without one."""
    profile = None
    if not story.is_erased(customer):
        profile = models.profile(story.as_of(customer, policy, at_ms), customer_id, policy)
    return {
        "now": None if profile is None else orjson.loads(profile),
        "with_one_purchase": counterfactual.with_one_purchase(customer, policy, customer_id, at_ms),
        "without_a_purchase": [
            {
                "at": units.format_time(moment.at_ms),
                "tier": moment.after.standing.tier,
                "level": moment.after.standing.risk_level,
                "probability": (story.summary_at(moment.after, policy, moment.at_ms) or {}).get("probability"),
                "announcements": bodies_of([moment]),
            }
            for moment in story.by_time(customer, at_ms + LOOK_AHEAD_MS, policy, customer_id)
            if moment.after is not None
        ],
    }


def _moment(one: StoryEntry, previous: dict[str, Any] | None) -> dict[str, Any]:
    moment, policy = one.moment, one.moment.policy
    kind = "event" if one.record is not None else "clock" if moment.cause == CLOCK_CAUSE else "edition"
    before_ms = moment.at_ms - 1 if kind == "clock" else moment.at_ms
    before = None if moment.before is None else story.summary_at(moment.before, policy, before_ms)
    after = None if moment.after is None else story.summary_at(moment.after, policy, moment.at_ms)
    return {
        "at": units.format_time(moment.at_ms) if moment.at_ms >= 0 else None,
        "kind": kind,
        "cause": moment.cause,
        "policy": policy.label,
        "event": None if one.record is None else _event(one.record, policy),
        "verdict": moment.verdict,
        "late": moment.is_late,
        "reason": None if moment.rejected is None else {"code": moment.rejected.code, "detail": moment.rejected.detail},
        "before": before,
        "after": after,
        "changed": story.differences(before, after),
        "moved": {"by_time": story.term_changes(previous, before), "by_this": story.term_changes(before, after)},
        "announcements": bodies_of([moment]),
    }


def bodies_of(moments: Iterable[Moment]) -> list[dict[str, Any]]:
    """The announcements of moments: the bodies, each with its topic and its text."""
    found = []
    for output in (output for moment in moments for output in moment.outputs):
        body = orjson.loads(output.body)
        found.append({"topic": output.topic, "text": announcement_in_words(output.topic, body), **body})
    return found


def _event(record: Record, policy: Policy) -> dict[str, Any]:
    try:
        body = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        body = None
    event, fields = record.decoded, body if isinstance(body, dict) else {}
    at, text = _time_of(fields), f"a record of {record.topic or 'no topic'} that can't be used"
    if isinstance(event, Event):
        at, text = units.format_time(event.occurred_at_ms), event_in_words(event, fields, policy)
    return {"topic": record.topic, "event_id": fields.get("event_id"), "occurred_at": at, "text": text, "body": body}


def _time_of(fields: dict[str, Any]) -> str | None:
    """The time of a record that can't be used; None if it has none that is readable."""
    with suppress(ValueError, OverflowError):
        return units.format_time(units.parse_time(str(fields.get("occurred_at"))))
    return None


# ---------------------------------------------------------------- by a log
class StoryReplay(Replay):
    """A replay that records the moments of one customer."""

    def __init__(self, policy: Policy, customer_id: str, with_recorded_thresholds: bool, until_ms: int | None) -> None:
        super().__init__(policy, with_recorded_thresholds)
        self.ids: set[bytes] = set()
        self.entries: list[StoryEntry] = []
        self._id, self._key = customer_id, customer_id.encode()
        self._until_ms = until_ms
        self._customer: Customer | None = None

    def fold(self, records: list[Record]) -> Iterator[Batch]:
        """Fold the customer's own records; all records if the policy's thresholds depend on all customers."""
        mine, latest_ms = [], -1
        for record in records:
            event = record.decoded
            if isinstance(event, Rejected):
                if self._is_about_them(record):
                    mine.append(record)
                continue
            latest_ms = max(latest_ms, event.occurred_at_ms)
            self.ids.add(event.key)
            if self._relative is not None or event.key in (self._key, EVERYBODY_KEY):
                mine.append(record)
        yield from super().fold(mine)
        if self._relative is None:
            self.partition.clock_ms = max(self.partition.clock_ms, latest_ms)

    def fold_plan(self, plan: Plan) -> Batch:
        """Record the moments of the customer in a plan, and fold it."""
        editions = self.partition.editions
        if self._key in plan.due:
            self._switch_edition(editions)
            assert self._customer is not None, "a customer who is due is in the table"
            self._record(story.by_time(self._customer, plan.until_ms, editions.current, self._id))
        if self._key in plan.review:
            self._switch_edition(editions)
        for record in plan.records:
            event = record.decoded
            if isinstance(event, Rejected):
                self._reject(record, event, editions.current)
            elif event.key == EVERYBODY_KEY and isinstance(event.body, Command):
                editions = _begun(editions, event.body, event.occurred_at_ms)
            elif event.key == self._key:
                self._switch_edition(editions)
                self._record(story.by_event(self._customer, event, editions.current), record)
        return super().fold_plan(plan)

    def _switch_edition(self, editions: Editions) -> None:
        """Record what the edition in force changes for the customer, if they are still under an earlier one."""
        while self._customer is not None and self._customer.edition != editions.number:
            before, edition = next(iter(editions.steps_from(self._customer.edition)))
            self._record(story.by_edition(self._customer, before, edition.policy, edition.effective_ms, self._id))

    def _record(self, moments: Generator[Moment, None, Customer], record: Record | None = None) -> None:
        found, self._customer = story.collect(moments)
        self.entries += [StoryEntry(moment) for moment in found[:-1]]
        self.entries += [StoryEntry(moment, record) for moment in found[-1:]]

    def _is_about_them(self, record: Record) -> bool:
        """Whether a record that can't be used names this customer, and a time up to the instant of the story."""
        if record.value is None or self._key not in record.value:
            return False
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            partial = _decode_partial(record.value)
            at_ms = -1
            with suppress(ValueError):
                at_ms = units.parse_time(str(partial.occurred_at))
            return partial.customer_id == self._id and (self._until_ms is None or at_ms <= self._until_ms)
        return False

    def _reject(self, record: Record, why: Rejected, policy: Policy) -> None:
        if self._is_about_them(record):
            cause = _decode_partial(record.value or b"").event_id or ""
            at_ms = -1 if self._customer is None else self._customer.clock_ms
            moment = Moment(at_ms, cause, policy, None, "rejected", why, False, self._customer, self._customer)
            self.entries.append(StoryEntry(moment, record))

    def story(self, at_ms: int) -> Story:
        """The story that was recorded. Raises ExplainError if the customer has no moment."""
        if self._customer is None:
            raise ExplainError(_unknown(self._id, self.ids, at_ms))
        return Story(self._id, self.partition.editions.current, at_ms, self._customer, self.entries)


def story_from_log(
    customer_id: str,
    logs: Sequence[Log],
    policy: Policy,
    at_ms: int | None,
    progress: bool,
    with_recorded_thresholds: bool = False,
) -> Story:
    """A customer's story by a log, up to and including an instant; without one, up to the end of the log.

    Events that occurred later are left out. Raises LogError or ExplainError.
    """
    replay = StoryReplay(policy, customer_id, with_recorded_thresholds, at_ms)
    keep = None if at_ms is None else [lambda record: record.occurred_at_ms <= at_ms] * len(logs)
    fold_all(replay, logs, [policy.decoder()] * len(logs), lambda batch: None, progress, keep, "reading")
    until_ms = replay.partition.clock_ms if at_ms is None else at_ms
    for _ in replay.finish(until_ms):
        pass
    return replay.story(until_ms)


def _begun(editions: Editions, command: Command, at_ms: int) -> Editions:
    """The editions after a command, as a batch applies it: one that was sent twice or does not fit is ignored."""
    if command.edition is not None and command.edition <= editions.number:
        return editions
    with suppress(ValueError):
        return editions.extended_by(command, at_ms)
    return editions


def _unknown(customer_id: str, ids: set[bytes], at_ms: int) -> str:
    until = f" up to {units.format_time(at_ms)}" if at_ms >= 0 else ""
    message = f"the log has no customer {customer_id!r}{until}; it has {len(ids):,} others"
    if len(ids) > MOST_COMPARED:
        return message
    near = get_close_matches(customer_id, sorted(key.decode() for key in ids), MOST_NEAR_IDS)
    return f"{message}; similar ids are {', '.join(map(printable, near))}" if near else message
