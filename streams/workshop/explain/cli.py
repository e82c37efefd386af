"""`tierstream explain` and `tierstream whatif`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import typer
from rich.console import Console

import models
from models import units
from models.policy import SHIPPED
from streams.settings import load_settings
from streams.sources.named_logs import find_logs, log_with_journal
from streams.sources.options import MapOption
from streams.terminal import INTERRUPTED, JsonOption, fail, refuse, say, say_json

if TYPE_CHECKING:
    from streams.workshop.explain.story import Story

CustomerArgument = Annotated[str, typer.Argument(help="The customer's id.")]
SomeLogsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="JSONL files, also .gz; CSV files with --map; or kafka://HOST:PORT for the input topics there."
    ),
]
PolicyOption = Annotated[
    str | None, typer.Option("--policy", "-p", help=f"A policy file, or one of {', '.join(SHIPPED)}.")
]
RecordedLinesOption = Annotated[
    bool,
    typer.Option(
        "--recorded-lines",
        help="Where lines depend on all customers: those that a worker drew, from the log's commands, not new ones.",
    ),
]


AtOption = Annotated[
    str | None,
    typer.Option("--at", help="As of this time; what occurred later is left out. Default: where the log ends."),
]

BrokerOption = Annotated[
    str | None, typer.Option(help="Without a log: Kafka, as host:port, where the worker's table is.")
]


class _Asked(NamedTuple):
    """About whom, and where to look."""

    customer_id: str
    logs: list[str]
    at: str | None
    maps: Sequence[str]
    recorded_lines: bool
    as_json: bool
    broker: str | None
    by_journal: bool = False


def explain(
    customer_id: CustomerArgument,
    logs: SomeLogsArgument = None,
    at: AtOption = None,
    policy: PolicyOption = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many moments, the latest.")] = None,
    maps: MapOption = [],  # noqa: B006
    recorded_lines: RecordedLinesOption = False,
    journal: Annotated[
        bool,
        typer.Option(
            "--journal", help="With --broker or kafka://: in the very batches and order in which the worker folded."
        ),
    ] = False,
    broker: BrokerOption = None,
    redis_url: Annotated[str | None, typer.Option(help="Without a log: the serving view's Redis.")] = None,
    as_json: JsonOption = False,
) -> None:
    """A customer's whole story: what came, what it changed and why, what time alone did, how they are, how it goes on.

    By the same fold as ever, so the story says what a replay of the same log announces. Nothing is written anywhere.
    """
    from streams.workshop.explain.story_terminal import print_story

    with _told():
        asked = _Asked(customer_id, logs or [], at, maps, recorded_lines, as_json, broker, journal)
        if journal and recorded_lines:
            raise refuse("--journal has the lines that the worker drew anyway: leave --recorded-lines out")
        story = (None if journal else _seen(asked, redis_url)) or _story(asked, policy).as_json(last)
        if as_json:
            say_json(story, orjson.OPT_INDENT_2)
        else:
            _say_page(partial(print_story, story=story, last=last))


def whatif(
    customer_id: CustomerArgument,
    logs: SomeLogsArgument = None,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", "-e", help="An event as JSON; what is left out is filled in. May be given again."),
    ] = None,
    at: AtOption = None,
    topic: Annotated[str | None, typer.Option(help="The events' topic, where their fields don't tell.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", "-p", help=f"A policy file, or one of {', '.join(SHIPPED)}; may be given again, to compare."
        ),
    ] = None,
    maps: MapOption = [],  # noqa: B006
    recorded_lines: RecordedLinesOption = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """What one more purchase, refund or complaint would do to a customer: without it and with it, at the same instant.

    The events are folded after the log's; nothing is written anywhere.
    """
    from streams.workshop.explain.what_if import parse_hypothetical, what_if
    from streams.workshop.explain.what_if_terminal import print_what_if

    with _told():
        if not event:
            raise refuse('nothing is supposed to happen; give --event \'{"amount": "25.00"}\'')
        asked = _Asked(customer_id, logs or [], at, maps, recorded_lines, as_json, broker)
        policies: Sequence[str | None] = policy or [None]
        found = []
        for one in policies:
            story = _story(asked, one)
            events = [
                parse_hypothetical(text, number, customer_id, story.policy, story.at_ms, topic)
                for number, text in enumerate(event, 1)
            ]
            found.append(what_if(story.customer, story.policy, customer_id, story.at_ms, events))
        if as_json:
            say_json({"customer_id": customer_id, "under": found}, orjson.OPT_INDENT_2)
        else:
            for each in found:
                _say_page(partial(print_what_if, found=each))


def _story(asked: _Asked, policy: str | None) -> Story:
    """The customer's story by the logs, or by the table. Raises ValueError with what is wrong."""
    from streams.sources.kafka_log import KafkaLog
    from streams.workshop.explain.journal_story import story_from_journal
    from streams.workshop.explain.story import story_from_log
    from streams.workshop.explain.table_story import story_from_table

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
            "set TIERSTREAM_BROKER (or, for explain, --redis-url or TIERSTREAM_REDIS_URL)"
        )
    chosen = models.load(settings.policy)
    if asked.by_journal:
        return story_from_journal(asked.customer_id, KafkaLog(settings), chosen, at_ms, shown)
    return story_from_table(settings, chosen, asked.customer_id, at_ms)


def _seen(asked: _Asked, redis_url: str | None) -> dict[str, Any] | None:
    """What the serving view shows, if there is no log and no broker is named, but a Redis is."""
    from streams.workshop.explain.view_story import story_from_view

    settings = load_settings(broker=asked.broker, redis_url=redis_url)
    if asked.logs or asked.broker or not (redis_url or settings.redis_url):
        return None
    if redis_url is None and "broker" in settings.model_fields_set:
        return None
    if asked.at is not None:
        raise refuse("the view knows only how the customer is now: leave out --at, or give a log or --broker")
    return story_from_view(settings, settings.redis_url or "", asked.customer_id)


def _say_page(draw: Callable[[Console], None]) -> None:
    """What is drawn, without the spaces that columns are filled up with: whoever copies a line does not want them."""
    console = Console(highlight=False)
    with console.capture() as page:
        draw(console)
    for line in page.get().splitlines():
        say(line.rstrip())


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong, in a sentence."""
    try:
        yield
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped", INTERRUPTED) from None
