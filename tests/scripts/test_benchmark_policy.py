"""The benchmarks' policy and what their peers fold by are the same tiers."""

from __future__ import annotations

import json
from pathlib import Path

import models
from models.units import DAY_MS

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_the_peers_fold_by_the_tiers_and_the_window_of_the_benchmarks_policy() -> None:
    policy = models.load(SCRIPTS / "benchmarks" / "policy.toml")
    fold = json.loads((SCRIPTS / "peers" / "fold.json").read_bytes())
    assert (policy.window.kind, policy.window.length_ms) == ("trailing", fold["window_days"] * DAY_MS)
    assert policy.window.bucket_ms == DAY_MS
    assert policy.base_tier == fold["base_tier"]
    above = [{"name": tier.name, "min_spend_minor": tier.min_spend_minor} for tier in policy.ladder.tiers[1:]]
    assert above == fold["tiers"]
