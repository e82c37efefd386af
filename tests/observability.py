"""What docs/observability asks of Prometheus: the expressions of the dashboard and of the alert rules, and what they
name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "docs" / "observability"
NAME = re.compile(r"\b(?:tierstream|process)_[a-z_]+")
SELECTED = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
GROUPED = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
    return found


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    """All of them."""
    found = dashboard()
    for panel in found["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for annotation in found["annotations"]["list"]:
        yield annotation["expr"]
    for variable in found["templating"]["list"]:
        yield variable.get("definition", "")
    for rule in alert_rules():
        yield rule["expr"]


def names_used() -> set[str]:
    """The metrics that are asked for."""
    return {name for expression in expressions() for name in NAME.findall(expression)}


def labels_used() -> set[str]:
    """The labels by which they are chosen and grouped."""
    found = {label for expression in expressions() for label in SELECTED.findall(expression)}
    for expression in expressions():
        for group in GROUPED.findall(expression):
            found |= {label.strip() for label in group.split(",") if label.strip()}
    return found
