"""What the story counts is what a fold of it gives, and under the chaos policy every kind of change occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import models
from models.events import REASONS, Rejected
from tests.builders import FROM_LIVE_SOURCES
from tests.chaos.driver import POLICY
from tests.chaos.story import Facts, Record, Story

START_MS = 1_767_225_600_000
STEP_MS = 100
SECONDS = 120


def records_of(story: Story) -> Iterator[tuple[int, list[Record]]]:
    """The story at 150 events a second, computed without waiting; times with their records."""
    for now_ms in range(START_MS, START_MS + SECONDS * 1_000, STEP_MS):
        yield now_ms, story.records(15, now_ms, now_ms - STEP_MS)


def facts_of(customer: models.Customer) -> Facts:
    facts = customer.facts
    times = (None if at_ms < 0 else at_ms for at_ms in (facts.first_purchase_ms, facts.last_purchase_ms))
    return Facts(facts.orders, facts.spend_minor, *times)


def test_the_fold_gives_what_the_story_counts_and_every_change_occurs() -> None:
    policy, story = models.load(str(POLICY)), Story(seed=12, customers=300)
    decoder = policy.decoder()
    customers: dict[str, models.Customer] = {}
    changes, rejected = Counter[str](), Counter[tuple[str, bytes]]()
    reasons = set()
    for now_ms, records in records_of(story):
        for record in records:
            event = decoder.decode(record.topic, record.value, record.key, now_ms)
            if isinstance(event, Rejected):
                rejected[record.topic, record.value] += 1
                reasons.add(event.code)
                continue
            assert event.occurred_at_ms <= now_ms
            customer, outputs = models.apply(customers.get(event.customer_id), event, policy)
            if isinstance(outputs, Rejected):
                rejected[record.topic, record.value] += 1
                reasons.add(outputs.code)
                continue
            assert customer is not None
            customers[event.customer_id] = customer
            changes.update(output.change for output in outputs)
        if now_ms % 1_000 == 0:
            for customer_id, customer in customers.items():
                customers[customer_id], outputs = models.advance(customer, now_ms, policy, customer_id)
                changes.update(output.change for output in outputs)
    assert story.total == SECONDS * 150 == story.counts.total()
    assert rejected == story.invalid
    never = {"too_large", "bad_amount", "too_late", "bad_edition", "wrong_partition"}
    assert set(REASONS) - FROM_LIVE_SOURCES - reasons == never
    kept = {customer_id: customer for customer_id, customer in customers.items() if customer.erased_at_ms < 0}
    assert {customer_id: facts_of(customer) for customer_id, customer in kept.items()} == story.facts()
    assert story.erased == customers.keys() - kept.keys()
    assert changes.keys() == {
        "upgrade", "downgrade_scheduled", "downgrade_averted", "downgrade", "lock", "unlock", "erase",
        "raised", "escalated", "eased", "cleared",
        "opened", "held", "updated", "acknowledged", "contacted", "snoozed", "woke", "released", "breached",
        "saved", "lost", "dismissed", "recovered",
    }  # fmt: skip
    assert min(changes.values()) >= 3, changes


def test_the_same_seed_gives_the_same_story() -> None:
    first, second = ([records for _, records in records_of(Story(seed=1))] for _ in range(2))
    assert first == second
