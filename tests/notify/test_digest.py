"""The digest from a real Redis' queue, filled with what the fold announces: its words, its e-mail, its chat message."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import models
from streams.broker.embedded import EmbeddedRedis
from streams.cli import app
from streams.language.digest_words import EN, ZH
from streams.view.customers import RedisView
from tests.builders import HOUR, act_on_alert, purchase
from tests.receiver import Answer, receiving
from tests.view.test_queue import START_MS, Told


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """With a day's work: 25 customers complain about delivery, some more about other things; some are saved, one is lost."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:

        async def fill() -> None:
            view = RedisView(redis.url)
            told = Told(view)
            for number in range(25):
                await told.complaining(
                    f"customer-{number:04}", spent=f"{20 * number + 5}", at_ms=START_MS + number * 60_000
                )
            for number in range(3):
                await told.happens(purchase("<b>&@channel", "500", on=START_MS, order_id=f"o{number}", id=f"b{number}"))
            await told.complaining("<b>&@channel", spent="2000", category="<i>sizes</i>", at_ms=START_MS + 2 * HOUR)
            await told.complaining(
                "kept-1", "kept-2", "gone-1", spent="400", category="billing", at_ms=START_MS + 3 * HOUR
            )
            for number, who in enumerate(("kept-1", "kept-2")):
                await told.happens(act_on_alert(who, "saved", on=START_MS + 4 * HOUR + number, actor="mia"))
            await told.happens(act_on_alert("gone-1", "lost", on=START_MS + 4 * HOUR, actor="mia"))
            await told.tell(told.fold.advance(START_MS + 20 * HOUR))
            await view.redis.aclose()

        asyncio.run(fill())
        yield redis


def digest(server: EmbeddedRedis, *arguments: str, **more: str) -> Result:
    environment = {"TIERSTREAM_REDIS_URL": server.url, "TIERSTREAM_POLICY": "annual-spend"} | more
    return CliRunner().invoke(app, ["alerts", "digest", "--day", "2024-01-01", *arguments], env=environment)


def test_the_text_has_the_counts_the_incident_and_the_ten_most_urgent_with_why_and_what_to_do(
    server: EmbeddedRedis,
) -> None:
    result = digest(server, TIERSTREAM_CONSOLE_URL="https://console.example.com")
    assert result.exit_code == 0, result.output
    said = result.output
    assert said.startswith("Customers at risk, 2024-01-01\n")
    assert "Now: open 26, held back 0, snoozed 0" in said
    [day] = re.findall(r"On 2024-01-01 \(UTC\): .*", said)
    view = _counts(server)
    assert f"deadlines missed {view['breached']:.0f}, saved 2 (${view['saved_value']:,.2f} kept), lost 1 " in day
    assert f"(${view['lost_value']:,.2f} gone)" in day
    assert view["saved_value"] == pytest.approx(2 * view["lost_value"], rel=0.05)
    assert "25 customers complain about delivery, since 2024-01-01 00:00 UTC" in said
    urgent = re.findall(r"^\d+\. (\S+) \((\w+), (\w+)\), \$([\d,.]+) at stake$", said, re.M)
    assert len(urgent) == 10
    assert urgent[0][0] == "<b>&@channel"
    stakes = [float(stake.replace(",", "")) for *_, stake in urgent]
    assert stakes[0] == max(stakes)
    assert "why: critical complaint about <i>sizes</i> opened 2024-01-01\n" in said
    assert len(re.findall("^   do: .*account manager|^   do: Call|^   do: Personal|^   do: Resolve", said, re.M)) == 10
    assert re.search(r"by: 2024-01-0\d \d\d:\d\d UTC", said)
    assert "and 16 more" in said
    assert "Open the console: https://console.example.com" in said


def _counts(server: EmbeddedRedis) -> dict[str, float]:
    async def read() -> dict[bytes, bytes]:
        view = RedisView(server.url)
        try:
            found: dict[bytes, bytes] = await view.redis.hgetall("tierstream:day:2024-01-01")
            return found
        finally:
            await view.redis.aclose()

    return {"breached": 0.0} | {name.decode(): float(value) for name, value in asyncio.run(read()).items()}


def test_what_is_overdue_says_so(server: EmbeddedRedis) -> None:
    said = digest(server).output
    breached = int(_counts(server)["breached"])
    assert breached == 1
    assert said.count("(overdue)") == 1
    assert "1. <b>&@channel (platinum" in said


def test_the_e_mail_is_one_that_mail_programs_read(server: EmbeddedRedis) -> None:
    result = digest(
        server,
        "--format",
        "email",
        "--from",
        "Alerts <alerts@example.com>",
        "--to",
        "a@example.com",
        "--to",
        "Zoë <z@example.com>",
    )
    assert result.exit_code == 0, result.output
    message = email.message_from_bytes(result.stdout_bytes, policy=email.policy.default)
    assert message["subject"] == "Customers at risk, 2024-01-01"
    assert [one.addr_spec for one in message["to"].addresses] == ["a@example.com", "z@example.com"]
    assert message["from"].addresses[0].addr_spec == "alerts@example.com"
    assert message["auto-submitted"] == "auto-generated"
    assert abs(message["date"].datetime - datetime.now(UTC)) < timedelta(minutes=5)
    assert message["message-id"].endswith("@example.com>")
    assert message.get_content_type() == "multipart/alternative"
    text, html = (part.get_content() for part in message.iter_parts())
    assert text == digest(server).output
    assert html.rstrip("\n") == digest(server, "--format", "html").output.rstrip("\n")
    assert max(map(len, result.stdout_bytes.splitlines())) <= 998
    result.stdout_bytes.decode("ascii")


def test_nothing_that_a_customer_is_called_becomes_markup(server: EmbeddedRedis) -> None:
    html = digest(server, "--format", "html").output
    assert "&lt;b&gt;&amp;@channel" in html
    assert "<b>&@" not in html
    assert "<i>" not in html
    assert "http" not in html
    chat = json.loads(digest(server, "--format", "chat").output)["text"]
    assert "&lt;b&gt;&amp;@\u200bchannel" in chat
    assert "<" not in chat


def test_masked_it_has_no_customers_id(server: EmbeddedRedis) -> None:
    for format_ in ("text", "html", "chat"):
        said = digest(server, "--mask", "--format", format_).output
        assert "customer-" not in said
        assert "@" not in said
        assert "cu•••24" in said


def test_in_chinese_no_sentence_is_english(server: EmbeddedRedis) -> None:
    assert EN.keys() == ZH.keys()
    said = digest(server, "--lang", "zh").output
    assert "25 位客户投诉“delivery”" in said
    assert "非常严重投诉“delivery”，2024-01-01 提出，未解决" in said
    assert "措施: 客服致电：先解决投诉，再给予补偿" in said
    for line in said.splitlines():
        assert not re.search(r"[a-z]+ [a-z]+", line), line


def test_a_chat_gets_it_and_a_failure_does_not_tell_the_chats_secret(server: EmbeddedRedis) -> None:
    with receiving(Answer(200), Answer(403)) as receiver:
        url = receiver.url + "/T0/B0/hush"
        assert digest(server, "--format", "chat", "--post", url).exit_code == 0
        [request] = receiver.requests
        assert list(json.loads(request.body)) == ["text"]
        assert json.loads(request.body)["text"].startswith("Customers at risk")
        refused = digest(server, "--format", "chat", TIERSTREAM_DIGEST_URL=url)
    assert refused.exit_code == 1
    assert "it answered 403" in refused.output
    assert "hush" not in refused.output


def test_an_empty_queue_is_no_error(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as empty:
        result = digest(empty)
    assert result.exit_code == 0, result.output
    assert "Now: open 0" in result.output
    assert "Nothing is open." in result.output
    assert "and " not in result.output.partition("The most urgent")[2]


@pytest.mark.parametrize(
    ("arguments", "more", "why"),
    [
        (("--format", "email"), {}, "an e-mail needs --from and --to"),
        (("--format", "email", "--from", "nobody", "--to", "a@b.example"), {}, "--from: 'nobody' is no e-mail address"),
        (("--format", "email", "--from", "a@b.example", "--to", "a@b\nBcc: x@y"), {}, "holds a line break"),
        (("--day", "yesterday"), {}, "--day 'yesterday' is no date"),
        (("--format", "chat", "--post", "hooks.example.com"), {}, "--post: this is no web address"),
        ((), {"TIERSTREAM_REDIS_URL": ""}, "TIERSTREAM_REDIS_URL"),
        ((), {"TIERSTREAM_CONSOLE_URL": "javascript:alert(1)"}, "TIERSTREAM_CONSOLE_URL: this is no web address"),
    ],
)  # fmt: skip
def test_wrong_use_is_told(server: EmbeddedRedis, arguments: tuple[str, ...], more: dict[str, str], why: str) -> None:
    result = digest(server, *arguments, **more)
    assert result.exit_code in (1, 2)
    assert why in result.output
    assert "Traceback" not in result.output


def test_a_policy_without_alerts_and_a_redis_that_is_away_are_told(server: EmbeddedRedis, tmp_path: Path) -> None:
    text = (Path(models.__file__).parent / "policies" / "annual-spend.toml").read_text()
    (tmp_path / "quiet.toml").write_text(re.sub(r"\[alerts\]\n(\w+ = .*\n)+", "", text))
    quiet = digest(server, "--policy", str(tmp_path / "quiet.toml"))
    assert (quiet.exit_code, "makes no alerts" in quiet.output) == (2, True)
    away = digest(server, "--redis-url", f"unix://{tmp_path}/none")
    assert (away.exit_code, "Redis does not answer" in away.output) == (1, True)
