"""The command line as its users meet it: help with an example, clear refusals, files that say what happened."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from models import _compiled, encode, load, new_customer
from models.policy import SHIPPED
from streams.cli import COMMANDS, RENAMED, Command, Group, app
from streams.versions import about
from tests.builders import ROOT


def all_commands() -> dict[str, Command]:
    """Every command of the table, by all the words of its name."""
    found: dict[str, Command] = {}
    for below in COMMANDS.values():
        for name, one in below.items():
            if isinstance(one, Group):
                found |= {f"{name} {second}": command for second, command in one.commands.items()}
            else:
                found[name] = one
    return found


def groups() -> dict[str, Group]:
    return {name: one for below in COMMANDS.values() for name, one in below.items() if isinstance(one, Group)}


CONSOLE = [f"console {what} {act}" for what in ("keys", "users") for act in ("add", "list", "remove")]


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env=env)


def purchase(number: int, customer_id: str = "ada", **changed: object) -> str:
    body = {
        "event_id": f"e{number}", "customer_id": customer_id, "kind": "purchase", "order_id": f"o{number}",
        "amount": "120.00", "currency": "USD", "occurred_at": f"2026-01-{number:02}T00:00:00Z",
    }  # fmt: skip
    return json.dumps(body | changed)


def test_the_version_tells_the_build_and_the_formats_that_it_writes() -> None:
    result = run("--version")
    assert result.exit_code == 0
    said = dict(line.split(None, 1) for line in result.output.splitlines())
    assert said["state"] == str(encode(new_customer(load("annual-spend"), 0))[0])
    assert said["topics"] == json.loads((ROOT / "docs/asyncapi.json").read_text())["info"]["version"]
    assert said["tierstream"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert said["core"] == ("compiled" if _compiled.is_in_use() else "plain Python")
    assert said["policies"] == "1"
    assert "revision" in said


def test_the_revision_is_that_of_a_release_or_of_the_checkout_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(about, "REVISION_FILE", tmp_path / "revision")
    monkeypatch.setattr(about, "ROOT", tmp_path)
    assert about.revision() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert about.revision() == commit[:12]
    (tmp_path / "file").write_text("2")
    assert about.revision() == f"{commit[:12]}, changed since"
    (tmp_path / "revision").write_text("0123456789ab\n")
    assert about.revision() == "0123456789ab"


@pytest.mark.parametrize("command", [*all_commands(), *CONSOLE])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    [example] = [line for line in result.output.splitlines() if line.startswith("  Example: ")]
    assert f"tierstream {command}" in example
    for option in re.findall(r"(?<= )--[a-z-]+", example.partition(" | ")[0]):
        assert f" {option} " in result.output.partition("Options:")[2].partition("Example:")[0]


@pytest.mark.parametrize(
    "option",
    ["--broker", "--redis-url", "--registry", "--web-port", "--yes", "--map", "--sort", "--sort-memory", "--journal"],
)
def test_an_option_has_the_same_help_in_every_command(option: str) -> None:
    context = typer.Context(typer.main.get_command(app))
    found = {}
    for name in all_commands():
        command = context.command
        for word in name.split():
            command = command.get_command(context, word)  # type: ignore[attr-defined]
        for one in command.params:
            if option in one.opts and (name, option) != ("worker", "--map"):  # which is TOPIC=FILE there
                found[name] = one.help  # type: ignore[attr-defined]
    assert len(found) > 1
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("command", all_commands())
def test_the_sentence_in_the_table_is_the_first_of_the_command_s_help(command: str) -> None:
    paragraphs = run(*command.split(), "--help").output.split("\n\n")
    assert " ".join(paragraphs[1].split()) == all_commands()[command].sentence


@pytest.mark.parametrize("group", groups())
def test_a_group_lists_its_commands_with_their_sentences(group: str) -> None:
    result = run(group, "--help")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert groups()[group].sentence.split() in lines
    for name, one in groups()[group].commands.items():
        assert [name, *one.sentence.split()] in lines


def test_help_lists_at_most_14_commands_under_headings() -> None:
    result = run("--help")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert list(COMMANDS) == ["Run", "Replay", "Policies", "Retention", "Operate"]
    for heading, below in COMMANDS.items():
        assert [f"{heading}:"] in lines
        for name, one in below.items():
            assert [name, *one.sentence.split()] in lines
    assert sum(map(len, COMMANDS.values())) <= 14


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("fit a.jsonl --out p.toml", "'fit' is 'policy fit' now: tierstream policy fit a.jsonl --out p.toml"),
        ("backtest a.jsonl", "'backtest' is 'policy backtest' now: tierstream policy backtest a.jsonl"),
        ("diff a.jsonl --policy x", "'diff' is 'policy diff' now: tierstream policy diff a.jsonl --policy x"),
        (
            "policy switch --parameters p.toml --policy mine.toml",
            "'policy switch' is 'policy activate' now: tierstream policy activate --parameters p.toml --own mine.toml",
        ),
        (
            """whatif ada 'my log.jsonl' --event '{"amount": 1}'""",
            """'whatif' is 'customer explain' now: tierstream customer explain ada 'my log.jsonl' --event '{"amount": 1}'""",
        ),
        (
            "explain ada log.jsonl --at 2026-01-31",
            "'explain' is 'customer explain' now: tierstream customer explain ada log.jsonl --at 2026-01-31",
        ),
        ("customer 1516", "'customer' is 'customer show' now: tierstream customer show 1516"),
        (
            "customer --redis-url redis://127.0.0.1:6379/0 1516",
            "'customer' is 'customer show' now: tierstream customer show --redis-url redis://127.0.0.1:6379/0 1516",
        ),
        ("sources", "'sources' is 'mappings' now: tierstream mappings"),
        ("sources show cdnow", "'sources' is 'mappings' now: tierstream mappings show cdnow"),
        ("push --agents 5", "'push' is 'alerts push' now: tierstream alerts push --agents 5"),
        ("digest --help", "'digest' is 'alerts digest' now: tierstream alerts digest --help"),
        (
            "migrate --to-prefix wide- --partitions 16",
            "'migrate' is 'topics migrate' now: tierstream topics migrate --to-prefix wide- --partitions 16",
        ),
        (
            "seek --to=2026-01-31T08:00:00Z --to-version 2",
            "'seek' is 'rebuild' now: tierstream rebuild --as-of=2026-01-31T08:00:00Z --to-version 2",
        ),
        ("contracts --out docs", "'contracts' is './scripts/documents' now: ./scripts/documents --out docs"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one_and_the_arguments(typed: str, says: str) -> None:
    result = run(*shlex.split(typed))
    assert result.exit_code == 2
    assert result.stderr == f"tierstream: {says}\n"
    assert result.stdout == ""


def test_every_old_name_is_answered_with_a_command_that_exists() -> None:
    for old, renamed in RENAMED.items():
        assert old not in all_commands()
        program, *words = renamed.now.split()
        if program == "tierstream":
            assert " ".join(words) in {**all_commands(), **groups()}
        else:
            assert (ROOT / program).is_file()
        for name in renamed.options.values():
            assert name in run(*words, "--help").output


def test_a_misspelt_command_is_answered_with_those_near_it() -> None:
    result = run("polcy")
    assert result.exit_code == 2
    assert "No such command 'polcy'. Did you mean 'policy'?" in result.stderr
    assert "Did you mean 'backtest'?" in run("policy", "backtets").stderr
    assert "Did you mean 'explain'?" in run("customer", "explian", "1516").stderr


def test_activate_takes_either_a_policy_or_parameters(tmp_path: Path) -> None:
    for arguments in ([], ["pyramid", "--parameters", tmp_path / "p.toml"]):
        result = run("policy", "activate", *arguments)
        assert result.exit_code == 2
        assert "give a policy file, or --parameters FILE; exactly one of them" in result.output
    for option in (["--at", "2026-01-01T00:00:00Z"], ["--log", "a.jsonl"], ["--reason", "why"], ["--map", "cdnow"]):
        result = run("policy", "activate", "--parameters", tmp_path / "p.toml", *option)
        assert result.exit_code == 2
        assert f"leave {option[0]} out" in result.output


@pytest.mark.parametrize(
    "option",
    [["--policy", "pyramid"], ["--group", "a"], ["--no-worker"], ["--worker-log", "a"], ["--moves", "a"], ["--abort"]],
)
def test_a_version_as_of_a_time_takes_no_option_of_a_rebuild(option: list[str]) -> None:
    result = run("rebuild", "--as-of", "beginning", "--to-version", "2", *option)
    assert result.exit_code == 2
    assert f"leave {option[0]} out" in result.output


@pytest.mark.parametrize("policy", SHIPPED)
def test_a_shipped_policy_is_fine(policy: str) -> None:
    result = run("policy", "check", policy)
    assert result.exit_code == 0
    assert f"{policy}@1 is fine" in result.output


def test_a_policy_is_refused_with_file_line_and_the_way_to_fix_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('id = "mine"\nversion = 1\ntitle = "t"\ncurrency = "USD"\n[window]\nlength = "90 days"\n')
    result = run("policy", "check", file)
    assert result.exit_code == 2
    assert f"{file}, line 1: tiers: is missing. Add tiers = ... there" in result.output


def test_policy_problems_are_json_for_machines(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("id = ")
    result = run("policy", "check", file, "--json")
    assert result.exit_code == 2
    assert json.loads(result.output)["problems"][0]["line"] == 1


def test_replay_writes_a_file_a_topic_and_a_summary(tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text(f"{purchase(1)}\n\n{purchase(2)}\nnot json\n")
    result = run("replay", log, "--policy", "annual-spend", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.output)
    assert summary["events"] == 3
    assert summary["tiers"] == {"gold": 1}
    assert summary["tier_changes"] == {"upgrade": 2}
    assert summary["dead_letters"] == {"not_json": 1}
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "out").iterdir()}
    assert {name: len(lines) for name, lines in files.items()} == {
        "tier-changes.jsonl": 2, "churn-risk.jsonl": 0, "life-cycle.jsonl": 0, "alerts.jsonl": 0,
            "profiles.jsonl": 1, "dead-letters.jsonl": 1,
    }  # fmt: skip
    dead_letter = json.loads(files["dead-letters.jsonl"][0])
    assert (dead_letter["topic"], dead_letter["line"], dead_letter["value"]) == ("purchases", 4, "not json")


def test_replay_reads_gzip_and_lines_that_name_their_topic(tmp_path: Path) -> None:
    log = tmp_path / "everything.jsonl.gz"
    feedback = {
        "event_id": "f",
        "customer_id": "ada",
        "score": 90,
        "kind": "csat",
        "occurred_at": "2026-01-05T00:00:00Z",
    }
    lines = [
        json.dumps(json.loads(purchase(1)) | {"topic": "purchases"}),
        json.dumps(feedback | {"topic": "feedback"}),
        json.dumps(feedback),
        json.dumps(feedback | {"topic": "gossip"}),
    ]
    log.write_bytes(gzip.compress("\n".join(lines).encode()))
    result = run("replay", log, "--policy", "annual-spend", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["dead_letters"] == {"missing_field": 1, "unknown_value": 1}
    profile = json.loads((tmp_path / "out" / "profiles.jsonl").read_text())
    assert profile["satisfaction"]["score"] == 90


def test_replay_gives_the_same_bytes_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a-purchases.jsonl").write_text("\n".join(purchase(day) for day in range(1, 20, 2)))
    (tmp_path / "b-purchases.jsonl").write_text("\n".join(purchase(day, "bob") for day in range(2, 20, 2)))
    results = []
    for number, names in enumerate((("a", "b"), ("b", "a"))):
        out = tmp_path / f"out-{number}"
        result = run(
            "replay", *(tmp_path / f"{name}-purchases.jsonl" for name in names), "-p", "annual-spend", "-o", out
        )
        assert result.exit_code == 0, result.output
        results.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert results[0] == results[1]


def test_replay_refuses_a_log_that_is_not_there_with_a_sentence(tmp_path: Path) -> None:
    result = run("replay", tmp_path / "nothing.jsonl", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "nothing.jsonl: No such file or directory; give a JSONL file" in result.output


def test_replay_refuses_a_packed_file_that_is_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl.gz"
    log.write_bytes(gzip.compress((purchase(1) + "\n").encode() * 100)[:40])
    result = run("replay", log, "-p", "annual-spend", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "is it a whole file?" in result.output


def test_a_time_without_an_offset_is_refused_with_what_to_write(tmp_path: Path) -> None:
    log = tmp_path / "purchases.jsonl"
    log.write_text(purchase(1))
    result = run("replay", log, "--out", tmp_path / "out", "--until", "2026-01-01T00:00:00")
    assert result.exit_code == 2
    assert "end it with Z or +08:00" in result.output


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("BROKER", "localhost", "is not host:port"),
        ("PARTITIONS", "0", "greater than or equal to 1"),
        ("CLOCK", "sundial", "'wall' or 'event'"),
        ("MAX_IDLE", "5", "is not a duration"),
        ("UNTIL", "2026-01-01", "until needs clock=event"),
        ("SECURITY_PROTOCOL", "SASL_SSL", "needs sasl_username and sasl_password"),
        ("POLICY", "no-such-policy", "can't read it"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_wrong(variable: str, value: str, says: str) -> None:
    result = run("worker", env={f"TIERSTREAM_{variable}": value})
    assert result.exit_code == 2
    assert says in result.output
    assert variable in result.output or variable in ("UNTIL", "SECURITY_PROTOCOL", "POLICY")


def test_a_look_up_without_redis_says_how_to_name_it() -> None:
    result = run("customer", "show", "ada")
    assert result.exit_code == 2
    assert "TIERSTREAM_REDIS_URL" in result.output


def test_a_look_up_in_a_redis_that_is_not_there_says_so() -> None:
    result = run("customer", "show", "ada", "--redis-url", "redis://127.0.0.1:1/0")
    assert result.exit_code == 1
    assert "Redis does not answer" in result.output
