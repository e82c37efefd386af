"""Measures of predicted risks, compared with their definitions computed pair by pair and customer by customer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.fitting.metrics import auc, brier, deciles, lift

risks = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.2001, 0.5, 0.9]) | st.floats(0, 1), st.booleans()), min_size=1)


def split(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([risk for risk, _ in pairs]), np.array([churned for _, churned in pairs])


@given(risks)
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[float, bool]]) -> None:
    lost = [risk for risk, churned in pairs if churned]
    kept = [risk for risk, churned in pairs if not churned]
    if not lost or not kept:
        assert math.isnan(auc(*split(pairs)))
        return
    right = sum((one > other) + (one == other) / 2 for one in lost for other in kept)
    assert auc(*split(pairs)) == pytest.approx(right / len(lost) / len(kept))


@given(risks)
def test_brier_is_the_mean_square_of_the_error(pairs: list[tuple[float, bool]]) -> None:
    assert brier(*split(pairs)) == pytest.approx(sum((risk - churned) ** 2 for risk, churned in pairs) / len(pairs))


@given(risks, st.sampled_from([0.05, 0.1, 0.5, 1.0]), st.randoms(use_true_random=False))
def test_lift_is_the_mean_over_all_orders_of_customers_with_the_same_risk(
    pairs: list[tuple[float, bool]], share: float, random: object
) -> None:
    assume(any(churned for _, churned in pairs))
    wanted = share * len(pairs)
    ordered = sorted(pairs, reverse=True)
    found, left = 0.0, wanted
    for risk in sorted({risk for risk, _ in ordered}, reverse=True):
        same = [churned for one, churned in ordered if one == risk]
        taken = min(left, len(same))
        found += taken * sum(same) / len(same)
        left -= taken
    rate = sum(churned for _, churned in pairs) / len(pairs)
    assert lift(*split(pairs), share) == pytest.approx(found / wanted / rate)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=10))
def test_deciles_hold_every_customer_once_and_keep_equal_probabilities_together(
    pairs: list[tuple[float, bool]],
) -> None:
    probability, churned = split(pairs)
    parts = deciles(probability, churned)
    assert sum(part.customers for part in parts) == len(pairs)
    assert [part.predicted for part in parts] == sorted(part.predicted for part in parts)
    assert sum(part.customers * part.churned for part in parts) == pytest.approx(churned.sum())
    assert sum(part.customers * part.predicted for part in parts) == pytest.approx(probability.sum())


def test_without_any_churn_there_is_no_lift() -> None:
    assert math.isnan(lift(np.array([0.1, 0.2]), np.array([False, False]), 0.05))
