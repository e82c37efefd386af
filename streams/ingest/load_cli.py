"""`tierstream load`."""

from __future__ import annotations

import shlex
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, repeat
from typing import Annotated, Final, NamedTuple

import orjson
import typer
from rich.console import Console

import models
from models import units
from models.customer import RECENT_EVENTS
from models.events import Rejected
from streams.broker.topic_creation import TopicsError, check_topics
from streams.engine.gc_tuning import collect_rarely
from streams.engine.merge import Record, merged
from streams.ingest.load import DecoderNow, Loader, LoadError, Stopped
from streams.ingest.record_display import show_record
from streams.settings import Settings, load_settings
from streams.sources.arriving import STDIN, arriving_log
from streams.sources.kafka_span import SCHEME
from streams.sources.logs import Log, LogError
from streams.sources.named_logs import Sorting, open_logs
from streams.sources.options import DEFAULT_SORT_MEMORY, MapOption, SortOption
from streams.sources.progress import ReadProgress, progress_over
from streams.sources.written_event import Defaults, parse_written
from streams.terminal import (
    FAILED,
    INTERRUPTED,
    WRONG_USE,
    BrokerOption,
    JsonOption,
    SettingPolicyOption,
    example,
    fail,
    printable,
    refuse,
    say,
    say_json,
    warn,
)
from streams.topics import INPUTS, topics_of

MOST_REFUSED_SHOWN: Final = 20


@example("tierstream load purchases.jsonl exports/*.csv.gz --map '*.csv.gz=shopify-orders' --rate 500")
def load(
    logs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Logs as tierstream replay reads them: JSONL; CSV and Parquet with --map; packed; folders and globs. "
            "- is standard input, in JSONL."
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            "-e",
            help="Load this event in place of a log: JSON with customer_id, and what it leaves out is filled in. May be "
            "given again.",
        ),
    ] = None,
    maps: MapOption = [],  # noqa: B006
    rate: Annotated[float | None, typer.Option(help="At most this many events a second; default: all at once.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on as the log, one plain file, grows or is rotated, until Ctrl-C.")
    ] = False,
    sort: SortOption = False,
    skip: Annotated[
        int, typer.Option(min=0, help="Leave out this many events at the beginning, as a load that was stopped says.")
    ] = 0,
    check: Annotated[
        int | None, typer.Option(min=1, help="Write nothing; show what this many events at the beginning become.")
    ] = None,
    policy: SettingPolicyOption = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load a log, or one event, into the input topics.

    Each event is keyed by its customer, and a customer's stay in order. What can't be an event under the policy is
    refused, with file and line and status 1; all else is loaded. To load a log again changes nothing, as long as the
    events keep their ids. See docs/running.md.
    """
    try:
        settings = load_settings(broker=broker, policy=policy)
        chosen = models.load(settings.policy)
        given = _Given(logs or [], event or [], maps, follow, sort)
        given.check()
        if rate is not None and rate <= 0:
            raise LogError("--rate needs a number above 0, such as 500")
        decoder = DecoderNow(chosen.decoder())
        if check is not None:
            raise typer.Exit(_check(given, chosen, decoder, check, as_json))
        records = _events(given.events, chosen, decoder)
        check_topics(settings, [topic for topic in topics_of(settings) if topic.name in _input_names(settings)])
        collect_rarely()
        raise typer.Exit(_load(settings, chosen, decoder, given, records, rate, skip, as_json))
    except ValueError as error:
        raise refuse(str(error)) from None
    except TopicsError as error:
        raise fail(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped", INTERRUPTED) from None


class _Given(NamedTuple):
    """What to load."""

    names: list[str]
    events: list[str]
    maps: Sequence[str]
    follow: bool
    sort: bool

    @property
    def is_arriving(self) -> bool:
        """Whether the log may still be written while it is read."""
        return self.follow or self.names == [STDIN]

    def check(self) -> None:
        """Raises LogError for what can't be loaded together."""
        if bool(self.names) == bool(self.events):
            raise LogError(
                "there is nothing to load: name log files, - for standard input, or --event"
                if not self.names
                else "give logs, or --event; one of them"
            )
        if self.events and (self.maps or self.follow or self.sort):
            raise LogError("--map, --follow and --sort are for logs: leave them out with --event")
        if any(name.startswith(SCHEME) for name in self.names):
            raise LogError("topics of a broker are carried by tierstream ingest, or tierstream topics migrate")
        if self.follow and (len(self.names) > 1 or self.names == [STDIN]):
            raise LogError("--follow is for one file: start one load for each; the worker merges them by time")
        if STDIN in self.names and len(self.names) > 1:
            raise LogError("standard input (-) is loaded alone")
        if self.follow and self.sort:
            raise LogError("a log can't be sorted while it grows: leave out --sort, or --follow")


def _input_names(settings: Settings) -> set[str]:
    return {settings.topic(name) for name in INPUTS}


def _events(texts: Sequence[str], policy: models.Policy, decoder: DecoderNow) -> list[Record]:
    """The events of --event as records. Raises WrittenEventError."""
    found = []
    for number, text in enumerate(texts, 1):
        defaults = Defaults(f"load-{uuid.uuid4()}", time.time_ns() // 1_000_000, policy.currency)
        one = parse_written(text, f"event {number}", defaults, decoder)
        found.append(Record(one.event.topic, 0, number, None, orjson.dumps(one.body), None, one.event))
    return found


def _opened(given: _Given, stack: ExitStack, wait: Callable[[], None], shown: bool) -> list[Log]:
    if given.is_arriving:
        [name] = given.names
        return [arriving_log(name, given.maps, wait)]
    sorting = Sorting.from_options(given.sort, DEFAULT_SORT_MEMORY, None)
    return stack.enter_context(open_logs(given.names, given.maps, sorting, shown))


def _in_order(logs: Sequence[Log], decoder: DecoderNow, reading: ReadProgress) -> Iterator[Record]:
    return merged([stream for log in logs for stream in log.streams(decoder, reading.on_bytes)], INPUTS)


def _check(given: _Given, policy: models.Policy, decoder: DecoderNow, count: int, as_json: bool) -> int:
    """Show what the first records become; returns the status."""
    refused = 0
    with ExitStack() as stack:
        logs = [] if given.events else _opened(given, stack, lambda: None, shown=False)
        records = _in_order(logs, decoder, ReadProgress()) if logs else iter(_events(given.events, policy, decoder))
        for record in islice(records, count):
            rejected = [record.decoded] if isinstance(record.decoded, Rejected) else []
            refused += len(rejected)
            value = record.value or b""
            events = [] if rejected else [(record.topic, value)]
            show_record(_place(record, logs), events, rejected, "loaded", value if rejected else None, as_json)
    return FAILED if refused else 0


def _place(record: Record, logs: Sequence[Log]) -> str:
    """Where a record is, as in purchases.jsonl:17."""
    files = {partition: name for log in logs for partition, name in log.files.items()}
    return f"{files.get(record.partition, '--event')}:{record.offset}"


def _load(
    settings: Settings,
    policy: models.Policy,
    decoder: DecoderNow,
    given: _Given,
    events: list[Record],
    rate: float | None,
    skip: int,
    as_json: bool,
) -> int:
    """Load, and say what was done; returns the status."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    loader = Loader(settings, policy.window.lateness_ms, lambda text: console.print(f"Note: {printable(text)}"))
    shown = not as_json and sys.stderr.isatty()
    problem: Exception | None = None
    with loader.stopping_between_records(), ExitStack() as stack:
        try:
            logs = [] if events else _opened(given, stack, loader.poll, shown)
            shows_bar = shown and bool(logs) and not given.is_arriving
            reading = stack.enter_context(progress_over(logs, shows_bar, "loading", console))
            # A file that is followed gives a stream for each file that takes its name.
            streams = (_in_order(logs, decoder, reading) for _ in (repeat(0) if given.follow else (0,)))

            def on_refused(record: Record, rejected: Rejected) -> None:
                count = loader.refused.total()
                if count <= MOST_REFUSED_SHOWN:
                    console.print(printable(f"{_place(record, logs)}: refused, {rejected.code}: {rejected.detail}"))
                elif count == MOST_REFUSED_SHOWN + 1:
                    console.print("What else is refused is only counted; tierstream replay writes all of it to a file.")

            loader.load([iter(events)] if events else streams, on_refused, reading.on_events, skip, rate)
        except (Stopped, LogError, LoadError) as error:
            problem = error
        try:
            loader.flush()
        except LoadError as error:
            problem = error
    _tell(loader, given, events, problem, as_json)
    if isinstance(problem, Stopped):
        return 0 if given.follow else INTERRUPTED
    if isinstance(problem, LogError):
        return WRONG_USE
    return FAILED if problem or loader.refused else 0


def _tell(loader: Loader, given: _Given, events: list[Record], problem: Exception | None, as_json: bool) -> None:
    """Say what was loaded and what was not, and what comes next."""
    is_stopped = isinstance(problem, Stopped)
    if as_json:
        say_json(
            {
                "loaded": loader.loaded,
                "refused": loader.refused,
                "first": None if loader.first_ms is None else units.format_time(loader.first_ms),
                "latest": None if loader.first_ms is None else units.format_time(loader.latest_ms),
                "done": loader.done,
                "stopped": is_stopped,
            }
        )
    else:
        for record in events:
            say(printable(f"{record.topic}  {(record.value or b'').decode()}"))
        say(_counted("loaded", loader.loaded) + ("" if events else _between(loader)))
        if loader.refused:
            say(f"{_counted('refused', loader.refused)}. They are not in the topics")
    if problem is not None:
        why = "stopped" if is_stopped else str(problem)
        warn(f"tierstream: {why}; the same command with --skip {loader.done} goes on")
    elif not as_json and loader.last_customer is not None:
        if not events:
            say(
                "Loaded twice, it counts once: workers know a customer's latest "
                f"{RECENT_EVENTS} events by their ids. Older ones would count again"
            )
        customer = printable(shlex.quote(loader.last_customer))
        say(f"Next: tierstream customer show {customer}   tierstream alerts digest   tierstream dead-letters list")


def _counted(what: str, counts: Counter[str]) -> str:
    """Counts in words, as in `loaded 3 events: complaints 1, purchases 2`."""
    total = counts.total()
    each = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return f"{what} {total:,} event{'' if total == 1 else 's'}" + (f": {each}" if each else "")


def _between(loader: Loader) -> str:
    if loader.first_ms is None:
        return ""
    return f"; from {units.format_time(loader.first_ms)} to {units.format_time(loader.latest_ms)}"
