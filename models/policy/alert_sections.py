"""The sections of a policy file about what follows from tier and risk: the life cycle, actions, alerts."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from models import units
from models.alerts import AlertRules
from models.life import LifeCycle
from models.policy.form import PolicySpec
from models.policy.policy import Action
from models.policy.settings_reader import SettingsReader
from models.risk import Level
from models.tiers import Tier

CAUSES: Final = ("base", "rhythm", "silence", "complaints", "satisfaction", "basket_trend")
"""The possible main causes of an alert: the terms of the risk score that can raise it."""
MOST_BUDGET: Final = 10_000


def build_life_cycle(reader: SettingsReader, file: PolicySpec) -> LifeCycle | None:
    """`[life_cycle]`; None if the policy has none."""
    spec = file.life_cycle
    if spec is None:
        return None
    reader.check(
        2 <= spec.loyal_days <= 1000,
        "life_cycle.loyal_days",
        f"{spec.loyal_days} is out of range",
        "Write 2 to 1000 days with a purchase",
    )
    names = ("high_frequency", "active", "regular", "cooling_after", "lost_after")
    times = {name: reader.duration(f"life_cycle.{name}", getattr(spec, name), units.HOUR_MS) for name in names}
    for shorter, longer in (*pairwise(names[:3]), names[3:]):
        reader.check(
            times[shorter] < times[longer],
            f"life_cycle.{longer}",
            f"is not longer than {shorter}",
            "Put them in order",
        )
    return LifeCycle(
        spec.loyal_days,
        reader.duration("life_cycle.loyal_after", spec.loyal_after),
        times["cooling_after"],
        times["lost_after"],
        tuple((name.replace("_", "-"), times[name]) for name in names[:3]),
    )


def build_actions(
    reader: SettingsReader, file: PolicySpec, tiers: tuple[Tier, ...], levels: tuple[Level, ...]
) -> tuple[Action, ...]:
    """`[[actions]]`."""
    actions = []
    known = {
        "tier": [tier.name for tier in tiers],
        "cause": list(CAUSES),
        "level": [level.name for level in levels],
    }
    for index, spec in enumerate(file.actions):
        for name, allowed in known.items():
            value = getattr(spec, name)
            reader.check(
                value is None or value in allowed,
                f"actions[{index}].{name}",
                f"{value!r} is not among {', '.join(allowed)}",
                "Use one of them, or leave it out to match all",
            )
        for name in ("do", "do_zh"):
            reader.check(
                getattr(spec, name) is None or bool(getattr(spec, name).strip()),
                f"actions[{index}].{name}",
                "is empty",
                "Say what to do",
            )
        within_ms = reader.duration(f"actions[{index}].within", spec.within, units.MINUTE_MS)
        actions.append(Action(spec.do, spec.do_zh, within_ms, spec.tier, spec.cause, spec.level))
    return tuple(actions)


def build_alerts(reader: SettingsReader, file: PolicySpec, levels: tuple[Level, ...]) -> AlertRules | None:
    """`[alerts]`; None if the policy has none."""
    spec = file.alerts
    if spec is None:
        return None
    names = [level.name for level in levels]
    reader.check(
        spec.level is None or spec.level in names,
        "alerts.level",
        f"{spec.level!r} is not among {', '.join(names)}",
        "Use one of them, or leave it out for the lowest",
    )
    reader.check(
        spec.budget is None or 1 <= spec.budget <= MOST_BUDGET,
        "alerts.budget",
        f"{spec.budget} is out of range",
        f"Write how many alerts an agent takes on a day, 1 to {MOST_BUDGET}, or leave it out",
    )
    reader.check(
        spec.incident_customers > 1,
        "alerts.incident_customers",
        f"{spec.incident_customers} alerts are no incident",
        "Write 2 or more",
    )
    return AlertRules(
        1 if spec.level not in names else names.index(spec.level) + 1,
        reader.duration("alerts.cool_down", spec.cool_down),
        reader.duration("alerts.deadline", spec.deadline, units.MINUTE_MS),
        spec.hold_silence,
        spec.budget or 0,
        spec.incident_customers,
        reader.duration("alerts.incident_within", spec.incident_within, units.MINUTE_MS),
    )
