"""`tierstream customer explain`: a customer's story, and what one more event would do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple

import orjson
import typer
from rich.console import Console

import models
from models import units
from streams.settings import load_settings
from streams.sources.kafka_log import KafkaLog, log_with_journal
from streams.sources.named_logs import find_logs
from streams.sources.options import JournalOption, MapOption, RecordedLinesOption, SomeLogsArgument
from streams.terminal import (
    INTERRUPTED,
    BrokerOption,
    JsonOption,
    RedisOption,
    SomePoliciesOption,
    example,
    fail,
    refuse,
    say,
    say_json,
)
from streams.workshop.explain.journal_story import story_from_journal
from streams.workshop.explain.story import Story, story_from_log
from streams.workshop.explain.story_terminal import print_story
from streams.workshop.explain.table_story import story_from_table
from streams.workshop.explain.view_story import story_from_view
from streams.workshop.explain.what_if import parse_hypothetical, what_if
from streams.workshop.explain.what_if_terminal import print_what_if


class _Asked(NamedTuple):
    """Which customer, and where to look."""

    customer_id: str
    logs: list[str]
    at: str | None
    maps: Sequence[str]
    recorded_lines: bool
    as_json: bool
    broker: str | None
    by_journal: bool = False


@example(
    "tierstream customer explain 1516 purchases.jsonl complaints.jsonl --policy annual-spend "
    '--event \'{"amount": "60.00"}\''
)
def explain(
    customer_id: Annotated[str, typer.Argument(help="The customer's id.")],
    logs: SomeLogsArgument = None,
    at: Annotated[
        str | None,
        typer.Option(help="As of this time; what occurred later is left out. Default: the end of the log."),
    ] = None,
    policy: SomePoliciesOption = None,
    last: Annotated[int | None, typer.Option(min=1, help="Show only the latest moments, this many.")] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            "-e",
            help="Show instead what this event would do: JSON, and what it leaves out is filled in. May be given again.",
        ),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="With --event: the events' topic, where their fields do not decide it.")
    ] = None,
    maps: MapOption = [],  # noqa: B006
    recorded_lines: RecordedLinesOption = False,
    journal: JournalOption = False,
    broker: BrokerOption = None,
    redis_url: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a customer's story, or what one more event would do.

    The story has every event with what it changed and why, what time alone changed, how the customer is now, and what
    comes next. It is made by the worker's own fold, so it says what a replay of the same log announces. With --event,
    it is the customer without and with a purchase, refund or complaint, at the same instant. Nothing is written
    anywhere.

    --policy may be given again with --event, to compare policies. Without a log, the story comes from the worker's
    table (--broker), or from the serving view (--redis-url).
    """
    with _sentences():
        asked = _Asked(customer_id, logs or [], at, maps, recorded_lines, as_json, broker, journal)
        if event:
            if journal or last is not None or redis_url is not None:
                raise refuse("--event can't be with --journal, --last or --redis-url: leave them out")
            _show_what_if(asked, policy or [None], event, topic)
            return
        if topic is not None:
            raise refuse('--topic is for --event: give --event \'{"amount": "25.00"}\', or leave --topic out')
        if policy is not None and len(policy) > 1:
            raise refuse(
                f"--policy is given {len(policy)} times; a story has one policy, only --event compares several"
            )
        if journal and recorded_lines:
            raise refuse("--journal has the lines that the worker drew anyway: leave --recorded-lines out")
        chosen = policy[0] if policy else None
        story = (None if journal else _seen(asked, redis_url)) or _story(asked, chosen).as_json(last)
        if as_json:
            say_json(story, orjson.OPT_INDENT_2)
        else:
            _say_page(partial(print_story, story=story, last=last))


def _show_what_if(asked: _Asked, policies: Sequence[str | None], events: Sequence[str], topic: str | None) -> None:
    """The customer without and with the events, under each policy. Raises ValueError with what is wrong."""
    found = []
    for one in policies:
        story = _story(asked, one)
        given = [
            parse_hypothetical(text, number, asked.customer_id, story.policy, story.at_ms, topic)
            for number, text in enumerate(events, 1)
        ]
        found.append(what_if(story.customer, story.policy, asked.customer_id, story.at_ms, given))
    if asked.as_json:
        say_json({"customer_id": asked.customer_id, "under": found}, orjson.OPT_INDENT_2)
    else:
        for each in found:
            _say_page(partial(print_what_if, found=each))


def _story(asked: _Asked, policy: str | None) -> Story:
    """The customer's story by the logs, or by the table. Raises ValueError with what is wrong."""
    at_ms = None if asked.at is None else units.parse_time(asked.at)
    shown = not asked.as_json and sys.stderr.isatty()
    if asked.logs:
        chosen = models.load(policy or "retail-three-tier")
        opened = find_logs(asked.logs, asked.maps)
        if asked.by_journal:
            return story_from_journal(asked.customer_id, log_with_journal(opened), chosen, at_ms, shown)
        return story_from_log(asked.customer_id, opened, chosen, at_ms, shown, asked.recorded_lines)
    settings = load_settings(broker=asked.broker, policy=policy)
    if "broker" not in settings.model_fields_set:
        raise refuse(
            "there is nothing to read: name log files or kafka://HOST:PORT; or, for how the customer is now, give --broker or "
            "set TIERSTREAM_BROKER (or, without --event, --redis-url or TIERSTREAM_REDIS_URL)"
        )
    chosen = models.load(settings.policy)
    if asked.by_journal:
        return story_from_journal(asked.customer_id, KafkaLog(settings), chosen, at_ms, shown)
    return story_from_table(settings, chosen, asked.customer_id, at_ms)


def _seen(asked: _Asked, redis_url: str | None) -> dict[str, Any] | None:
    """What the serving view shows, if neither a log nor a broker is named, but a Redis is; else None."""
    settings = load_settings(broker=asked.broker, redis_url=redis_url)
    if asked.logs or asked.broker or not (redis_url or settings.redis_url):
        return None
    if redis_url is None and "broker" in settings.model_fields_set:
        return None
    if asked.at is not None:
        raise refuse("the view knows only how the customer is now: leave out --at, or give a log or --broker")
    return story_from_view(settings, settings.redis_url or "", asked.customer_id)


def _say_page(draw: Callable[[Console], None]) -> None:
    """Print what is drawn without the spaces at the ends of lines, which columns are padded with: they are not to be copied."""
    console = Console(highlight=False)
    with console.capture() as page:
        draw(console)
    for line in page.get().splitlines():
        say(line.rstrip())


@contextmanager
def _sentences() -> Iterator[None]:
    """Say what is wrong in a sentence. Raises typer.Exit."""
    try:
        yield
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped", INTERRUPTED) from None
