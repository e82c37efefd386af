"""The page `/customers/{reference}`: a customer's present and past, their announcements with reasons, and actions."""

from __future__ import annotations

from typing import Any, Final

import orjson
from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from models import units
from models.alerts import CLOSED
from models.bodies import SEVERITIES
from models.customer import BASE_LEVEL
from models.risk import probability_of
from streams.language.console_words import words
from streams.reports import charts
from streams.reports.charts import Mark, Threshold
from streams.view.policies_in_force import PoliciesInForce
from streams.web.pages.rendering import language, page
from streams.web.pages.risk_history import RiskHistory, risk_history
from streams.web.pages.what_if import KINDS, Asked, NoAnswer, answer
from streams.web.services.container import Services, address_of, services
from streams.web.services.customer_reader import Found
from streams.web.services.guards import person_of

STORY: Final = 50


def customer_of(request: Request[Any, Any, Any], reference: str) -> str:
    """The customer of an address's reference, for the signed-in person. Raises NotFoundException."""
    customer_id = services(request).masks.customer_of(person_of(request), reference)
    if customer_id is None:
        raise NotFoundException("customer_unknown")
    return customer_id


async def look_up(request: Request[Any, Any, Any], reference: str) -> tuple[str, Found]:
    """Look up the customer of a reference, and record in the audit trail who saw them. Raises NotFoundException."""
    here, person, customer_id = services(request), person_of(request), customer_of(request, reference)
    found = await here.customers.customer(customer_id)
    if found is None:
        raise NotFoundException("customer_unknown")
    here.audit.record(person.name, "customer_seen", address_of(request), person.role, customer_id=customer_id)
    return customer_id, found


@get("/customers/{reference:str}")
async def customer_page(reference: FromPath[str], request: Request[Any, Any, Any]) -> Response[str]:
    """The page of a customer, with an answer if the address asks "what if"."""
    here: Services = services(request)
    seen = await here.queue.latest_change()
    customer_id, found = await look_up(request, reference)
    customer, now_ms = orjson.loads(found.body), await here.clock.now_ms()
    story, alert = await here.queue.story(customer_id, count=STORY), await here.queue.alert(customer_id)
    profile = customer["profile"]
    policies = await here.policies.read()
    policy = policies.current if profile is None else policies.by_label(profile["policy"])
    past = RiskHistory([], []) if profile is None else risk_history(profile, policy, now_ms)
    t = words(language(request))
    if past.risk:
        customer["probability"] = past.risk[-1].value  # as of now; the profile's is as of its latest change
    marks = [_mark(one, t) for one in story]
    thresholds = [Threshold(probability_of(level.raise_at), level.name) for level in policy.risk.levels]
    contributions = [] if profile is None else profile["risk"]["contributions"]
    largest = max([abs(one["log_odds"]) for one in contributions], default=0.0)
    asked = Asked.of(request.query_params)
    answered: dict[str, Any] = {"answer": None, "problem": None}
    if profile is not None and "what" in request.query_params:
        answered = await _answer_or_problem(request, policies, customer_id, found, asked)
    return page(
        request,
        "customer.html",
        policy=policy,
        asked=asked,
        kinds=KINDS,
        severities=SEVERITIES,
        **answered,
        seen=seen,
        customer_id=customer_id,
        customer=customer,
        profile=profile,
        alert=alert,
        is_open=alert is not None and alert["state"] not in CLOSED,
        story=_whole_story(story, profile),
        chart=charts.timeline(past.risk, past.spend, thresholds, marks, t("risk_over_time")),
        samples=orjson.dumps(_samples(past, story, customer, t)).decode(),
        bars=[(one, charts.signed_bar(one["log_odds"], largest)) for one in contributions],
        now_ms=now_ms,
        may_act=person_of(request).may("agent"),
    )


@get("/customers/{reference:str}/what-if")
async def what_if_answer(reference: FromPath[str], request: Request[Any, Any, Any]) -> Response[str]:
    """The part of the page that answers "what if"."""
    customer_id, found = await look_up(request, reference)
    policies = await services(request).policies.read()
    asked = Asked.of(request.query_params)
    answered = await _answer_or_problem(request, policies, customer_id, found, asked)
    return page(request, "what_if.html", policy=policies.current, asked=asked, **answered)


async def _answer_or_problem(
    request: Request[Any, Any, Any], policies: PoliciesInForce, customer_id: str, found: Found, asked: Asked
) -> dict[str, Any]:
    """The values for the template: the answer, or the problem that prevents one."""
    try:
        result = await answer(services(request).table, policies, customer_id, found.etag, asked)
    except NoAnswer as none:
        return {"answer": None, "problem": words(language(request))(none.key, **none.values)}
    return {"answer": result, "problem": None}


def _mark(one: dict[str, Any], t: Any) -> Mark:
    kinds = {"tier-changes": "tier", "churn-risk": "risk-change", "life-cycle": "life", "alerts": "alert"}
    return Mark(
        units.parse_time(one["occurred_at"]),
        kinds[one["topic"]],
        f"{one['occurred_at'][:10]} {t('change_' + one['change'])}",
    )


def _whole_story(story: list[dict[str, Any]], profile: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Everything that happened, newest first: announcements, and the purchases and complaints that the profile still
    has.
    """
    history = {"purchases": [], "complaints": []} if profile is None else profile["history"]
    whole = [{"kind": one["topic"], "at": one["occurred_at"], **one} for one in story]
    whole += [{"kind": "purchase", "at": at, "orders": n, "spend": spend} for at, n, spend in history["purchases"]]
    whole += [{"kind": "complaint", **step} for step in history["complaints"]]
    return sorted(whole, key=lambda one: (units.parse_time(one["at"]), one.get("seq", 0)), reverse=True)


def _samples(past: RiskHistory, story: list[dict[str, Any]], customer: dict[str, Any], t: Any) -> list[list[Any]]:
    """What the slider shows: for each instant its time (ms), and the probability, the tier and the risk level at that
    time.
    """
    moves = sorted(
        (units.parse_time(one["occurred_at"]), one["seq"], one)
        for one in story
        if one["topic"] in ("tier-changes", "churn-risk")
    )
    found = []
    for at_ms, probability in past.risk:
        tier, level = customer["tier"], customer["risk_level"]
        for moved_ms, _, one in reversed(moves):
            if moved_ms > at_ms:
                if one["topic"] == "tier-changes":
                    tier = one["before"]["tier"]
                else:
                    level = one["before"]["level"]
        found.append([at_ms, probability, tier, t("level_none") if level == BASE_LEVEL else level])
    return found
