"""Prints the effect of hypothetical events to a terminal: the events, a table of without and with, and the
announcements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streams.workshop.explain.sentences import percent
from streams.workshop.explain.story_terminal import alert_in_words, indented, money, print_rows, signed, words

NONE = "none"


def print_what_if(console: Console, found: dict[str, Any]) -> None:
    """Print the effect under one policy."""
    console.print(words(f"Customer {found['customer_id']} under {found['policy']}, at {found['at']}, with", "bold"))
    for one in found["events"]:
        verdict = {"counted": "", "repeat": " (came before: changes nothing)"}.get(one["verdict"])
        if verdict is None:
            verdict = f" (would be rejected, {one['reason']['code']}: {one['reason']['detail']})"
        late = " (late)" if one["late"] else ""
        filled = ", ".join(f"{name} {one['body'][name]}" for name in one["filled_in"] if name != "customer_id")
        console.print(indented(words(f"{one['text']}{late}{verdict}")))
        if filled:
            console.print(indented(words(f"filled in: {filled}", "dim")))
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("", "without", "with"):
        table.add_column(name, overflow="fold")
    for name, without, with_it in _rows(found):
        table.add_row(words(name), words(without), words(with_it, "" if without == with_it else "bold"))
    console.print(table)
    console.print(words("It would be announced", "bold"))
    rows = [(words(one["occurred_at"]), words(one["text"])) for one in found["announcements"]]
    print_rows(console, rows or [(Text(""), words("nothing"))])


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The rows of the table: name, value without and value with."""
    currency = found["currency"]
    pairs = [
        (_lines(seen, profile, currency, found["horizon"]))
        for seen, profile in (
            (found["before"], found["profile_before"]),
            (found["after"], found["profile_after"]),
        )
    ]
    without, with_it = pairs
    for name in dict.fromkeys([*without, *with_it]):
        yield name, without.get(name, NONE), with_it.get(name, NONE)


def _lines(seen: dict[str, Any] | None, profile: dict[str, Any] | None, currency: str, horizon: str) -> dict[str, str]:
    if seen is None or profile is None:
        return {"tier": "nothing is known"}
    lines = {
        "tier": seen["tier"] + (", locked" if seen["locked"] else ""),
        "lost at": seen["downgrade_at"] or NONE,
        "keeps": (profile["keeps"] or {}).get("text", NONE),
        "reaches": (profile["reaches"] or {}).get("text", NONE),
        "spend in the window": money(seen["spend"], currency),
        "orders in the window": str(seen["orders"]),
        "satisfaction": NONE if seen["satisfaction"] is None else str(seen["satisfaction"]),
        "risk": seen["level"],
    }
    if seen["probability"] is not None:
        lines[f"no purchase in {horizon}"] = percent(seen["probability"])
        lines |= {f"  {name.replace('_', ' ')}": signed(value, 3) for name, value in seen["contributions"].items()}
        lines["  log-odds in all"] = signed(seen["log_odds"], 3)
        lines["value at stake"] = money(seen["value_at_stake"], currency)
        lines["lifetime value"] = money(profile["risk"]["lifetime_value"], currency)
    if seen["stage"]:
        lines["stage"] = seen["stage"]
    alert = profile["risk"]["alert"]
    lines["alert"] = NONE if alert is None else alert_in_words(alert)
    lines["due next"] = profile["due_at"] or "never"
    return lines
