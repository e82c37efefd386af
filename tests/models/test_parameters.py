"""A parameters file: a policy uses the values that were written, and problems are reported by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import load
from models.parameters import (
    FORM,
    About,
    CardTable,
    Complaints,
    Metrics,
    Parameters,
    Purchases,
    Satisfaction,
    Spend,
)
from models.policy import PolicyError
from models.policy.parameters_file import read_parameters
from tests.builders import shipped_text

FITTED = Parameters(
    form=FORM,
    fit=About(
        log=['the "best" log.jsonl'], events=10, customers=5, begins="2024-01-01T00:00:00Z", ends="2024-12-01T00:00:00Z",
        horizon="60d", origins=["2024-06-01T00:00:00Z"], calibrated_at="2024-10-01T00:00:00Z",
    ),
    metrics=Metrics(customers=5, churned=0.5, auc=0.75, brier=0.2, brier_of_base_rate=0.25),
    purchases=Purchases(r=0.6, alpha_weeks=7.0, a=0.8, b=1.2, log_likelihood=-10.5, standard_errors=[0.1, 0.2, 0.3, 0.4]),
    card=CardTable(
        intercept=0.5, model=0.4, silence=1.2, frequency=-0.9, spend=-0.2, basket_trend=-0.1, typical_spend="25.20"
    ),
    spend=Spend(currency="USD", p=6.25, q=3.74, v=15.44, log_likelihood=-1.0, standard_errors=[1.0, 0.1, 2.0]),
    complaints=Complaints(
        severity={"low": 0.1, "medium": 0.3, "high": 0.7, "critical": 1.1},
        status={"opened": 1.0, "escalated": 1.2, "resolved": 0.3, "reopened": 1.5},
    ),
    satisfaction=Satisfaction(per_ten_points=0.2),
)  # fmt: skip
OWN = 'fitted_on = "CDNOW sample, 39 weeks of 1997"\nr = 0.525\nalpha_weeks = 6.183\na = 0.891\nb = 1.614\nhorizon = "90d"\n'


def write(folder: Path, parameters: str, policy: str | None = None) -> Path:
    (folder / "params.toml").write_text(parameters)
    text = shipped_text("annual-spend").replace(OWN, 'parameters = "params.toml"\n') if policy is None else policy
    assert 'parameters = "params.toml"' in text
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, FITTED.as_toml())
    assert read_parameters(tmp_path / "params.toml") == FITTED


def test_a_policy_uses_the_parameters_that_it_names_and_its_name_has_their_digest(tmp_path: Path) -> None:
    policy = load(write(tmp_path, FITTED.as_toml()))
    risk, card = policy.risk, policy.risk.card
    assert (risk.mbg.r, risk.mbg.alpha, risk.mbg.a, risk.mbg.b) == (0.6, 7.0, 0.8, 1.2)
    assert risk.horizon_ms == 60 * 86_400_000
    assert (card.intercept, card.model, card.silence) == (0.5, 0.4, 1.2)
    assert (card.frequency, card.spend, card.basket_trend, card.typical_minor) == (-0.9, -0.2, -0.1, 2520)
    assert risk.complaint_risk.severity == (0.1, 0.3, 0.7, 1.1)
    assert risk.complaint_risk.repeat_factor == 1.5
    assert risk.satisfaction_per_point == pytest.approx(0.02)
    assert policy.value.spend is not None
    assert (policy.value.spend.q, policy.value.spend.v) == (3.74, 1544.0)
    assert policy.ref == f"annual-spend@1+{FITTED.digest}"
    assert 'the "best" log.jsonl' in risk.fitted_on


def test_other_parameters_make_it_another_policy_and_another_comment_does_not(tmp_path: Path) -> None:
    ref = load(write(tmp_path, FITTED.as_toml())).ref
    assert load(write(tmp_path, FITTED.as_toml() + "# seen by mia\n")).ref == ref
    assert load(write(tmp_path, FITTED.as_toml().replace("silence = 1.2", "silence = 1.3"))).ref != ref


def test_what_was_not_fitted_stays_as_the_policy_has_it(tmp_path: Path) -> None:
    text = FITTED.as_toml()
    for table in ("spend", "complaints", "satisfaction"):
        begin = text.index(f"[{table}]")
        end = text.find("\n\n", begin)
        text = text[:begin] + (text[end + 2 :] if end > 0 else "")
    policy = load(write(tmp_path, text))
    assert policy.risk.complaint_risk == load("annual-spend").risk.complaint_risk
    assert policy.value.spend is None


@pytest.mark.parametrize(
    ("slip", "instead", "said"),
    [
        ("form = 1", "form = 2", "line 2: form: is not 1. Fit again with this version"),
        (
            "alpha_weeks = 7.0",
            'alpha_weeks = "7"',
            "line 23: purchases.alpha_weeks: Expected `float`, got `str`. Mend it",
        ),
        ("[card]", "[cards]", "unknown field `cards`"),
        ("form = 1", "form = ", "not TOML"),
    ],
)
def test_what_is_wrong_with_a_parameter_file_is_said(tmp_path: Path, slip: str, instead: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(write(tmp_path, FITTED.as_toml().replace(slip, instead)))
    assert said in str(caught.value)
    assert "params.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    policy = write(tmp_path, FITTED.as_toml())
    (tmp_path / "params.toml").unlink()
    with pytest.raises(
        PolicyError, match=r"params.toml, line 1: can't read it: No such file.*tierstream policy fit LOG"
    ):
        load(policy)


def test_a_setting_that_the_policy_has_as_well_is_refused(tmp_path: Path) -> None:
    text = shipped_text("annual-spend").replace(OWN, 'parameters = "params.toml"\nr = 0.5\n')
    with pytest.raises(PolicyError, match=r"risk.r: params.toml has it too. Remove it here"):
        load(write(tmp_path, FITTED.as_toml(), text))


def test_amounts_in_another_currency_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"was fitted to amounts in EUR\. Fit again under this policy"):
        load(write(tmp_path, FITTED.as_toml().replace('currency = "USD"', 'currency = "EUR"')))


@pytest.mark.parametrize(
    ("slip", "instead", "said"),
    [
        ("silence = 1.2", "silence = -0.1", "risk.card.silence: is negative: the risk would fall with silence"),
        ("frequency = -0.9", "frequency = 0.1", "risk.card.frequency: is positive: the risk would rise with purchases"),
        ("model = 0.4", "model = 1e99", "risk.card.model: 1e+99 is not a weight"),
        ('typical_spend = "25.20"', 'typical_spend = "0"', "risk.card.typical_spend: is needed"),
        ("q = 3.74", "q = 0.9", "value.spend.q: 0.9 is not a parameter. Write a number above 1"),
        ("low = 0.1", "low = -0.1", "risk.complaints.severity.low: is out of range"),
    ],
)
def test_weights_of_the_wrong_sign_are_refused(tmp_path: Path, slip: str, instead: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(write(tmp_path, FITTED.as_toml().replace(slip, instead)))
    assert said in str(caught.value)
