"""A customer's story agrees with a replay of the same log, on random logs under random policies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from models import Policy, profile
from models.bodies import EVERYBODY
from models.counterfactual import after_purchase, with_one_purchase
from models.story import as_of
from models.units import parse_minor
from streams.sources.logs import LogFile
from streams.workshop.explain.story import ExplainError, Story, story_from_log
from streams.workshop.replay.run import replay_logs
from tests.builders import DAY, Wire, ms
from tests.models.test_editions import PYRAMID, logs_with_editions
from tests.running import Fold, policy_of
from tests.strategies import logs, policy_texts

TOPICS = ("tier-changes", "churn-risk", "life-cycle", "alerts")
Lines = dict[str, list[dict[str, Any]]]


def replayed(policy: Policy, log: Sequence[Wire], until_ms: int | None, **options: Any) -> Lines:
    """What `tierstream replay` writes, by topic."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_text("".join(json.dumps(wire) + "\n" for wire in log))
        replay_logs([LogFile(path)], policy, Path(folder) / "out", until_ms, False, **options)
        names = (*TOPICS, "profiles")
        return {
            name: [json.loads(line) for line in (Path(folder) / "out" / f"{name}.jsonl").read_text().splitlines()]
            for name in names
        }


def story_of(policy: Policy, log: Sequence[Wire], customer_id: str, at_ms: int | None = None, **options: Any) -> Story:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_text("".join(json.dumps(wire) + "\n" for wire in log))
        return story_from_log(customer_id, [LogFile(path)], policy, at_ms, False, **options)


def announcements(story: Story) -> list[dict[str, Any]]:
    """What a story says was announced, as the replay writes it."""
    return [json.loads(output.body) for one in story.entries for output in one.moment.outputs]


def of(lines: Lines, customer_id: str) -> list[dict[str, Any]]:
    """What a replay announced of a customer, in the order of its numbers."""
    whole = [body for name in TOPICS for body in lines[name] if body["customer_id"] == customer_id]
    return sorted(whole, key=lambda body: body["seq"])


@given(policy_texts(), logs(), st.integers(0, 900), st.sampled_from([1, 2, 5, 2_000]))
def test_a_story_announces_what_the_replay_writes_and_ends_with_its_profile(
    text: str, log: list[Wire], days: int, events_a_batch: int
) -> None:
    # How far the log's time is ahead of a customer's late event depends on where a batch ends.
    with patch("streams.workshop.replay.run.EVENTS_A_BATCH", events_a_batch):
        agrees_with_the_replay(policy_of(text), log, max(ms(wire["occurred_at"]) for wire in log) + days * DAY)


@settings(max_examples=40)
@given(logs_with_editions(), st.booleans(), st.sampled_from([1, 3, 2_000]))
def test_a_story_announces_what_the_replay_writes_with_relative_thresholds(
    log: list[Wire], recorded: bool, events_a_batch: int
) -> None:
    with patch("streams.workshop.replay.run.EVENTS_A_BATCH", events_a_batch):
        until_ms = max(ms(wire["occurred_at"]) for wire in log) + 100 * DAY
        agrees_with_the_replay(PYRAMID, log, until_ms, with_recorded_thresholds=recorded)


def agrees_with_the_replay(policy: Policy, log: list[Wire], until_ms: int, **options: Any) -> None:
    """The story of every customer of a log has what the replay writes of them."""
    lines = replayed(policy, log, until_ms, **options)
    profiles = {body["customer_id"]: body for body in lines["profiles"]}
    for customer_id in {wire["customer_id"] for wire in log} - {EVERYBODY}:
        story = story_of(policy, log, customer_id, until_ms, **options)
        assert announcements(story) == of(lines, customer_id)
        event(f"{len(announcements(story)) > 0} announcements")
        written = profile(story.customer, customer_id, story.policy)
        assert (None if written is None else json.loads(written)) == profiles.get(customer_id)
        assert sum(one.record is not None for one in story.entries) == sum(
            wire["customer_id"] == customer_id for wire in log
        )


@given(policy_texts(), logs(), st.data())
def test_a_story_up_to_an_instant_is_that_of_the_log_up_to_it(text: str, log: list[Wire], data: st.DataObject) -> None:
    policy = policy_of(text)
    times = sorted({ms(wire["occurred_at"]) for wire in log})
    at_ms = data.draw(st.sampled_from(times)) + data.draw(st.sampled_from([0, 1, DAY, 40 * DAY]))
    until_then = [wire for wire in log if ms(wire["occurred_at"]) <= at_ms]
    fold = Fold(policy)
    for wire in until_then:
        fold.apply(wire)
    lines = replayed(policy, until_then, at_ms)
    for customer_id in {wire["customer_id"] for wire in log}:
        if customer_id not in fold.customers:
            with pytest.raises(ExplainError, match="has no customer"):
                story_of(policy, log, customer_id, at_ms)
            continue
        story = story_of(policy, log, customer_id, at_ms)
        assert announcements(story) == of(lines, customer_id)
        fold.advance(at_ms, customer_id)
        state = fold.customers[customer_id]
        assert profile(story.customer, customer_id, policy) == profile(state, customer_id, policy)
        assert as_of(story.customer, policy, at_ms).facts == as_of(state, policy, at_ms).facts


@given(policy_texts(), logs(), st.data())
def test_later_events_of_a_log_in_order_never_change_earlier_announcements(
    text: str, log: list[Wire], data: st.DataObject
) -> None:
    policy, log = policy_of(text), sorted(log, key=lambda wire: ms(wire["occurred_at"]))
    at_ms = data.draw(st.sampled_from([ms(wire["occurred_at"]) for wire in log]))
    customer_id = log[0]["customer_id"]
    whole, until_then = (
        announcements(story_of(policy, log, customer_id)),
        announcements(story_of(policy, log, customer_id, at_ms)),
    )
    assert until_then == [body for body in whole if ms(body["occurred_at"]) <= at_ms]


@given(policy_texts(), logs())
def test_the_terms_of_a_story_add_up_to_what_the_score_moved(text: str, log: list[Wire]) -> None:
    policy = policy_of(text)
    for customer_id in {wire["customer_id"] for wire in log}:
        previous = None
        for moment in story_of(policy, log, customer_id).moments():
            before, after = moment["before"], moment["after"]
            for was, now, moved in ((previous, before, "by_time"), (before, after, "by_this")):
                if was and now and was["log_odds"] is not None and now["log_odds"] is not None:
                    difference = now["log_odds"] - was["log_odds"]
                    assert sum(moment["moved"][moved].values()) == pytest.approx(difference, abs=1e-9)
                    event(f"moved {moved}" if difference else f"not moved {moved}")
            for seen in (before, after):
                if seen and seen["log_odds"] is not None:
                    assert sum(seen["contributions"].values()) == pytest.approx(seen["log_odds"], abs=1e-9)
            previous = after


@given(policy_texts(), logs(), st.integers(0, 400))
def test_a_purchase_of_the_stated_amount_is_enough_and_a_minor_unit_less_is_not(
    text: str, log: list[Wire], days: int
) -> None:
    policy, fold = policy_of(text), Fold(policy_of(text))
    for wire in log:
        fold.apply(wire)
    for customer_id in fold.customers:
        at_ms = max(ms(wire["occurred_at"]) for wire in log) + days * DAY
        fold.advance(at_ms, customer_id)
        customer = fold.customers[customer_id]
        for one in with_one_purchase(customer, policy, customer_id, at_ms):
            if one["amount"] is None:
                event("no purchase does it")
                continue
            amount_minor = parse_minor(one["amount"], policy.decimals)
            instants = [at_ms] + ([ms(one["before"]) - 1] if one["before"] else [])
            for instant in instants:
                enough = after_purchase(customer, policy, customer_id, instant, amount_minor)
                assert enough is not None
                assert _has(policy, enough, one)
                if amount_minor:
                    less = after_purchase(customer, policy, customer_id, instant, amount_minor - 1)
                    assert less is not None
                    assert not _has(policy, less, one)
            event(f"{one['goal']}, {'until then' if one['before'] else 'now'}")


def _has(policy: Policy, customer: Any, one: dict[str, Any]) -> bool:
    rank = policy.ladder.rank_of(customer.standing.tier)
    wanted = policy.ladder.rank_of(one["tier"])
    is_pending = customer.standing.downgrade_at_ms < 2**62 - 1
    return rank >= wanted and not (one["goal"] == "keep" and is_pending)
