"""The backtest: CDNOW's figures, and planted look-aheads that must be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import lifetimes
import numpy as np
import pytest

from models import load, units
from models.fitting import backtest as testing
from models.fitting.alerts import CustomerAnnouncements, team_measures
from models.fitting.backtest import Baseline, Contender, FittedCard, FittedModel, Lesson, LookAhead, PolicyAsItIs
from models.fitting.fit import fit, fit_risk, origins
from models.fitting.history import Flags, Floats, History, HistoryBuilder, Snapshot
from models.fitting.maximum_likelihood import FitError
from tests.builders import DAY, cdnow, ms, policy_text, purchase
from tests.running import events_of, policy_of

POLICY = load("annual-spend")
HORIZON_MS = 90 * DAY
WEEKS_39_MS = 39 * units.WEEK_MS
CUT_MS = ms("1997-09-30")


def silent(text: str) -> None:
    """A progress callback that does nothing."""


def history_of(log: list[dict[str, object]]) -> History:
    builder = HistoryBuilder()
    for event in events_of(POLICY, log):
        builder.add(event)
    return builder.build()


@pytest.fixture(scope="module")
def sample() -> History:
    return history_of(cdnow())


@pytest.fixture(scope="module")
def master() -> History:
    lines = Path(lifetimes.__file__).parent.joinpath("datasets", "CDNOW_master.txt").read_text("ascii").splitlines()
    rows = [line.split() for line in lines[1:]]
    return history_of(
        [
            purchase(customer_id, amount, on=f"{day[:4]}-{day[4:6]}-{day[6:]}", id=f"m{number}")
            for number, (customer_id, day, _, amount) in enumerate(rows)
        ]
    )


def contenders(history: History) -> list[Contender]:
    return [*testing.BASELINES, FittedModel(), FittedCard(POLICY.risk), PolicyAsItIs(POLICY)]


# ---------------------------------------------------------------- published and measured figures
def test_on_the_cdnow_master_the_card_reaches_the_figures_of_statistics_md(master: History) -> None:
    found = testing.backtest(master, contenders, [CUT_MS], WEEKS_39_MS, silent)
    assert (found.customers, round((1 - found.churned) * found.customers)) == (23_570, 7_058)
    assert found.is_by_customers
    auc = {one.name: round(one.auc, 3) for one in found.results}
    assert (auc["recency"], auc["MBG/NBD, fitted"]) == (0.759, 0.755)
    card = next(one for one in found.results if one.name == "score card, fitted")
    assert round(card.auc, 3) >= 0.773
    assert card.brier <= 0.158
    assert max(auc.values()) == round(card.auc, 3)
    assert found.best_baseline.name == "recency"
    # The model alone, fitted or shipped, does not beat recency, and the report says so.
    assert [one.name for one in found.beaten] == ["MBG/NBD, fitted", "annual-spend@1"]


def test_rolled_through_the_cdnow_master_the_card_is_best_and_calibrated(master: History) -> None:
    at = testing.origins(master, HORIZON_MS, HORIZON_MS)
    assert len(at) == 4
    found = testing.backtest(master, contenders, at, HORIZON_MS, silent)
    assert not found.is_by_customers
    card = next(one for one in found.results if one.name == "score card, fitted")
    assert card.auc == max(one.auc for one in found.results)
    assert card.brier == min(one.brier for one in found.results)
    probability, churned = card.pooled
    assert probability.mean() == pytest.approx(churned.mean(), abs=0.02)


def test_the_fit_to_the_published_period_uses_the_published_customers() -> None:
    """The paper's period: purchases to 1997-09-30, and customers as they were known then."""
    known = history_of(cdnow()).known_at(CUT_MS)
    at = origins(known.begins_ms, known.ends_ms, 60 * DAY)
    fitted = fit_risk(known, POLICY.risk, 60 * DAY, replace(at, fit_ms=(CUT_MS - 60 * DAY,)), silent)
    earlier = known.snapshot(CUT_MS - 60 * DAY)
    assert fitted.purchases.customers == len(earlier) == 2357
    again = fit(known, POLICY, 60 * DAY, ["cdnow"], silent)
    assert again.metrics.auc > 0.7
    assert again.fit.kept_defaults == ["complaints", "satisfaction"]


# ---------------------------------------------------------------- no look-ahead
@dataclass(frozen=True)
class Clairvoyant:
    """A contender that was handed the whole history."""

    history: History
    name: str = "clairvoyant"
    is_baseline: bool = False

    def learn(self, past: History, lessons: Sequence[Lesson], horizon_ms: int) -> testing.Predictor:
        return lambda snapshot: np.where(self.history.buys_within(snapshot, DAY), 0.4, 0.5)


@dataclass(frozen=True)
class Leaking(History):
    """A history whose snapshots know a week too much."""

    slip_ms: ClassVar[int] = 7 * DAY

    def snapshot(self, at_ms: int) -> Snapshot:
        return replace(super().snapshot(at_ms + self.slip_ms), at_ms=at_ms)

    def known_at(self, at_ms: int) -> History:
        return super().known_at(at_ms + self.slip_ms)


def test_a_contender_that_knows_the_future_is_caught(sample: History) -> None:
    at = testing.origins(sample, HORIZON_MS, HORIZON_MS)[-2:]
    with pytest.raises(LookAhead, match=r"clairvoyant: what it says at 1998-04-01T00:00:00Z of \d+ of \d+ customers"):
        testing.backtest(sample, lambda history: [*contenders(history), Clairvoyant(history)], at, HORIZON_MS, silent)


def test_a_snapshot_that_knows_a_week_too_much_is_caught(sample: History) -> None:
    leaking = Leaking(**{name: getattr(sample, name) for name in sample.__dataclass_fields__})
    at = testing.origins(sample, HORIZON_MS, HORIZON_MS)[-2:]
    with pytest.raises(LookAhead, match="depends on what came later"):
        testing.backtest(leaking, contenders, at, HORIZON_MS, silent)


def test_a_rule_of_thumb_that_wins_is_named(sample: History) -> None:
    def with_noise(history: History) -> list[Contender]:
        return [*testing.BASELINES, Baseline("noise", noise, is_baseline=False)]

    def noise(snapshot: Snapshot) -> Floats:
        return np.random.default_rng(1).random(len(snapshot))

    found = testing.backtest(sample, with_noise, [ms("1998-03-01")], HORIZON_MS, silent)
    assert [one.name for one in found.beaten] == ["noise"]
    assert max(found.results, key=lambda one: one.auc) is found.best_baseline


# ---------------------------------------------------------------- logs that say too little
def test_a_log_that_is_too_short_is_refused_with_what_it_takes(sample: History) -> None:
    with pytest.raises(FitError, match=r"the log is 545d long; to roll an origin .* of 240d takes 600d"):
        testing.origins(sample, 240 * DAY, DAY)
    with pytest.raises(
        FitError, match=r"for a horizon of 400d it takes 600d: give a longer log or a shorter --horizon"
    ):
        origins(sample.begins_ms, sample.ends_ms, 400 * DAY)


def test_a_log_in_which_all_customers_buy_again_is_refused() -> None:
    log = [
        purchase(f"c{number}", "10", on=ms("2024-01-01") + day * DAY)
        for number in range(200)
        for day in range(0, 400, 10)
    ]
    with pytest.raises(FitError, match="200 customers bought again and 0 did not"):
        testing.backtest(history_of(log), contenders, [ms("2024-08-01")], HORIZON_MS, silent)


# ---------------------------------------------------------------- what the team would have seen
def test_alerts_losses_and_lead_times_are_counted_by_hand() -> None:
    log = [
        # Ada is lost once: nothing for 90 days after 10 January; an alert 60 days after it.
        purchase("ada", "10", on="2024-01-01"), purchase("ada", "30", on="2024-01-10"),
        # Bob buys again within 90 days of an alert, then he is lost without one.
        purchase("bob", "50", on="2024-01-05"), purchase("bob", "70", on="2024-03-01"),
        # Eve comes back after a loss, and is still there at the end.
        purchase("eve", "5", on="2024-01-02"), purchase("eve", "5", on="2024-06-10"), purchase("eve", "1", on="2024-09-01"),
    ]  # fmt: skip
    history = history_of(log)
    announced = {
        "ada": CustomerAnnouncements((ms("2024-03-10"),), ((ms("2024-03-10"), 2**62),), 0, 1),
        "bob": CustomerAnnouncements((ms("2024-02-01"),), ((ms("2024-02-01"), ms("2024-03-01")),), 2, 2),
        "eve": CustomerAnnouncements(
            (ms("2023-12-01"), ms("2024-02-15")), ((ms("2023-12-01"), ms("2024-06-10")),), 0, 2
        ),
    }
    found = team_measures(history, announced, ms("2024-01-01"), HORIZON_MS)
    # Until 2024-06-03: alerts of ada (right), bob (wrong), eve (right: the next purchase is 116 days later).
    assert (found.alerts, found.precision) == (3, pytest.approx(2 / 3))
    assert found.alerts_per_week == pytest.approx(3 / (154 / 7))
    assert sum(count for _, count in found.alerts_by_week) == 3
    # Losses: ada 10 January, bob 1 March, eve 2 January.
    assert found.losses == 3
    assert found.caught == pytest.approx(2 / 3)
    # Spent within 90 days before: ada 40, bob 120, eve 5.
    assert found.value_caught == pytest.approx(45 / 165)
    # Ada's alert came 30 days before the loss; eve's was open all along: 90 days.
    assert found.lead_days == pytest.approx((45, 60, 75))


def test_the_policy_without_patience_moves_more() -> None:
    from streams.workshop.fitting.announcements import without_damping

    policy = policy_of(policy_text(downgrade={"grace": "30d", "min_hold": "60d"}))
    hasty = without_damping(policy)
    assert (hasty.grace_ms, hasty.min_hold_ms) == (0, 0)
    assert all(level.ease_below == level.raise_at for level in hasty.risk.levels)


def test_flags_are_what_they_are_called(sample: History) -> None:
    snapshot = sample.snapshot(CUT_MS)
    churned: Flags = ~sample.buys_within(snapshot, WEEKS_39_MS)
    assert (~churned).sum() == 684
