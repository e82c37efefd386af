"""The HTML page of a backtest: complete, self-contained, deterministic, and safe for any name of a policy."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest

from models import units
from models.fitting.alerts import TeamMeasures
from models.fitting.backtest import Backtest, Forecast, Result
from streams.workshop.fitting.backtest_page import page
from streams.workshop.fitting.backtest_report import Flapping, PolicyReport, Report

NAMES = ("<i>&\"'$x$@1", "_plain@2")
BEGINS_MS = 852_076_800_000
HORIZON_MS = 90 * units.DAY_MS
ENDS_MS = BEGINS_MS + 500 * units.DAY_MS
ORIGINS_MS = (BEGINS_MS + 180 * units.DAY_MS, BEGINS_MS + 270 * units.DAY_MS)
EMPTY = {"meta", "br", "hr", "img", "link", "input"}
NONE = float("nan")


class Parsed(HTMLParser):
    """The elements with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.open, self.getpos())

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]

    def texts(self, *tags: str) -> list[str]:
        return [text.strip() for tag, text in self.text if tag in tags]


def result(
    name: str, sharpness: float, origins_ms: tuple[int, ...], is_baseline: bool = False, fitted_until_ms: int = -1
) -> Result:
    """Forty customers at each origin, of whom the later ones churned; at the second origin all have the same risk."""
    churned = np.arange(40) >= 15
    graded = np.clip(0.5 + sharpness * (np.arange(40) - 15) / 40, 0, 1)
    return Result(
        name,
        is_baseline,
        fitted_until_ms,
        tuple(
            Forecast(at_ms, np.full(40, 0.5) if place else graded, churned if place else np.roll(churned, 3))
            for place, at_ms in enumerate(origins_ms)
        ),
    )


def report(origins_ms: tuple[int, ...] = ORIGINS_MS, known: bool = True) -> Report:
    results = (
        result("recency", 0.4, origins_ms, is_baseline=True),
        result("frequency", -0.3, origins_ms, is_baseline=True),
        result("score card, fitted", 0.9, origins_ms),
        *(result(name, 0.2, origins_ms) for name in NAMES),
    )
    weeks = tuple((origins_ms[0] + week * units.WEEK_MS, 3 * week) for week in range(8))
    if known:
        team = TeamMeasures(84, 10.5, weeks, 0.625, 12, 0.75, 0.5, (11.0, 23.0, 34.0))
    else:
        team = TeamMeasures(0, 0.0, (), NONE, 0, NONE, NONE, (NONE, NONE, NONE))
    policies = [PolicyReport(name, team, Flapping(1.5, 2.5, 3.5, 4.5)) for name in NAMES]
    found = Backtest(HORIZON_MS, origins_ms, len(origins_ms) == 1, 40 * len(origins_ms), 0.625, results)
    return Report(["orders <1>.csv"], 1_234, BEGINS_MS, ENDS_MS, 2, found, policies)


def never_churned(of: Report) -> Report:
    """The same report without churned customers, so without AUC and lift."""
    results = tuple(
        replace(one, forecasts=tuple(replace(judged, churned=np.zeros(40, bool)) for judged in one.forecasts))
        for one in of.found.results
    )
    return replace(of, found=replace(of.found, churned=0.0, results=results))


REPORTS = {
    "two origins": report(),
    "one origin": report(ORIGINS_MS[:1]),
    "no alerts": report(known=False),
    "no policies": replace(report(), policies=[]),
    "no churners": never_churned(report()),
}
every_report = pytest.mark.parametrize("name", REPORTS)


@cache
def page_of(name: str) -> str:
    return page(REPORTS[name])


@every_report
def test_the_html_is_well_formed_and_its_ids_are_unique(name: str) -> None:
    text = page_of(name)
    parsed = Parsed(text)
    assert not parsed.open
    assert parsed.all("html") == [{"lang": "en"}]
    ids = Counter(attributes["id"] for _, attributes in parsed.found if "id" in attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    meant = {name for _, one in parsed.found for name in (one.get("aria-labelledby"),) if name}
    meant |= set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert meant
    assert meant <= set(ids)


@every_report
def test_the_page_fetches_nothing(name: str) -> None:
    text = page_of(name)
    assert re.findall(r"https?:|//\w|@import|\burl\((?!#)", text) == []
    parsed = Parsed(text)
    assert parsed.all("script", "link", "img", "image", "iframe", "object", "embed", "base") == []
    for _, attributes in parsed.found:
        assert not {"src", "srcset", "action", "background"} & set(attributes)
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href"))


@every_report
def test_the_same_report_gives_the_same_bytes(name: str) -> None:
    assert page(REPORTS[name]) == page_of(name)


@every_report
def test_every_plot_has_a_name_and_decoration_is_hidden_from_screen_readers(name: str) -> None:
    drawn = Parsed(page_of(name)).all("svg")
    names = [one["aria-label"] for one in drawn if one.get("role") == "img"]
    assert all(names)
    assert len(set(names)) == len(names) >= 3
    assert all(one.get("aria-hidden") == "true" for one in drawn if one.get("role") != "img")


@every_report
def test_headings_are_in_order_and_headers_of_tables_have_a_scope(name: str) -> None:
    parsed = Parsed(page_of(name))
    levels = [tag for tag, _ in parsed.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == "h1"
    assert set(levels[1:]) == {"h2"}
    assert {one.get("scope") for one in parsed.all("th")} == {"col", "row"}


def test_what_a_policy_or_a_log_is_called_stays_text() -> None:
    text = page_of("two origins")
    assert "<i>" not in text
    assert "orders <1>" not in text
    parsed = Parsed(text)
    assert parsed.texts("th").count(NAMES[0]) == 2, "a row among the models, a column of the team's table"
    assert any(f"Calibration of {NAMES[0]}:" in (one.get("aria-label") or "") for one in parsed.all("svg"))
    assert any("orders <1>.csv" in one for one in parsed.texts("dd"))


def test_the_best_of_each_column_is_marked_by_more_than_colour() -> None:
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", page_of("two origins"))
    marked = {name.split("<")[0].strip(): cells.count("★") for name, cells in rows if "★" in cells}
    assert marked["score card, fitted"] >= 2
    assert sum("rule of thumb" in name for name, _ in rows) == 2


def test_who_had_seen_the_outcomes_is_marked_and_is_never_the_best() -> None:
    of = report()
    cheat = result("all-knowing@1", 1.0, ORIGINS_MS, fitted_until_ms=ENDS_MS)
    cheat = replace(
        cheat, forecasts=tuple(replace(one, probability=one.churned.astype(float)) for one in cheat.forecasts)
    )
    text = page(replace(of, found=replace(of.found, results=(*of.found.results, cheat))))
    [(name, cells)] = re.findall(r"<tr><th scope=\"row\">(all-knowing.*?)</th>(.*?)</tr>", text)
    assert "had seen outcomes" in name
    assert "1.0000" in cells
    assert "★" not in cells
    assert "Calibration of all-knowing" not in text
    assert "had seen outcomes" not in page_of("two origins")


def test_with_one_origin_there_is_nothing_to_say_of_change() -> None:
    assert "Does it last?" in page_of("two origins")
    assert "Does it last?" not in page_of("one origin")


def test_of_no_policies_the_team_felt_nothing() -> None:
    text = page_of("no policies")
    assert "Effect on the team" not in text
    assert "Alerts of" not in text


def test_what_is_not_known_is_a_dash_or_said_and_never_nan() -> None:
    for name in ("no alerts", "no churners"):
        parsed = Parsed(page_of(name))
        assert "–" in parsed.texts("td"), name
        labels = [one.get("aria-label") or "" for one in parsed.all("svg")]
        assert not [one for one in [*labels, *parsed.texts("td", "figcaption", "li")] if re.search(r"\bnan\b", one)], (
            name
        )
    assert "No loss was caught" in page_of("no alerts")


def test_a_week_that_the_log_cuts_short_is_not_drawn() -> None:
    of = report()
    last_ms = ENDS_MS - HORIZON_MS - units.DAY_MS
    team = of.policies[0].team
    longer = replace(team, alerts_by_week=(*team.alerts_by_week, (last_ms, 1)))
    weeks = "in each of 8 weeks: between 0 and 21."
    assert weeks in page_of("two origins")
    assert weeks in page(replace(of, policies=[replace(of.policies[0], team=longer)]))
