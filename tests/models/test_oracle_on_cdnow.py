"""Every customer of the CDNOW sample, with made-up complaints, at every prefix; a part of them under every shipped
policy.
"""

from __future__ import annotations

import pytest

from models import load
from tests.builders import SHIPPED, cdnow, ms, shipped_text, some_customers, with_made_up_complaints
from tests.models.agreement import assert_agrees
from tests.oracle import replay
from tests.running import Fold, Step

END = ms("2000-01-01")
ONE_IN = {"retail-three-tier": 1, "annual-spend": 4, "subscription-like": 4}
"""The oracle recomputes everything at every prefix, which is slow; the random logs cover all settings of a policy."""


@pytest.mark.parametrize("name", SHIPPED)
def test_the_fold_agrees_with_the_oracle_on_every_cdnow_customer_at_every_prefix(name: str) -> None:
    policy = load(name)
    # The thresholds of the Chinese retailer are far above a CD: there a purchase counts a hundredfold.
    log = with_made_up_complaints(cdnow(policy.currency, times=100 if policy.currency == "CNY" else 1))
    log = some_customers(log, ONE_IN[name], SHIPPED.index(name))
    fold = Fold(policy)
    steps = [fold.apply(wire) for wire in log]
    pictures = replay(shipped_text(name), log, until_ms=END)
    for wire, step, picture in zip(log, steps, pictures, strict=False):
        if not picture.close_call:
            assert_agrees(step, picture, policy, f"{name} after {wire['event_id']}")
    for customer_id, picture in zip(list(fold.customers), pictures[len(log) :], strict=True):
        outputs = fold.advance(END, customer_id)
        if not picture.close_call:
            assert_agrees(
                Step(customer_id, fold.customers[customer_id], outputs), picture, policy, f"{name} at the end"
            )
    close_calls = {picture.customer_id for picture in pictures if picture.close_call}
    assert len(close_calls) < len(fold.customers) / 100
    seen = {output.change for output in fold.outputs}
    assert seen >= {"upgrade", "downgrade_scheduled", "downgrade_averted", "downgrade", "raised", "escalated"}
    assert seen >= {"eased", "cleared"}
