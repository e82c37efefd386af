"""`tierstream customer explain` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streams.cli import app
from tests.builders import Wire, act_on_alert, cdnow, complaint, lock, purchase, refund

HERE = ("--policy", "annual-spend")
LOG = [
    purchase("ada", "40.00", on="2026-01-05", id="e1"),
    purchase("bob", "10.00", on="2026-01-06", id="e2"),
    purchase("ada", "50.00", on="2026-02-01", currency="EUR", id="e3"),
    purchase("ada", "50.00", on="2026-02-10", id="e4"),
    purchase("ada", "40.00", on="2026-01-05", id="e1"),
    complaint("ada", on="2026-02-09", severity="high", category="delivery", id="e5"),
    refund("ada", "5.00", on="2026-03-01", of="2026-01-05", id="e6"),
    purchase("ada", "1.00", on="2019-01-01", id="e7"),
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "100"})


def as_json(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def written(path: Path, log: list[Wire]) -> Path:
    path.write_text("".join(json.dumps(wire) + "\n" for wire in log))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return written(tmp_path / "log.jsonl", LOG)


def test_a_story_has_every_event_of_the_customer_with_its_verdict(log: Path) -> None:
    moments = as_json("customer", "explain", "ada", log, *HERE)["moments"]
    events = {
        (one["event"]["event_id"], one["verdict"], one["late"], (one["reason"] or {}).get("code"))
        for one in moments
        if one["kind"] == "event"
    }
    assert events == {
        ("e1", "counted", False, None),
        ("e3", "rejected", False, "unknown_currency"),
        ("e4", "counted", False, None),
        ("e1", "repeat", False, None),
        ("e5", "counted", True, None),
        ("e6", "counted", False, None),
        ("e7", "rejected", False, "too_late"),
    }
    (bought,) = [one for one in moments if one["cause"] == "e4"]
    assert bought["changed"]["spend"] == ["40.00", "90.00"]
    assert bought["changed"]["tier"] == ["member", "silver"]
    assert [one["text"] for one in bought["announcements"]] == [
        "upgrade: member → silver", "risk cleared: watch → none at 48.9 %, mainly base", "alert 1 recovered",
    ]  # fmt: skip
    by_clock = [one for one in moments if one["kind"] == "clock"]
    assert [one["announcements"][0]["change"] for one in by_clock] == ["raised"]
    assert by_clock[0]["changed"]["level"] == ["none", "watch"]


def test_a_story_is_printed_as_a_timeline(log: Path) -> None:
    result = run("customer", "explain", "ada", log, *HERE)
    assert result.exit_code == 0, result.output
    for line in (
        "Customer ada under annual-spend@1, as of 2026-03-01T00:00:00Z",
        "2026-01-05T00:00:00Z      purchase of $40.00 (order o1)",
        "2026-02-01T00:00:00Z      a record of purchases that can't be used (rejected, unknown_currency: currency 'EUR'",
        "time alone",
        "spend $40.00 → $90.00; orders 1 → 2",
        "purchase of $40.00 (order o1) (came again: changes nothing)",
        "(late: judged at 2026-02-10T00:00:00Z)",
        "refund of $5.00 for a purchase of 2026-01-05 (order o1)",
        "with one purchase of $115.00 by 2026-12-31: gold",
        "Without a purchase",
    ):
        assert " ".join(line.split()) in " ".join(result.output.split()), line
    assert not [line for line in result.output.splitlines() if line != line.rstrip()]
    assert max(map(len, result.output.splitlines())) <= 100


def test_a_story_up_to_a_time_leaves_out_what_occurred_later(log: Path) -> None:
    story = as_json("customer", "explain", "ada", log, *HERE, "--at", "2026-02-05")
    assert story["at"] == story["now"]["as_of"] == "2026-02-05T00:00:00Z"
    assert story["now"]["tier"] == "member"
    assert story["now"]["monetary"] == "40.00"
    # In the order of the log: events that occurred until then are included, even if they arrived later.
    assert [one["cause"] for one in story["moments"]] == ["e1", "e3", "e1", "e7", "clock"]


def test_the_last_moments_are_the_end_of_the_whole_story(log: Path) -> None:
    whole, end = (
        as_json("customer", "explain", "ada", log, *HERE),
        as_json("customer", "explain", "ada", log, *HERE, "--last", "2"),
    )
    assert end["moments"] == whole["moments"][-2:]
    assert end["now"] == whole["now"]
    assert "the last 2 moments" in run("customer", "explain", "ada", log, *HERE, "--last", "2").output


def test_the_effects_of_time_ahead_are_those_of_a_later_replay(log: Path, tmp_path: Path) -> None:
    ahead = as_json("customer", "explain", "ada", log, *HERE)["without_a_purchase"]
    result = run("replay", log, *HERE, "--out", tmp_path / "out", "--until", "2031-01-01")
    assert result.exit_code == 0, result.output
    lines = [
        json.loads(line)
        for name in ("tier-changes", "churn-risk", "alerts")
        for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()
    ]
    later = sorted(
        (one["seq"], one["change"], one["occurred_at"])
        for one in lines
        if one["customer_id"] == "ada" and one["occurred_at"] > "2026-03-01T00:00:00Z"
    )
    found_ahead = [(body["seq"], body["change"], body["occurred_at"]) for one in ahead for body in one["announcements"]]
    assert found_ahead == later
    assert {"downgrade_scheduled", "downgrade", "escalated", "breached"} <= {change for _, change, _ in later}


def test_a_lock_an_alert_and_an_erasure_are_in_the_story(tmp_path: Path) -> None:
    log = written(
        tmp_path / "log.jsonl",
        [
            purchase("ada", "40.00", on="2026-01-05"),
            act_on_alert("ada", "acknowledged", on="2026-03-01", actor="mia"),
            lock("ada", "gold", on="2026-03-02", reason="a promise", actor="kim"),
        ],
    )
    output = run("customer", "explain", "ada", log, *HERE).output
    for text in (
        "alert 1 acknowledged, mia has it",
        "tier locked at gold by kim: a promise",
        "lock: member → gold",
        "locked: a promise",
        "With one purchase" not in output,
    ):
        assert text is True or str(text) in output, text
    log.write_text(
        log.read_text()
        + json.dumps({
            "topic": "commands", "event_id": "x", "customer_id": "ada", "command": "erase", "occurred_at": "2026-03-03T00:00:00Z",
        })
    )  # fmt: skip
    output = run("customer", "explain", "ada", log, *HERE).output
    assert "erase: nothing is known any more" in output
    assert "nothing is known of them: their data was erased" in output


def test_control_characters_are_shown_and_not_sent_to_the_terminal(tmp_path: Path) -> None:
    nasty = "a[bold]\x1b[2Jb"
    log = written(tmp_path / "log.jsonl", [purchase(nasty, "40.00", on="2026-01-05", order_id="o\x1b[2J")])
    output = run("customer", "explain", nasty, log, *HERE).output
    assert "\x1b" not in output
    assert "Customer a[bold]\\x1b[2Jb under" in output
    assert "(order o\\x1b[2J)" in output


def test_if_thresholds_follow_the_base_the_story_counts_all_customers(tmp_path: Path) -> None:
    log = written(tmp_path / "log.jsonl", cdnow()[:2_500])
    run("replay", log, "--policy", "pyramid", "--out", tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "tier-changes.jsonl").read_text().splitlines()]
    customer_id = next(one["customer_id"] for one in lines if one["cause"] == "edition-2")
    story = as_json("customer", "explain", customer_id, log, "--policy", "pyramid")
    assert [
        (body["seq"], body["cause"])
        for one in story["moments"]
        for body in one["announcements"]
        if body["topic"] == "tier-changes"
    ] == [(one["seq"], one["cause"]) for one in lines if one["customer_id"] == customer_id]
    assert (
        "edition-2 of the policy: pyramid@1/2"
        in run("customer", "explain", customer_id, log, "--policy", "pyramid").output
    )


def test_a_purchase_that_is_supposed_does_what_it_does_when_it_is_made(log: Path, tmp_path: Path) -> None:
    found = as_json("customer", "explain", "ada", log, *HERE, "--event", '{"amount": "115"}', "--at", "2026-06-01")[
        "under"
    ][0]
    bought = purchase("ada", "115", on="2026-06-01", id="what-if-1")
    really = as_json("customer", "explain", "ada", written(tmp_path / "with.jsonl", [*LOG, bought]), *HERE)
    assert found["after"] == really["moments"][-1]["after"]
    assert found["profile_after"] == really["now"]
    assert found["announcements"] == really["moments"][-1]["announcements"]
    assert found["changed"]["tier"] == ["silver", "gold"]
    assert sum(found["moved"].values()) == pytest.approx(
        found["after"]["log_odds"] - found["before"]["log_odds"], abs=1e-9
    )
    # A minor unit less does not reach it.
    less = as_json("customer", "explain", "ada", log, *HERE, "--event", '{"amount": 114.99}', "--at", "2026-06-01")[
        "under"
    ][0]
    assert "tier" not in less["changed"]


def test_missing_fields_of_an_event_are_filled_in_and_listed(log: Path) -> None:
    events = (
        '{"amount": 5, "original_occurred_at": "2026-02-10"}',
        '{"severity": "critical"}',
        '{"score": 10}',
        '{"need": true}',
        '{"command": "lock_tier", "tier": "gold", "reason": "why not"}',
    )
    result = as_json(
        "customer", "explain", "ada", log, *HERE, "--at", "2026-03-02", *(f"--event={one}" for one in events[1:])
    )
    bodies = [one["body"] for one in result["under"][0]["events"]]
    assert [one["topic"] for one in result["under"][0]["events"]] == [
        "complaints", "feedback", "prospects", "commands",
    ]  # fmt: skip
    assert bodies[0] == {
        "event_id": "what-if-1", "customer_id": "ada", "occurred_at": "2026-03-02T00:00:00Z", "complaint_id": "what-if-1",
        "status": "opened", "severity": "critical",
    }  # fmt: skip
    assert result["under"][0]["events"][1]["filled_in"] == ["event_id", "customer_id", "occurred_at", "kind"]
    result = as_json("customer", "explain", "ada", log, *HERE, "--event", events[0].replace('10"', '10T00:00:00Z"'))
    assert result["under"][0]["events"][0]["text"] == "refund of $5.00 for a purchase of 2026-02-10 (order what-if-1)"


def test_the_effect_can_be_shown_under_several_policies(log: Path) -> None:
    event = ("--event", '{"amount": "60"}')
    both = as_json("customer", "explain", "ada", log, *HERE, "--policy", "subscription-like", *event)["under"]
    alone = as_json("customer", "explain", "ada", log, "--policy", "subscription-like", *event)["under"]
    assert [one["policy"] for one in both] == ["annual-spend@1", "subscription-like@1"]
    assert both[1] == alone[0]


def test_what_would_happen_is_a_table_of_without_and_with(log: Path) -> None:
    result = run("customer", "explain", "ada", log, *HERE, "--event", '{"amount": "115"}')
    assert result.exit_code == 0, result.output
    assert ["tier", "silver", "gold"] in [line.split() for line in result.output.splitlines()]
    assert "upgrade: silver → gold" in result.output
    assert "filled in: event_id what-if-1, occurred_at 2026-03-01T00:00:00Z, kind purchase" in result.output


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ('{"amount": "60"', "event 1 is not JSON"),
        ("[]", "event 1 is not a JSON object"),
        ('{"amount": "60.001"}', "too_many_decimals): amount 60.001 has more than 2 decimals"),
        ('{"ammount": "60"}', "there is no field 'ammount'"),
        ('{"amount": 1, "severty": "low"}', "purchases have no field 'severty'; the fields are event_id"),
        ('{"order_id": "o1"}', "Object missing required field `amount`"),
        ('{"severity": "urgent"}', "Invalid enum value 'urgent', at `severity`"),
        ('{"amount": 1, "severity": "low"}', "its fields fit purchases and complaints; give --topic"),
        ('{"region": "north"}', "none of its fields decides; give --topic, one of purchases"),
        ('{"topic": "sales", "amount": 1}', "topic 'sales' is not among purchases"),
        ('{"amount": 1, "currency": "EUR"}', "currency 'EUR' is not among USD"),
        ('{"amount": 1, "customer_id": "bob"}', "customer_id 'bob' is another customer than 'ada'"),
        ('{"amount": 1, "occurred_at": "tomorrow"}', "bad_time"),
    ],
)
def test_what_is_wrong_with_an_event_is_said_with_its_field(log: Path, event: str, says: str) -> None:
    result = run("customer", "explain", "ada", log, *HERE, "--event", event)
    assert result.exit_code == 2
    assert says in result.output


def test_an_event_that_would_be_rejected_is_shown_as_rejected(log: Path) -> None:
    result = run(
        "customer", "explain", "ada", log, *HERE, "--event", '{"amount": 1, "occurred_at": "2001-01-01T00:00:00Z"}'
    )
    assert "would be rejected, too_late" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--topic", "purchases"], "--topic is for --event: give --event"),
        (["-p", "annual-spend", "-p", "pyramid"], "--policy is given 2 times"),
        (["--event", '{"amount": 1}', "--last", "3"], "--event can't be with --journal, --last or --redis-url"),
        (["--event", '{"amount": 1}', "--journal"], "--event can't be with --journal, --last or --redis-url"),
        (["--event", '{"amount": 1}', "--redis-url", "redis://127.0.0.1:1/0"], "--event can't be with"),
    ],
)
def test_options_of_a_story_and_of_an_event_are_not_mixed(log: Path, options: list[str], says: str) -> None:
    result = run("customer", "explain", "ada", log, *options)
    assert result.exit_code == 2
    assert says in result.output


def test_an_unknown_customer_is_reported_with_similar_ids(log: Path) -> None:
    result = run("customer", "explain", "adda", log, *HERE)
    assert result.exit_code == 2
    assert (
        "the log has no customer 'adda' up to 2026-03-01T00:00:00Z; it has 2 others; similar ids are ada"
        in result.output
    )


def test_a_journal_is_read_from_the_topics_of_a_worker_only(log: Path) -> None:
    of_a_file = run("customer", "explain", "ada", log, "--journal")
    assert of_a_file.exit_code == 2
    assert "--journal needs one log, kafka://HOST:PORT: files have no journal" in of_a_file.output
    nothing = run("customer", "explain", "ada", "--journal")
    assert nothing.exit_code == 2
    assert "there is nothing to read" in nothing.output
    twice = run("customer", "explain", "ada", "--journal", "--recorded-lines")
    assert twice.exit_code == 2
    assert "leave --recorded-lines out" in twice.output
