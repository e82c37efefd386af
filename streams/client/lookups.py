"""Looks up a customer's tier, risk and profile over HTTP, in a program of your own.

    from streams.client import Lookups

    with Lookups("https://tierstream.example", api_key="...") as lookups:
        ada = lookups.customer("ada")
        if ada is not None and ada.tier == "gold":
            ...

Answers are instances of the classes below. The client keeps the last 1,000 customers with the ETags of their answers: a
customer that has not changed is not sent again. One `Lookups` may be used by many threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from models.contracts import Alert, Profile

T = TypeVar("T")

KEPT: Final = 1_000
MOST_AT_ONCE: Final = 500
"""Customers in one request."""
TIMEOUT_SECONDS: Final = 10.0
UNKNOWN: Final = ":customer-unknown"
"""The end of the problem's type for an unknown customer; a wrong address is another problem."""
RETRIES: Final = 2
"""How often a connection that failed is tried again."""


class Customer(Struct, frozen=True):
    """What a customer is now."""

    customer_id: str
    tier: str
    tier_since: datetime
    risk_level: str
    probability: float | None
    value_at_stake: Decimal | None
    seq: int
    profile: Profile | None
    """None until the first one was published."""


class Member(Struct, frozen=True):
    """A customer of a tier."""

    customer_id: str
    since: datetime


class Members(Struct, frozen=True):
    """A page of a tier's customers, the longest in the tier first."""

    tier: str
    total: int
    first: int
    customers: list[Member]


class OpenAlert(Alert, frozen=True, kw_only=True):
    """An alert as it is now, and whose it is."""

    customer_id: str


class Alerts(Struct, frozen=True):
    """A page of alerts, the most urgent first."""

    total: int
    first: int
    alerts: list[OpenAlert]


class _Some(Struct):
    customers: list[Customer]


class _Problem(Struct):
    """Problem details (RFC 9457)."""

    type: str = ""
    title: str = ""
    detail: str = ""


class LookupFailed(RuntimeError):
    """A request that was refused, or no answer; the message says what to do. `status` is 0 if there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Lookups:
    """The look-ups of one installation."""

    def __init__(
        self, base_url: str, api_key: str, *, kept: int = KEPT, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            headers={"X-API-Key": api_key},
            timeout=TIMEOUT_SECONDS,
            transport=transport or httpx.HTTPTransport(retries=RETRIES),
        )
        self._kept = kept
        self._answers: OrderedDict[str, tuple[str, Customer]] = OrderedDict()
        """Per customer the latest answer and its ETag, the least recently used first."""
        self._lock = threading.Lock()

    # ------------------------------------------------------------ asking
    def customer(self, customer_id: str) -> Customer | None:
        """What a customer is now; None for an unknown customer. Raises LookupFailed."""
        if "/" in customer_id:  # an address can't hold it
            return self.customers([customer_id]).get(customer_id)
        with self._lock:
            etag, before = self._answers.get(customer_id, ("", None))
        answer = self._ask(
            "GET", f"/v1/customers/{quote(customer_id, safe='')}", {"If-None-Match": etag} if etag else {}, (304, 404)
        )
        if answer.status_code == 304 and before is not None:
            found: Customer | None = before
        elif answer.status_code == 404:
            if not _problem(answer).type.endswith(UNKNOWN):
                raise _refused(answer)
            found = None
        else:
            found = _decode(answer, Customer)
        self._keep(customer_id, answer.headers.get("etag", etag), found)
        return found

    def customers(self, ids: Sequence[str]) -> dict[str, Customer]:
        """The known ones of these customers, by id. Raises LookupFailed."""
        found: dict[str, Customer] = {}
        for first in range(0, len(ids), MOST_AT_ONCE):
            answer = self._ask("POST", "/v1/customers:batch", json=list(ids[first : first + MOST_AT_ONCE]))
            found |= {one.customer_id: one for one in _decode(answer, _Some).customers}
        return found

    def tier(self, name: str, first: int = 0, count: int = 100) -> Members:
        """A page of a tier's customers, and how many the tier has. Raises LookupFailed."""
        answer = self._ask(
            "GET", f"/v1/tiers/{quote(name, safe='')}/customers", params={"first": first, "count": count}
        )
        return _decode(answer, Members)

    def alerts(self, first: int = 0, count: int = 50, **only: str) -> Alerts:
        """A page of alerts, the most urgent first; `state`, `tier`, `cause`, `region` and `owner` are filters. Raises LookupFailed."""
        return _decode(self._ask("GET", "/v1/alerts", params={"first": first, "count": count, **only}), Alerts)

    # ------------------------------------------------------------ answers
    def _ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, expected: tuple[int, ...] = (), **more: Any
    ) -> httpx.Response:
        try:
            answer = self._client.request(method, path, headers=headers, **more)
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
            raise LookupFailed(0, f"no answer from {self._client.base_url} ({what}); is the address right?") from None
        if answer.status_code == 200 or answer.status_code in expected:
            return answer
        raise _refused(answer)

    def _keep(self, customer_id: str, etag: str, found: Customer | None) -> None:
        with self._lock:
            self._answers.pop(customer_id, None)
            if found is not None and etag:
                self._answers[customer_id] = (etag, found)
                if len(self._answers) > self._kept:
                    self._answers.popitem(last=False)

    # ------------------------------------------------------------ ending
    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _problem(answer: httpx.Response) -> _Problem:
    is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    return _decode(answer, _Problem) if is_problem else _Problem()


def _refused(answer: httpx.Response) -> LookupFailed:
    problem = _problem(answer)
    what = ": ".join(one for one in (problem.title, problem.detail) if one) or answer.reason_phrase
    request = answer.request
    return LookupFailed(answer.status_code, f"{request.method} {request.url}: {answer.status_code}: {what}")


def _decode(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise LookupFailed(
            answer.status_code, f"{answer.url} answers something else than a look-up ({error}); is the address right?"
        ) from None
