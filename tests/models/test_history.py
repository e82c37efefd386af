"""At every instant a history's columns have the values of the fold's facts and risk model, computed independently."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from models.fitting.history import History, HistoryBuilder
from models.fitting.score_card import Weights, design
from models.policy import Policy
from tests.builders import DAY, Wire, ms
from tests.running import Fold, events_of, policy_of
from tests.strategies import logs, policy_texts


def history_of(policy: Policy, log: list[Wire]) -> History:
    builder = HistoryBuilder()
    for event in events_of(policy, log):
        builder.add(event)
    return builder.build()


def in_order(log: list[Wire]) -> list[Wire]:
    return sorted(log, key=lambda wire: ms(wire["occurred_at"]))


def has_purchase(log: list[Wire]) -> bool:
    erased = {wire["customer_id"]: ms(wire["occurred_at"]) for wire in log if wire.get("command") == "erase"}
    return any(
        wire.get("kind") == "purchase" and ms(wire["occurred_at"]) > erased.get(wire["customer_id"], -1) for wire in log
    )


@given(policy_texts(), logs(), st.data())
def test_a_snapshot_is_what_the_fold_knows_at_that_instant(text: str, log: list[Wire], data: st.DataObject) -> None:
    policy, log = policy_of(text), in_order(log)
    # The past of those who are erased later is not in a history at all.
    log = [wire for wire in log if wire.get("command") != "erase"]
    assume(has_purchase(log))
    times = [ms(wire["occurred_at"]) for wire in log]
    at_ms = data.draw(st.sampled_from(times)) + data.draw(st.sampled_from([0, 1, DAY, 100 * DAY]))
    fold = Fold(policy)
    for wire in log:
        if ms(wire["occurred_at"]) <= at_ms:
            fold.apply(wire)
    buyers = {name: one.facts for name, one in fold.customers.items() if one.facts.first_purchase_ms >= 0}

    history = history_of(policy, log)
    snapshot = history.snapshot(at_ms)
    assert {history.customers[customer_id] for customer_id in snapshot.customer} == set(buyers)
    log_odds = design(snapshot, policy.risk).log_odds(Weights.of(policy.risk))
    for row, customer_id in enumerate(snapshot.customer):
        facts = buyers[history.customers[customer_id]]
        assert snapshot.x[row] == facts.purchase_days - 1
        assert snapshot.spend_minor[row] == facts.spend_minor
        assert snapshot.last_day_minor[row] == facts.last_day_minor
        assert np.isclose(log_odds[row], policy.risk.log_odds(facts, at_ms), rtol=0, atol=1e-9)


@given(policy_texts(), logs(), st.randoms())
def test_neither_order_nor_repeats_of_events_change_a_history(text: str, log: list[Wire], random: object) -> None:
    policy = policy_of(text)
    assume(has_purchase(log))
    shuffled = [*log, *log]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    # Positions follow the order of first appearance.
    names = [{"customer_id": name} for name in dict.fromkeys(wire["customer_id"] for wire in log)]
    shuffled.sort(key=lambda wire: names.index({"customer_id": wire["customer_id"]}))
    ordered = sorted(log, key=lambda wire: names.index({"customer_id": wire["customer_id"]}))
    one, other = history_of(policy, ordered), history_of(policy, shuffled)
    assert (one.customers, one.events, one.begins_ms, one.ends_ms) == (
        other.customers, other.events, other.begins_ms, other.ends_ms,
    )  # fmt: skip
    assert np.array_equal(one.bought_ms, other.bought_ms)
    assert np.array_equal(one.refunded_ms, other.refunded_ms)
    # Of answers at the same instant the higher counts, whichever came first.
    assert {customer_id: sorted(map(str, found)) for customer_id, found in one.others.items()} == {
        customer_id: sorted(map(str, found)) for customer_id, found in other.others.items()
    }


@given(policy_texts(), logs(), st.data())
def test_what_was_known_then_gives_the_same_snapshot_and_nothing_of_what_came_later(
    text: str, log: list[Wire], data: st.DataObject
) -> None:
    policy = policy_of(text)
    log = [wire for wire in log if wire.get("command") != "erase"]
    assume(has_purchase(log))
    history = history_of(policy, log)
    at_ms = data.draw(st.integers(history.begins_ms, history.ends_ms))
    risk, weights = policy.risk, Weights.of(policy.risk)
    now = history.snapshot(at_ms)
    for other in (history.known_at(at_ms), history.with_another_future(at_ms)):
        then = other.snapshot(at_ms)
        assert np.array_equal(then.customer, now.customer)
        assert np.array_equal(design(then, risk).log_odds(weights), design(now, risk).log_odds(weights))
    known = history.known_at(at_ms)
    assert known.ends_ms <= at_ms
    assert not known.buys_within(known.snapshot(at_ms), 1000 * DAY).any()


@given(policy_texts(), logs(), st.integers(0, 400 * DAY), st.integers(1, 400 * DAY))
def test_buys_within_counts_purchases_after_the_instant_up_to_the_horizons_end(
    text: str, log: list[Wire], after_ms: int, horizon_ms: int
) -> None:
    policy = policy_of(text)
    log = [wire for wire in log if wire.get("command") != "erase"]
    assume(has_purchase(log))
    history = history_of(policy, log)
    at_ms = history.begins_ms + after_ms
    snapshot = history.snapshot(at_ms)
    bought = [(wire["customer_id"], ms(wire["occurred_at"])) for wire in log if wire.get("kind") == "purchase"]
    for row, buys in enumerate(history.buys_within(snapshot, horizon_ms)):
        customer_id = history.customers[snapshot.customer[row]]
        assert buys == any(name == customer_id and at_ms < one <= at_ms + horizon_ms for name, one in bought)


def test_an_erased_customers_past_is_not_in_the_history() -> None:
    from tests.builders import complaint, erase, policy_text, purchase

    policy = policy_of(policy_text())
    log = [
        purchase("ada", "10", on="2024-01-01"),
        complaint("ada", on="2024-01-02"),
        erase("ada", on="2024-02-01"),
        purchase("ada", "20", on="2024-03-01"),
        purchase("bob", "30", on="2024-01-05"),
    ]
    history = history_of(policy, log)
    snapshot = history.snapshot(ms("2024-04-01"))
    assert history.others == {}
    assert snapshot.spend_minor.tolist() == [2000, 3000]
    assert len(history.snapshot(ms("2024-02-15"))) == 1
