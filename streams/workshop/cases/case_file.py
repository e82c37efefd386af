"""Reads a file of test customers: the events of each, and what is expected of them at some instants.

The file is TOML or JSON. An event has a short form whose kind is given by the one key that it must have (`amount`,
`refund`, `complaint`, `feedback`, `prospect` or `command`); the events of a customer are in the order of their arrival.
Mistakes in a file are reported with their lines, before anything is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from models import units
from models.alerts import ACKNOWLEDGED, CLOSED, CONTACTED, HELD, OPEN, SNOOZED
from models.bodies import Breakpoints
from models.customer import BASE_LEVEL
from models.events import REASONS, Event, Rejected
from models.outputs import ANNOUNCEMENTS
from models.policy import SHIPPED, Policy
from models.policy.problems import PolicyError, Problem, read_toml
from streams.engine.merge import Record
from streams.engine.policy_on_wire import edition_body
from streams.workshop.cases.form import (
    KINDS,
    OF_EVERY_KIND,
    Amount,
    CustomerForm,
    EventForm,
    ExpectationForm,
    FileForm,
    ThresholdsForm,
)
from streams.workshop.cases.line_numbers import line_in

NONE: Final = "none"
"""The expected value where there is nothing: no pending downgrade, no alert, no segment, nothing to keep."""
SCORE_DECIMALS: Final = 3


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of a customer: when it arrives, and its record."""

    line: int
    arrives_ms: int
    """The latest time of the events up to this one: an event that is late arrives together with the event before it."""
    record: Record
    refused: str | None
    """The reason code with which it should be refused; None if it should be accepted."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of a customer at an instant, as the texts that models.outputs and units write."""

    line: int
    at_ms: int
    wanted: dict[str, str]
    announced: dict[str, tuple[str, ...]]
    """By topic, the changes that should have been announced since the previous expectation."""


@dataclass(frozen=True, slots=True)
class Case:
    """A test customer."""

    name: str
    customer_id: str
    line: int
    happenings: tuple[Happening, ...]
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class Cases:
    """The test customers of a file."""

    source: str
    cases: tuple[Case, ...]
    thresholds: tuple[Record, ...]
    """Commands that begin editions with the thresholds of the file; empty if it has none."""


def shipped_cases(name: str) -> list[Path]:
    """The file of test customers that ships with a policy; an empty list if the policy does not ship."""
    if name not in SHIPPED:
        return []
    return [Path(str(resources.files("models") / "policies" / "tests" / f"{name}.toml"))]


def load_cases(path: Path, policy: Policy) -> Cases:
    """The test customers in a file. Raises PolicyError with every problem found."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        problem = Problem(1, "", f"can't read it: {reason}", "Give a TOML or JSON file of test customers")
        raise PolicyError(str(path), [problem]) from None
    return parse_cases(text, str(path), policy, is_json=path.suffix == ".json")


def parse_cases(text: str, source: str, policy: Policy, is_json: bool = False) -> Cases:
    """The test customers in a text. Raises PolicyError with every problem found."""
    raw = _read_json(text, source) if is_json else read_toml(text, source)
    try:
        form = msgspec.convert(_with_times_as_text(raw), FileForm)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`").lstrip(".")
        problem = Problem(
            line_in(text, path, is_json), path, what[:1].lower() + what[1:], "See docs/policies.md, Testing"
        )
        raise PolicyError(source, [problem]) from None
    reader = _Reader(text, source, policy, is_json)
    found = reader.read(form)
    if reader.problems:
        raise PolicyError(source, reader.problems)
    return found


def _read_json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise PolicyError(
            source, [Problem(error.lineno, "", f"not JSON: {error.msg}", "Fix the syntax there")]
        ) from None


def _with_times_as_text(value: Any) -> Any:
    """The same with TOML's dates and times as text, so that TOML and JSON are read in one way."""
    if isinstance(value, dict):
        return {name: _with_times_as_text(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_times_as_text(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


class _Reader:
    """Converts a file's form to records and expectations, and collects the problems."""

    def __init__(self, text: str, source: str, policy: Policy, is_json: bool) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._source = source
        self._policy = policy
        self._is_json = is_json
        self._decoder = policy.decoder()

    def read(self, form: FileForm) -> Cases:
        """All customers; only to be used if no problem was found."""
        if not form.customers:
            self._problem("customers", "there is no customer", "Add [[customers]]")
        cases = tuple(self._case(number, one) for number, one in enumerate(form.customers))
        if form.thresholds and self._policy.relative is None:
            self._problem("lines", f"{self._policy.ref} has no thresholds that follow its base", "Remove [[lines]]")
        thresholds = tuple(self._thresholds(number, one) for number, one in enumerate(form.thresholds))
        return Cases(self._source, cases, thresholds)

    def _problem(self, path: str, what: str, fix: str) -> None:
        self.problems.append(Problem(line_in(self._text, path, self._is_json), path, what, fix))

    def _read(self, path: str, parser: Callable[[Any], Any], value: Any, otherwise: Any = 0) -> Any:
        try:
            return parser(value)
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            self._problem(path, what, fix[:1].upper() + fix[1:] if fix else "Write a valid value")
            return otherwise

    def _time(self, path: str, given: str | int) -> int:
        at_ms: int = self._read(path, lambda value: units.parse_time(str(value)), given)
        if not 0 <= at_ms < units.LATEST_MS:
            self._problem(path, f"{given} is not within 1970 and 2100", "Write a time such as 2026-01-31")
        return at_ms

    def _case(self, number: int, form: CustomerForm) -> Case:
        path, customer_id = f"customers[{number}]", f"customer-{number + 1}"
        happenings: list[Happening] = []
        arrives_ms = 0
        for place, event in enumerate(form.events):
            found = self._happening(f"{path}.events[{place}]", customer_id, place, event, arrives_ms)
            if found is not None:
                happenings.append(found)
                arrives_ms = found.arrives_ms
        expectations = [self._expectation(f"{path}.expect[{place}]", one) for place, one in enumerate(form.expect)]
        if not form.expect:
            self._problem(path, f"nothing is expected of {form.name!r}", "Add expect = [{ at = ..., tier = ... }]")
        for place, (before, after) in enumerate(pairwise(expectations), 1):
            if after.at_ms < before.at_ms:
                self._problem(f"{path}.expect[{place}]", "is earlier than the one before it", "Put them in order")
        line = line_in(self._text, path, self._is_json)
        return Case(form.name, customer_id, line, tuple(happenings), tuple(expectations))

    # ------------------------------------------------------------ events
    def _happening(self, path: str, customer_id: str, place: int, form: EventForm, arrives_ms: int) -> Happening | None:
        given = {name for name in form.__struct_fields__ if getattr(form, name) is not None}
        kinds = given & KINDS.keys()
        if len(kinds) != 1:
            what = "does not say what happens" if not kinds else f"has several kinds, {' and '.join(sorted(kinds))}"
            self._problem(path, what, f"Give it exactly one of {', '.join(KINDS)}")
            return None
        (kind,) = kinds
        topic, allowed = KINDS[kind]
        for name in sorted(given - allowed - OF_EVERY_KIND - {kind}):
            more = ", ".join(sorted(allowed)) or "nothing more"
            self._problem(f"{path}.{name}", f"is not a key of {kind}", f"Remove it; {kind} may have {more}")
        if form.refused is not None and form.refused not in REASONS:
            self._problem(
                f"{path}.refused",
                f"{form.refused!r} is not a reason code",
                "docs/failures.md, Reason codes, has them",
            )
        at_ms = self._time(f"{path}.on", form.on)
        body = {
            "event_id": form.id or f"event-{place + 1}",
            "customer_id": customer_id,
            "occurred_at": at_ms,
            **self._body(path, kind, form),
        }
        value = orjson.dumps({name: one for name, one in body.items() if one is not None})
        decoded = self._decoder.decode(topic, value)
        if isinstance(decoded, Rejected) and decoded.code != form.refused and at_ms >= 0:
            self._problem(
                path, f"{decoded.code}: {decoded.detail}", f'Fix it, or expect it: refused = "{decoded.code}"'
            )
        line = line_in(self._text, path, self._is_json)
        record = Record(topic, 0, place, None, value, None, decoded)
        return Happening(line, max(at_ms, arrives_ms), record, form.refused)

    def _body(self, path: str, kind: str, form: EventForm) -> dict[str, Any]:
        if kind in ("amount", "refund"):
            return {
                "kind": "purchase" if kind == "amount" else "refund",
                "order_id": "order",
                "amount": form.amount if kind == "amount" else form.refund,
                "currency": form.currency or self._policy.currency,
                "region": form.region,
                "original_occurred_at": None if form.of is None else self._time(f"{path}.of", form.of),
                "full_order": form.full,
            }
        if kind == "complaint":
            return {
                "complaint_id": form.complaint,
                "status": form.status or "opened",
                "severity": form.severity or "medium",
                "category": form.category,
                "satisfaction": form.satisfaction,
                "region": form.region,
            }
        if kind == "feedback":
            return {"score": form.feedback, "kind": form.kind or "csat"}
        if kind == "prospect":
            return {
                **{name: name in (form.prospect or ()) for name in ("money", "authority", "need")},
                "region": form.region,
            }
        until_ms = None if form.until is None else self._time(f"{path}.until", form.until)
        named = {name: getattr(form, name) for name in ("tier", "reason", "actor", "owner", "action", "number")}
        return {"command": form.command, "until": until_ms, **named}

    def _thresholds(self, number: int, form: ThresholdsForm) -> Record:
        path = f"lines[{number}]"
        money = lambda value: units.parse_minor(value, self._policy.decimals)  # noqa: E731
        at_ms = self._time(f"{path}.on", form.on)
        breakpoints = Breakpoints(
            as_of_ms=at_ms,
            customers=1,
            top_spend_minor=[self._read(f"{path}.top_spend", money, value) for value in form.top_spend],
            recency_ms=[self._read(f"{path}.recency", units.parse_duration, value) for value in form.recency],
            frequency=form.frequency,
            monetary_minor=[self._read(f"{path}.monetary", money, value) for value in form.monetary],
        )
        body = edition_body(number + 1, at_ms, breakpoints)
        return Record("commands", 0, number, None, body, None, self._decoder.decode("commands", body))

    # ------------------------------------------------------------ expectations
    def _expectation(self, path: str, form: ExpectationForm) -> Expectation:
        policy = self._policy
        levels = [BASE_LEVEL, *(level.name for level in policy.risk.levels)]
        self._one_of(f"{path}.tier", form.tier, policy.ladder.tier_names)
        self._one_of(f"{path}.risk", form.risk, levels)
        self._one_of(f"{path}.alert", form.alert, [NONE, HELD, OPEN, ACKNOWLEDGED, CONTACTED, SNOOZED, *CLOSED])
        self._one_of(f"{path}.segment", form.segment, [NONE, *(one.name for one in policy.segments)])
        for topic in form.announced:
            self._one_of(f"{path}.announced", topic, ANNOUNCEMENTS)
        if form.score is not None and policy.ladder.score_card is None:
            self._problem(f"{path}.score", f"{policy.ref} has no score", "Remove it")
        formats: dict[str, Callable[[Any], str]] = {
            "downgrade_at": lambda value: NONE if value == NONE else units.format_time(units.parse_time(str(value))),
            "spend": lambda value: units.format_minor(units.parse_minor(value, policy.decimals), policy.decimals),
            "score": _score,
            "probability": lambda value: f"{value:.2f}",
            "locked": lambda value: "yes" if value else "no",
        }
        wanted = {}
        for name in form.__struct_fields__:
            value = getattr(form, name)
            if value is not None and name not in ("at", "announced"):
                wanted[name] = self._read(f"{path}.{name}", formats.get(name, str), value, "")
        announced = {topic: tuple(changes) for topic, changes in form.announced.items()}
        if not wanted and not announced:
            self._problem(path, "expects nothing", "Say what the customer should be, such as tier")
        line = line_in(self._text, path, self._is_json)
        return Expectation(line, self._time(f"{path}.at", form.at), wanted, announced)

    def _one_of(self, path: str, given: str | None, allowed: Any) -> None:
        if given is not None and given not in allowed:
            self._problem(path, f"{given!r} is not among {', '.join(allowed)}", "Use one of them")


def _score(value: Amount) -> str:
    return units.format_minor(units.parse_minor(value, SCORE_DECIMALS), SCORE_DECIMALS)


def event_of(record: Record) -> Event | None:
    """The event in a record; None if the policy does not accept it."""
    return record.decoded if isinstance(record.decoded, Event) else None
