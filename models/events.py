"""Input events (purchases, complaints, feedback, prospects and commands), decoded from bytes and validated.

`Decoder.decode` returns an event or a `Rejected`; no input makes it raise. A rejection carries a
stable reason code (`REASONS`) and a sentence that names the field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec
from mypy_extensions import mypyc_attr
from xxhash import xxh3_64_digest

from models import units
from models.bodies import (
    EVERYBODY,
    MAX_ID_CHARACTERS,
    TOPIC_BODIES,
    Command,
    Complaint,
    Feedback,
    Prospect,
    Purchase,
)

MAX_RECORD_BYTES: Final = 64 * 1024
MAX_AMOUNT_MINOR: Final = 10**13
MAX_DETAIL_CHARACTERS: Final = 1_000
FUTURE_TOLERANCE_MS: Final = units.DAY_MS
"""How much later than the Kafka record's timestamp `occurred_at` may be: clocks differ, but not by more than a day."""

REASONS: Final = {
    "not_json": "the value is not JSON",
    "not_an_object": "the value is JSON, but not an object",
    "unknown_schema": "of a live source: the registry has no schema of that id, or none that can be used",
    "unreadable": "of a live source: the value is not as its schema says",
    "too_large": "the value is longer than an event can be",
    "missing_field": "a field that must be there is not",
    "wrong_type": "a field has another type than the contract gives it",
    "unknown_value": "a field has a value that is not in its list",
    "bad_id": "an id is empty or longer than 128 characters",
    "key_mismatch": "the record's key is not its customer_id",
    "wrong_partition": "the record is in another partition than its customer lives in",
    "bad_amount": "the amount is not a decimal number",
    "amount_out_of_range": "the amount is negative or absurdly large",
    "too_many_decimals": "the amount has more decimals than its currency",
    "unknown_currency": "the policy neither uses nor converts this currency",
    "score_out_of_range": "a satisfaction score is not within 0 and 100",
    "bad_time": "a time is not RFC 3339 with an offset, or not within 1970 and 2100",
    "time_in_future": "occurred_at lies more than a day after the record's own timestamp",
    "bad_edition": "an edition does not follow the one in force, or does not fit the policy",
    "unknown_tier": "a lock names a tier that the policy does not have",
    "reason_required": "a command that has to give a reason gives none",
    "too_late": "the event is older than the policy's allowed lateness",
}
"""Every reason code and its meaning. Codes are a contract: they are added, never renamed."""

_digest: Final = xxh3_64_digest
# No int: parsing up to 4,300 digits takes quadratic time. A float is precise enough to tell all accepted amounts apart.
_decode_amount: Final = msgspec.json.Decoder(str | float).decode


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Event:
    """A valid event, ready to be folded: times in ms, money in minor units of the policy's currency.

    It keeps only the parts of the body that the fold uses, since thousands of events may be waiting in memory.
    """

    topic: str
    customer_id: str
    key: bytes
    """The customer's id as bytes: the key of records and tables."""
    event_id: str
    occurred_at_ms: int
    event_hash: bytes
    """Eight bytes: the hash of topic and event_id, for the customer's de-duplication list."""
    body: Complaint | Feedback | Prospect | Command | None
    """None for a purchase or refund, which the following fields describe."""
    amount_minor: int
    is_refund: bool
    is_full: bool
    """Whether a refund covers the whole order."""
    booked_at_ms: int
    """When the purchase was made; for a refund, when the refunded purchase was made, as far as that is known."""
    region: str
    """The customer's region; empty if the event names none."""
    until_ms: int
    """The end of a snooze; -1 for any other event."""

    def __init__(
        self,
        topic: str,
        customer_id: str,
        key: bytes,
        event_id: str,
        occurred_at_ms: int,
        event_hash: bytes,
    ) -> None:
        self.topic = topic
        self.customer_id = customer_id
        self.key = key
        self.event_id = event_id
        self.occurred_at_ms = occurred_at_ms
        self.event_hash = event_hash
        self.body = None
        self.amount_minor = 0
        self.is_refund = self.is_full = False
        self.booked_at_ms = occurred_at_ms
        self.region = ""
        self.until_ms = -1


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Rejected:
    """A record that can't be used, and why."""

    code: str
    detail: str

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        # A detail may quote input of any length; it is cut so that it fits into a header and a log line.
        fits = len(detail) <= MAX_DETAIL_CHARACTERS
        self.detail = detail if fits else detail[: MAX_DETAIL_CHARACTERS - 1] + "…"


class Decoder:
    """Decodes the records of the input topics under one policy's currencies.

    `rates` gives, per accepted currency, the exact fraction (numerator, denominator) by which its minor
    units become the policy's; the policy's own currency has (1, 1).
    """

    def __init__(self, rates: dict[str, tuple[int, int]]) -> None:
        self._rates = {currency: (*rate, units.currency_decimals(currency)) for currency, rate in rates.items()}
        """Per currency the fraction, and the number of decimals of its amounts."""
        self._decode = {topic: msgspec.json.Decoder(body).decode for topic, body in TOPIC_BODIES.items()}

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """The event in `value`, or the reason why it is rejected.

        `key` is the record's key and `timestamp_ms` its Kafka timestamp; each is checked only if it is given, since a
        line of a file has neither. A negative timestamp is ignored: in Kafka it means that there is none.
        """
        if value is None:
            return Rejected("not_json", "the record has no value; an event is a JSON object")
        if len(value) > MAX_RECORD_BYTES:
            return Rejected("too_large", f"{len(value)} bytes; an event has at most {MAX_RECORD_BYTES}")
        try:
            body = self._decode[topic](value)
        except msgspec.ValidationError as invalid:
            return _invalid(str(invalid))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _not_json(error)
        customer_id = body.customer_id
        customer_key = customer_id.encode()
        if key is None:
            key = customer_key
        elif key != customer_key:
            shown = key[:MAX_ID_CHARACTERS].decode(errors="replace")
            return Rejected("key_mismatch", f"the record's key is {shown!r}, its customer_id {customer_id!r}")
        occurred_at = body.occurred_at
        occurred_at_ms = occurred_at if isinstance(occurred_at, int) else units.ms_from_datetime(occurred_at)
        if occurred_at_ms < 0 or occurred_at_ms >= units.LATEST_MS:
            return Rejected("bad_time", f"occurred_at {occurred_at} is not within 1970 and 2100")
        if timestamp_ms is not None and 0 <= timestamp_ms < occurred_at_ms - FUTURE_TOLERANCE_MS:
            return Rejected(
                "time_in_future",
                f"occurred_at {units.format_time(occurred_at_ms)} is more than a day after "
                f"the record's timestamp {units.format_time(timestamp_ms)}",
            )
        event_id = body.event_id
        event_hash = _digest(f"{topic}/{event_id}".encode())
        event = Event(topic, customer_id, key, event_id, occurred_at_ms, event_hash)
        if isinstance(body, Purchase):
            if body.region is not None:
                event.region = body.region
            return self._with_money(event, body)
        event.body = body
        if isinstance(body, Command):
            return self._checked_command(event, body)
        if isinstance(body, (Complaint, Prospect)) and body.region is not None:
            event.region = body.region
        return event

    def _with_money(self, event: Event, body: Purchase) -> Event | Rejected:
        currency = body.currency
        rate = self._rates.get(currency)
        if rate is None:
            known = ", ".join(self._rates)
            return Rejected("unknown_currency", f"currency {currency[:20]!r} is not among {known}")
        numerator, denominator, decimals = rate
        amount_minor = units.parse_plain_minor(bytes(body.amount), decimals)
        try:
            if amount_minor == units.NOT_PLAIN:
                amount_minor = units.parse_minor(_decode_amount(body.amount), decimals)
        except units.AmountError as refused:
            return Rejected(refused.code, str(refused))
        except msgspec.ValidationError as invalid:
            return _invalid(f"{invalid} - at `$.amount`")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _not_json(error)
        if amount_minor < 0 or amount_minor > MAX_AMOUNT_MINOR:
            return Rejected("amount_out_of_range", f"amount {_shown(body)} is negative or absurdly large")
        if numerator != denominator:
            amount_minor = _round_half_even(amount_minor * numerator, denominator)
            if amount_minor > MAX_AMOUNT_MINOR:
                return Rejected(
                    "amount_out_of_range", f"amount {_shown(body)} {currency}, converted, is absurdly large"
                )
        event.amount_minor = amount_minor
        is_refund = body.kind == "refund"
        original = body.original_occurred_at
        if original is not None:
            original_ms = original if isinstance(original, int) else units.ms_from_datetime(original)
            if not 0 <= original_ms <= event.occurred_at_ms:
                return Rejected("bad_time", "original_occurred_at is not within 1970 and occurred_at")
            if is_refund:
                event.booked_at_ms = original_ms
        if is_refund:
            event.is_refund, event.is_full = True, body.full_order
        return event

    def _checked_command(self, event: Event, body: Command) -> Event | Rejected:
        if (body.command == "use_edition") != (body.customer_id == EVERYBODY):
            return Rejected(
                "bad_id", f"use_edition, and no other command, is for the customer {EVERYBODY!r}: for everybody"
            )
        if body.command == "use_edition" and (
            body.edition is None or not (body.breakpoints or body.parameters or body.policy)
        ):
            return Rejected(
                "missing_field", "use_edition needs the field edition, and breakpoints, parameters or policy"
            )
        if body.command == "lock_tier" and body.tier is None:
            return Rejected("missing_field", "lock_tier needs the field tier")
        if body.command == "act_on_alert" and body.action is None:
            return Rejected("missing_field", "act_on_alert needs the field action")
        if body.action == "snoozed":
            if body.until is None:
                return Rejected("missing_field", "snoozed needs the field until")
            until_ms = body.until if isinstance(body.until, int) else units.ms_from_datetime(body.until)
            if not 0 <= until_ms < units.LATEST_MS:
                return Rejected("bad_time", f"until {body.until} is not within 1970 and 2100")
            event.until_ms = until_ms
        needs_reason = body.command in ("lock_tier", "unlock_tier") or body.action == "dismissed"
        if needs_reason and not (body.reason and body.reason.strip()):
            return Rejected("reason_required", f"{body.action or body.command} needs the field reason")
        return event


def _shown(body: Purchase) -> str:
    return bytes(body.amount).decode().strip('"')


def _round_half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


# msgspec reports errors as text; the contract has codes. test_events.py checks every pair against msgspec.
_INVALID = (
    (re.compile(r"Object missing required field `(\w+)`()"), "missing_field"),
    (re.compile(r"Expected `object`, got `(\w+)`()$"), "not_an_object"),
    (re.compile(r"Expected `str` of length (?:[<>]=) \d+ - at `\$\.(event_id|customer_id|order_id|complaint_id|tier)`()"), "bad_id"),
    (re.compile(r"Expected `int` [<>]=? \d+ - at `\$\.(score|satisfaction)`()"), "score_out_of_range"),
    (re.compile(r"Invalid enum value (.*) - at `\$\.(\w+)`", re.DOTALL), "unknown_value"),
    (re.compile(r"(?:Invalid RFC3339|Expected `datetime` with).* - at `\$\.(\w+)`()", re.DOTALL), "bad_time"),
    (re.compile(r"Expected `int` [<>]=? \d+ - at `\$\.(occurred_at|original_occurred_at|until)`()"), "bad_time"),
    (re.compile(r"(?:Number|Integer) .*out of range - at `\$\.(amount)`()"), "amount_out_of_range"),
    (re.compile(r"Expected .* - at `\$\.(\w+)`()", re.DOTALL), "wrong_type"),
)  # fmt: skip


def _not_json(error: Exception) -> Rejected:
    return Rejected("not_json", f"not JSON: {str(error).removeprefix('JSON is malformed: ')}")


def _invalid(message: str) -> Rejected:
    shown = message.replace(" - at `$.", ", at `") if len(message) <= 300 else message[:300] + "…"
    for pattern, code in _INVALID:
        if pattern.match(message):
            return Rejected(code, shown)
    return Rejected("wrong_type", shown)
