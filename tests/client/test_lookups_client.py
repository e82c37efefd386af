"""Look-ups from a program, against a small server that keeps to the contract."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import uvicorn
from litestar import Litestar, Request, Response, get, post
from litestar.params import FromPath, FromQuery, JSONBody

from streams.client.lookups import LookupFailed, Lookups
from tests.builders import policy_text, purchase
from tests.integration.harness import wait_until
from tests.models.test_contracts import ALERT
from tests.outputs import profiles
from tests.running import Fold, policy_of

KEY = "secret"


def profile_of(customer_id: str) -> dict[str, Any]:
    fold = Fold(policy_of(policy_text()))
    fold.apply(purchase(customer_id, "120", on="2026-01-31"))
    ((_, value),) = profiles(fold)
    found: dict[str, Any] = json.loads(value)
    return found


class Store:
    """What the server knows, and what it was asked."""

    def __init__(self) -> None:
        self.customers: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, int]] = []

    def put(self, customer_id: str, seq: int = 1, **more: Any) -> None:
        self.customers[customer_id] = {
            "customer_id": customer_id, "tier": "gold", "tier_since": "2026-01-31T00:00:00Z", "risk_level": "none",
            "probability": 0.25, "value_at_stake": "120.00", "seq": seq, "revision": seq, "profile": profile_of(customer_id),
        } | more  # fmt: skip


def problem(status: int, code: str, title: str) -> Response[Any]:
    body = {"type": f"urn:tierstream:problem:{code}", "title": title, "status": status, "detail": "Do this."}
    return Response(json.dumps(body).encode(), status_code=status, media_type="application/problem+json")


def application(store: Store) -> Litestar:
    def answer(request: Request[Any, Any, Any], body: Any, etag: str | None = None) -> Response[Any]:
        if request.headers.get("x-api-key") != KEY:
            return problem(401, "key-unknown", "This API key is not known")
        status = 304 if etag and request.headers.get("if-none-match") == etag else 200
        store.asked.append((request.url.path, status))
        return Response(
            b"" if status == 304 else json.dumps(body).encode(),
            status_code=status, headers={"ETag": etag} if etag else {}, media_type="application/json",
        )  # fmt: skip

    @get("/v1/customers/{customer_id:str}", sync_to_thread=False)
    def one(customer_id: FromPath[str], request: Request[Any, Any, Any]) -> Response[Any]:
        found = store.customers.get(customer_id)
        if found is None:
            return problem(404, "customer-unknown", "No such customer")
        return answer(request, found, f'"{found["revision"]}.{found["seq"]}"')

    @post("/v1/customers:batch", status_code=200, sync_to_thread=False)
    def some(data: JSONBody[list[str]], request: Request[Any, Any, Any]) -> Response[Any]:
        known = [store.customers[customer_id] for customer_id in data if customer_id in store.customers]
        assert len(data) <= 500
        return answer(
            request,
            {
                "customers": known,
                "unknown": [customer_id for customer_id in data if customer_id not in store.customers],
            },
        )

    @get("/v1/tiers/{tier:str}/customers", sync_to_thread=False)
    def members(
        tier: FromPath[str], first: FromQuery[int], count: FromQuery[int], request: Request[Any, Any, Any]
    ) -> Response[Any]:
        found = [
            {"customer_id": customer_id, "since": one["tier_since"]}
            for customer_id, one in store.customers.items()
            if one["tier"] == tier
        ]
        page = {"tier": tier, "total": len(found), "first": first, "customers": found[first : first + count]}
        return answer(request, page)

    @get("/v1/alerts", sync_to_thread=False)
    def alerts(first: FromQuery[int], count: FromQuery[int], request: Request[Any, Any, Any]) -> Response[Any]:
        alert: dict[str, Any] = ALERT["after"]  # type: ignore[assignment]
        is_open = request.query_params.get("state", "open") == "open"
        found = [{"customer_id": "ada", **alert}][first : first + count] if is_open else []
        return answer(request, {"total": len(found), "first": first, "alerts": found})

    return Litestar([one, some, members, alerts], openapi_config=None)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application(store), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started, 30, "the server")
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture
def lookups(address: str) -> Iterator[Lookups]:
    with Lookups(address, KEY) as made:
        yield made


def test_a_customer_is_an_instance_with_the_profile(lookups: Lookups, store: Store) -> None:
    store.put("ada")
    found = lookups.customer("ada")
    assert found is not None
    assert (found.tier, found.value_at_stake) == ("gold", Decimal("120.00"))
    assert found.tier_since == datetime(2026, 1, 31, tzinfo=UTC)
    assert found.profile is not None
    assert found.profile.lifetime.net_spend == Decimal("120.00")


def test_an_unknown_customer_is_none(lookups: Lookups) -> None:
    assert lookups.customer("nobody") is None


def test_an_unchanged_customer_is_not_sent_again(lookups: Lookups, store: Store) -> None:
    store.put("ada")
    first = lookups.customer("ada")
    assert lookups.customer("ada") is first
    store.put("ada", seq=2, tier="silver")
    changed = lookups.customer("ada")
    assert changed is not None
    assert (changed.tier, lookups.customer("ada")) == ("silver", changed)
    assert [status for _, status in store.asked] == [200, 304, 200, 304]
    del store.customers["ada"]
    assert lookups.customer("ada") is None
    store.put("ada")
    assert lookups.customer("ada") == first


def test_no_more_answers_are_kept_than_wanted(address: str, store: Store) -> None:
    for customer_id in ("ada", "bob", "eve"):
        store.put(customer_id)
    with Lookups(address, KEY, kept=2) as lookups:
        for customer_id in ("ada", "bob", "ada", "eve", "ada", "bob"):
            lookups.customer(customer_id)
    assert [status for _, status in store.asked] == [200, 200, 304, 200, 304, 200]


def test_ids_are_sent_as_they_are(lookups: Lookups, store: Store) -> None:
    for customer_id in ("a b", "ä/ö", "50%", "?x=1"):
        store.put(customer_id)
        found = lookups.customer(customer_id)
        assert found is not None, customer_id
        assert found.customer_id == customer_id


def test_many_customers_are_asked_for_in_as_few_requests_as_possible(lookups: Lookups, store: Store) -> None:
    store.put("ada")
    store.put("bob")
    found = lookups.customers(["ada", *map(str, range(600)), "bob"])
    assert list(found) == ["ada", "bob"]
    assert store.asked == [("/v1/customers:batch", 200)] * 2
    assert lookups.customers([]) == {}


def test_a_tier_s_customers_come_page_by_page(lookups: Lookups, store: Store) -> None:
    for customer_id in ("ada", "bob", "eve"):
        store.put(customer_id)
    page = lookups.tier("gold", first=1, count=1)
    assert (page.total, page.first, [one.customer_id for one in page.customers]) == (3, 1, ["bob"])


def test_alerts_are_as_the_server_has_them(lookups: Lookups) -> None:
    page = lookups.alerts()
    assert (page.total, page.alerts[0].customer_id, page.alerts[0].state) == (1, "ada", "open")
    assert lookups.alerts(state="held").alerts == []


def test_a_refusal_has_the_words_of_the_server(address: str, store: Store) -> None:
    store.put("ada")
    with (
        Lookups(address, "wrong") as lookups,
        pytest.raises(
            LookupFailed, match=r"GET .*/v1/customers/ada: 401: This API key is not known: Do this\."
        ) as failed,
    ):
        lookups.customer("ada")
    assert failed.value.status == 401


def test_a_wrong_address_is_not_an_unknown_customer(address: str) -> None:
    with Lookups(f"{address}/elsewhere", KEY) as lookups, pytest.raises(LookupFailed, match="404") as failed:
        lookups.customer("ada")
    assert failed.value.status == 404


def test_no_answer_at_all_is_reported_with_the_address() -> None:
    with (
        Lookups("http://127.0.0.1:9", KEY) as lookups,
        pytest.raises(LookupFailed, match=r"127\.0\.0\.1:9.*address right"),
    ):
        lookups.customer("ada")
