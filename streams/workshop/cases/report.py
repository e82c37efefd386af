"""The outcomes of test customers, as lines of text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from models.policy import Policy
from models.units import format_time
from streams.workshop.cases.runner import Outcome


def lines_of(outcome: Outcome) -> Iterator[str]:
    """A line for an outcome, and below it the differences from what was expected."""
    word = "ok    " if outcome.passed else "FAILED"
    yield f"{word}  {_instant(outcome.at_ms):20}  {outcome.customer}"
    for one in outcome.differences:
        yield f"        {outcome.source}, line {outcome.line}: {one.what} should be {one.expected!r}, but is {one.actual!r}"
        if one.because:
            yield f"            {one.because}"


def summary(policy: Policy, outcomes: Sequence[Outcome]) -> str:
    """How many outcomes are as expected."""
    failed = sum(not outcome.passed for outcome in outcomes)
    return f"{policy.ref}: {len(outcomes) - failed} as expected, {failed} not"


def as_wire(policy: Policy, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The outcomes for programs."""
    return {
        "policy": policy.ref,
        "ok": all(outcome.passed for outcome in outcomes),
        "outcomes": [
            {
                "file": outcome.source,
                "line": outcome.line,
                "customer": outcome.customer,
                "at": format_time(outcome.at_ms),
                "ok": outcome.passed,
                "differences": [asdict(one) for one in outcome.differences],
            }
            for outcome in outcomes
        ],
    }


def _instant(at_ms: int) -> str:
    return format_time(at_ms).removesuffix("T00:00:00Z")
