"""docs/replay.md: what it shows is what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

from models.events import Event
from streams.cli import COMMANDS
from streams.sources.kafka_span import parse_kafka_url
from streams.sources.mapping import Mapping
from streams.sources.mapping_file import MappingFile, Rules, parse_mapping, preset_names
from streams.sources.named_logs import find_logs
from tests.builders import ROOT, shipped_text
from tests.running import policy_of
from tests.test_cli import run

PAGE = (ROOT / "docs" / "replay.md").read_text("utf-8")


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_mapping_of_the_page_gives_the_events_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(block("toml"), "utf-8")
    (tmp_path / "shop.csv").write_text(block("csv"), "latin-1")
    (log,) = find_logs([str(tmp_path / "shop.csv")], [str(tmp_path / "map.toml")])
    decoder = policy_of(shipped_text("annual-spend").replace('"USD"', '"EUR"')).decoder()
    found = [record.decoded for record in log.streams(decoder, lambda count: None)[0]]
    assert [(one.customer_id, one.amount_minor) for one in found if isinstance(one, Event)] == [
        ("ada", 123450),
        ("bob", 8000),
    ]
    assert [json.loads(record.value or b"")["occurred_at"] for record in log.streams(decoder, lambda count: None)[0]] == [
        "2026-01-31T11:00:00Z", "2026-07-31T10:00:00Z",
    ]  # fmt: skip


def test_the_page_names_every_key_of_a_mapping_and_every_preset() -> None:
    reference = PAGE[PAGE.index("## Mappings") : PAGE.index("## Logs that are not in order")]
    said = set(re.findall(r"[a-z_]+", reference))
    for name in {*MappingFile.__struct_fields__, *Rules.__struct_fields__} - {"title"}:
        assert name in said, name
    assert set(preset_names()) <= set(re.findall(r"`([a-z-]+)`", PAGE))
    assert all(Mapping.named(name).file.title for name in preset_names())
    assert parse_mapping(block("toml")).topic == "purchases"


def test_the_commands_and_urls_of_the_page_are_taken() -> None:
    commands = {name for below in COMMANDS.values() for name in below}
    assert set(re.findall(r"(?:`|^    )tierstream ([a-z-]+)", PAGE, re.MULTILINE)) <= commands
    urls = re.findall(r"kafka://\S+\?[^\s\"`…]+", PAGE)
    assert len(urls) > 3
    for url in urls:
        parse_kafka_url(url)
    helped = run("replay", "--help").output + run("policy", "diff", "--help").output
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        assert option in helped, option
