"""Invariants of risk scores and of encoded customers, on random logs."""

from __future__ import annotations

import json
import math

from hypothesis import assume, given
from hypothesis import strategies as st

from models import decode, encode, profile
from models.bodies import SEVERITIES
from models.customer import Facts
from models.customer_parts import ComplaintStep
from models.facts import book_complaint
from models.state import due_at_ms_of
from tests.builders import DAY, Wire, complaint, ms, policy_text, purchase
from tests.running import Fold, policy_of, run
from tests.strategies import customer_logs, policy_texts

RESOLVED, OPENED = 2, 0


@given(policy_texts(), customer_logs(), st.integers(0, 500 * DAY))
def test_contributions_add_up_to_the_score(text: str, log: list[Wire], silence_ms: int) -> None:
    fold = Fold(policy_of(text))
    for wire in log:
        fold.apply(wire)
    fold.advance(fold.customers["ada"].clock_ms + silence_ms)
    for output in fold.outputs:
        if output.topic == "churn-risk":
            body = json.loads(output.body)
            terms = {one["term"]: one["log_odds"] for one in body["contributions"]}
            assert list(terms)[:5] == ["base", "rhythm", "silence", "complaints", "satisfaction"]
            assert math.isclose(sum(terms.values()), body["after"]["log_odds"], abs_tol=1e-9)
            single = [one["log_odds"] for one in body["contributions"][3]["complaints"]]
            assert math.isclose(sum(single), terms["complaints"], abs_tol=1e-9)
            assert terms["silence"] >= 0
            probability = 1 / (1 + math.exp(-body["after"]["log_odds"]))
            assert math.isclose(probability, body["after"]["probability"], abs_tol=1e-6)


@given(policy_texts(), customer_logs())
def test_a_customer_survives_encoding_and_decoding(text: str, log: list[Wire]) -> None:
    policy = policy_of(text)
    for step in run(policy, log):
        data = encode(step.customer)
        assert decode(data) == step.customer
        assert encode(decode(data)) == data
        assert due_at_ms_of(data) == step.customer.due_at_ms


@given(policy_texts(), customer_logs())
def test_folding_on_from_decoded_bytes_is_folding_on(text: str, log: list[Wire]) -> None:
    kept, restored = Fold(policy_of(text)), Fold(policy_of(text))
    for wire in log:
        restored.customers = {name: decode(encode(customer)) for name, customer in restored.customers.items()}
        kept.apply(wire)
        restored.apply(wire)
    assert restored.customers == kept.customers
    assert restored.outputs == kept.outputs


@given(policy_texts(), customer_logs())
def test_every_customer_has_a_profile_with_the_tier_and_level_of_the_outputs(text: str, log: list[Wire]) -> None:
    policy = policy_of(text)
    revision = -1
    for step in run(policy, log):
        written = profile(step.customer, "ada", policy)
        if written is None:
            assert step.customer.facts == Facts()
            continue
        body = json.loads(written)
        assert (body["tier"], body["risk"]["level"]) == (step.customer.standing.tier, step.customer.standing.risk_level)
        assert body["seq"] == step.customer.seq
        assert body["revision"] >= revision
        revision = body["revision"]


@given(customer_logs(), st.integers(0, 1000 * DAY), st.integers(1, 1000 * DAY))
def test_without_complaints_the_score_rises_with_silence(log: list[Wire], wait_ms: int, more_ms: int) -> None:
    bought = [wire for wire in log if wire["topic"] == "purchases"]
    assume(any(wire["kind"] == "purchase" for wire in bought))
    policy = policy_of(policy_text(rates={"JPY": "0.0071", "KWD": "3.25", "EUR": "1.1"}))
    customer = run(policy, bought)[-1].customer
    at_ms = customer.facts.last_purchase_ms + wait_ms
    assert policy.risk.log_odds(customer.facts, at_ms) < policy.risk.log_odds(customer.facts, at_ms + more_ms)


@given(
    st.lists(st.integers(0, 300 * DAY), min_size=1, max_size=6),
    st.sampled_from(SEVERITIES),
    st.integers(0, 100 * DAY),
    st.integers(0, 300 * DAY),
)
def test_a_resolved_complaint_scores_between_none_and_an_open_one(
    purchases: list[int], severity: str, resolved_after_ms: int, asked_after_ms: int
) -> None:
    policy = policy_of(policy_text())
    start_ms = ms("2020-01-01")
    bought = [purchase("ada", "10", on=start_ms + at_ms) for at_ms in purchases]
    opened_ms = start_ms + max(purchases)
    changed_ms = opened_ms + resolved_after_ms
    complained = complaint("ada", on=opened_ms, severity=severity)
    resolved = complaint("ada", on=changed_ms, severity=severity, status="resolved")
    reopened = complaint("ada", on=changed_ms, severity=severity, status="reopened")
    at_ms = changed_ms + asked_after_ms

    def score(*steps: Wire) -> float:
        return policy.risk.log_odds(run(policy, [*bought, *steps])[-1].customer.facts, at_ms)

    assert score() <= score(complained, resolved) <= score(complained, reopened)
    if at_ms < opened_ms + 365 * DAY:
        assert score() < score(complained, resolved)


@given(st.permutations([ComplaintStep(at, f"c{at % 5}", OPENED, at % 4, "") for at in range(100)]))
def test_of_many_complaint_steps_the_latest_64_are_kept_whatever_their_order(steps: list[ComplaintStep]) -> None:
    facts = Facts()
    for step in steps:
        book_complaint(facts, step)
    assert [step.at_ms for step in facts.complaints] == list(range(36, 100))
