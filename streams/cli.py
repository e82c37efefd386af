"""The command line; what it can do is said by `tierstream --help`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

import models
from models.policy import SHIPPED, PolicyError
from models.policy.editions import EditionError, Editions
from streams.dead_letters.cli import dead_letters_app
from streams.doctor.cli import doctor
from streams.ingest.cli import RegistryOption, ingest
from streams.notify.digest_cli import digest
from streams.notify.push_cli import push
from streams.settings import SettingsError, load_ingest_settings, load_registry_settings, load_settings
from streams.sources.cli import sources_app
from streams.sources.logs import Log, LogError
from streams.sources.named_logs import Sorting, log_with_journal, open_logs
from streams.sources.options import (
    DEFAULT_SORT_MEMORY,
    LogsArgument,
    MapOption,
    SortFolderOption,
    SortMemoryOption,
    SortOption,
)
from streams.terminal import INTERRUPTED, JsonOption, fail, refuse, say, say_json
from streams.versions.activate_cli import activate, history, rollback, switch
from streams.versions.rebuild_cli import rebuild
from streams.versions.seek_cli import seek
from streams.web.cli import console_app
from streams.workshop.compare.cli import diff
from streams.workshop.explain.cli import explain, whatif
from streams.workshop.fitting.cli import backtest, fit
from streams.workshop.policies.cli import policy_app

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="Keeps every customer's value tier and churn risk current, event by event.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
topics_app = typer.Typer(help="Create Tierstream's topics.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
policy_app.command(
    epilog="Example: tierstream policy activate mine.toml --broker 127.0.0.1:9092 --reason 'gold is 250 now'"
)(activate)
policy_app.command(epilog="Example: tierstream policy rollback --broker 127.0.0.1:9092 --yes")(rollback)
policy_app.command(epilog="Example: tierstream policy history --broker 127.0.0.1:9092")(history)
policy_app.command(
    epilog="Example: TIERSTREAM_BROKER=127.0.0.1:9092 tierstream policy switch --parameters params.toml"
)(switch)
app.add_typer(topics_app, name="topics")
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(console_app, name="console")
app.command(
    epilog="Example: tierstream explain 1516 purchases.jsonl complaints.jsonl --policy annual-spend --at 2026-03-31"
)(explain)
app.command(
    epilog='Example: tierstream whatif 1516 purchases.jsonl --policy annual-spend --event \'{"amount": "60.00"}\''
)(whatif)
app.add_typer(sources_app, name="sources")
app.command(epilog="Example: tierstream fit purchases.jsonl complaints.jsonl --horizon 90d --out params.toml")(fit)
app.command(
    epilog="Example: tierstream backtest purchases.jsonl --policy annual-spend --policy mine.toml --html report.html"
)(backtest)
app.command(
    epilog="Example: tierstream diff purchases.jsonl complaints.jsonl --policy annual-spend --policy mine.toml --html diff.html"
)(diff)
app.command(
    epilog="Example: TIERSTREAM_PUSH_URL=https://example.com/alerts TIERSTREAM_PUSH_SECRET=... tierstream push --change opened"
)(push)
app.command(
    epilog="Example: tierstream digest --format email --from alerts@example.com --to team@example.com | sendmail -t"
)(digest)

app.command(
    epilog="Example: tierstream ingest shop.orders=orders.toml shop.returns=returns.toml --registry http://127.0.0.1:8081 --check 5"
)(ingest)
app.command(epilog="Example: tierstream rebuild --to-version 2 --policy mine.toml --group my-app")(rebuild)
app.command(epilog="Example: tierstream seek --to 2026-01-31T08:00:00Z --to-version 2")(seek)
app.command(epilog="Example: tierstream doctor --policy annual-spend --redis-url redis://127.0.0.1:6379/0")(doctor)

PolicyOption = Annotated[
    str, typer.Option("--policy", "-p", help=f"A policy file, or one of {', '.join(SHIPPED)}.", show_default=True)
]


@app.command(epilog="Example: TIERSTREAM_BROKER=127.0.0.1:9092 tierstream worker --policy annual-spend")
def worker(
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Policy file or shipped id.")] = None,
    broker: Annotated[str | None, typer.Option(help="Kafka, as host:port.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis for the serving view; none without it.")] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            help="A second policy beside the first: what it would bring goes to topics *-shadow, nothing else changes."
        ),
    ] = None,
    delivery: Annotated[str | None, typer.Option(help="exactly-once (default) or at-least-once.")] = None,
    clock: Annotated[str | None, typer.Option(help="wall (live) or event (backfill).")] = None,
    until: Annotated[
        str | None, typer.Option(help="With --clock event: advance customers to this time at the end.")
    ] = None,
    web_port: Annotated[int | None, typer.Option(help="Port of /healthz, /readyz, /stats and /metrics.")] = None,
    maps: Annotated[
        list[str],
        typer.Option(
            "--map", help="TOPIC=FILE: also do what `tierstream ingest TOPIC=FILE` does, in a process beside this one."
        ),
    ] = [],  # noqa: B006
    registry: RegistryOption = None,
) -> None:
    """Fold the input topics into tier changes and churn alerts, until stopped (Ctrl-C finishes the batch in hand).

    Every option is also a setting TIERSTREAM_...; see docs/settings.md for all of them.
    """
    from streams.worker.run import run_worker

    try:
        settings = load_settings(
            policy=policy,
            shadow=shadow,
            broker=broker,
            redis_url=redis_url,
            delivery=delivery,
            clock=clock,
            until=until,
            web_port=web_port,
        )
        chosen = models.load(settings.policy)
        if settings.shadow is not None:
            Editions.of(chosen).with_trial(models.load(settings.shadow), -1)
        ingests = load_ingest_settings(sources=" ".join(maps) or None)
        asked = load_registry_settings(url=registry)
        raise typer.Exit(run_worker(settings, chosen, ingests, asked))
    except (SettingsError, PolicyError, EditionError, LogError) as error:
        raise refuse(str(error)) from None


@app.command(
    epilog="Example: tierstream replay purchases.jsonl complaints.jsonl.gz --policy annual-spend --out replayed"
)
def replay(
    logs: LogsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the four output files.")],
    policy: PolicyOption = "retail-three-tier",
    until: Annotated[
        str | None, typer.Option(help="Advance every customer to this time at the end; default: the latest event.")
    ] = None,
    maps: MapOption = [],  # noqa: B006
    sort: SortOption = False,
    sort_memory: SortMemoryOption = DEFAULT_SORT_MEMORY,
    sort_folder: SortFolderOption = None,
    by_journal: Annotated[
        bool,
        typer.Option(
            "--journal", help="With kafka://: in the very order in which the worker folded, as its journal says."
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes, each with its share of the customers; in the files, which customer's lines come first "
            "depends on their number.",
        ),
    ] = 1,
    recorded_lines: Annotated[
        bool,
        typer.Option(
            "--recorded-lines",
            help="Where lines depend on all customers: those that a worker drew, from the log's commands, not new ones.",
        ),
    ] = False,
    seed: Annotated[
        str | None,
        typer.Option(
            help="Begin with the customers of a worker's table: kafka://HOST:PORT, settings as the worker's. Topics of that "
            "broker are read on from where the table ends."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Write now and then, and on Ctrl-C, into this file how far it is; given again, it goes on there."
        ),
    ] = None,
    checkpoint_every: Annotated[str, typer.Option(help="Between two checkpoints.")] = "1m",
    as_json: JsonOption = False,
) -> None:
    """Fold event logs without a broker; the same log and policy give the same bytes, always.

    Writes tier-changes.jsonl, churn-risk.jsonl, life-cycle.jsonl, alerts.jsonl, profiles.jsonl and dead-letters.jsonl.
    """
    from models import units
    from streams.engine.gc_tuning import collect_rarely
    from streams.workshop.replay.checkpoint import Checkpoints
    from streams.workshop.replay.run import replay_journal, replay_logs
    from streams.workshop.replay.seed import read_seed
    from streams.workshop.replay.shares import replay_in_shares

    try:
        chosen = models.load(policy)
        until_ms = None if until is None else units.parse_time(until)
        sorting = Sorting.from_options(sort, sort_memory, sort_folder)
        if workers > 1 and chosen.relative is not None and not recorded_lines:
            raise LogError(
                f"the lines of {chosen.ref} depend on all customers, so one process has to see them all: leave out "
                "--workers, or give --recorded-lines with a log that has a worker's lines"
            )
        shown = not as_json and sys.stderr.isatty()
        collect_rarely()
        if (seed is not None or checkpoint is not None) and (by_journal or workers > 1):
            raise LogError("--seed and --checkpoint are for a replay in one process, without --journal")
        checkpoints = None if checkpoint is None else Checkpoints(checkpoint, units.parse_duration(checkpoint_every))
        seeded = None if seed is None else read_seed(seed, chosen)
        with open_logs(logs, maps, sorting, shown, None if seeded is None else seeded.next_offsets) as opened:
            if by_journal:
                summary = replay_journal(log_with_journal(opened, until), chosen, out, shown)
            elif workers > 1:
                summary = replay_in_shares(_only_files(opened), chosen, out, until_ms, shown, workers)
            else:
                summary = replay_logs(opened, chosen, out, until_ms, shown, recorded_lines, seeded, checkpoints)
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        how = "" if checkpoint is None or not checkpoint.exists() else "; the same command goes on from the checkpoint"
        raise fail(f"stopped; {out} is incomplete{how}", INTERRUPTED) from None
    if as_json:
        say_json(summary)
        return
    table = Table(title=f"Replayed under {chosen.ref}", show_header=False)
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), _shown(value))
    Console().print(table)
    say(f"written to {out}")


def _only_files(opened: list[Log]) -> list[Log]:
    """The logs, if several processes can read them. Raises LogError."""
    from streams.sources.kafka_log import KafkaLog

    if any(isinstance(log, KafkaLog) for log in opened):
        raise LogError("--workers is for files: a topic is read by one process")
    return opened


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


@topics_app.command(epilog="Example: TIERSTREAM_PARTITIONS=8 tierstream topics create --broker kafka:9092")
def create(
    broker: Annotated[str | None, typer.Option(help="Kafka, as host:port.")] = None,
    partitions: Annotated[int | None, typer.Option(help="Partitions of every topic.")] = None,
) -> None:
    """Create every topic that is missing, with the same number of partitions everywhere; harmless to repeat."""
    from streams.broker.topic_creation import TopicsError, create_topics
    from streams.topics import topics_of

    try:
        settings = load_settings(broker=broker, partitions=partitions)
        created = create_topics(settings, topics_of(settings))
    except SettingsError as error:
        raise refuse(str(error)) from None
    except TopicsError as error:
        raise fail(str(error)) from None
    for topic in topics_of(settings):
        say(f"{'created' if topic.name in created else 'there   '}  {topic.name}")


@app.command(
    epilog="Example: tierstream migrate --to-prefix wide- --partitions 16; then start workers with "
    "TIERSTREAM_TOPIC_PREFIX=wide- TIERSTREAM_PARTITIONS=16 TIERSTREAM_APP_ID=tierstream-wide"
)
def migrate(
    to_prefix: Annotated[str, typer.Option(help="Prefix of the new topics' names.")],
    partitions: Annotated[int, typer.Option(help="How many partitions the new topics have.")],
    broker: Annotated[str | None, typer.Option(help="Kafka, as host:port.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the input topics to new ones with another number of partitions; the old ones stay as they are.

    Stop the producers before, and let them write to the new topics afterwards; docs/changing.md has the steps.
    """
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from streams.broker.topic_creation import TopicsError
    from streams.versions.migrate import MigrationError
    from streams.versions.migrate import migrate as copy_inputs

    try:
        source = load_settings(broker=broker)
        # The copies belong to an installation of their own: nothing of the old one's table fits them.
        target = load_settings(
            broker=broker,
            topic_prefix=to_prefix,
            partitions=partitions,
            app_id=f"{source.app_id}-{to_prefix.strip('-')}",
        )
        if target.topic_prefix == source.topic_prefix:
            raise refuse(f"--to-prefix {to_prefix!r} is the prefix that the topics have now; give another")
        shown = not as_json and sys.stderr.isatty()
        columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} records copied"))
        with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
            task = bar.add_task("", total=None)
            copied = copy_inputs(source, target, lambda count: bar.advance(task, count))
    except SettingsError as error:
        raise refuse(str(error)) from None
    except (LogError, MigrationError, TopicsError) as error:
        raise fail(str(error)) from None
    if as_json:
        say_json({"copied": copied, "prefix": to_prefix, "partitions": partitions, "app_id": target.app_id})
        return
    for name, count in copied.items():
        say(f"{target.topic(name):30} {count:>12,} records")
    say(
        f"now start workers with TIERSTREAM_TOPIC_PREFIX={to_prefix} TIERSTREAM_PARTITIONS={partitions} "
        f"TIERSTREAM_APP_ID={target.app_id}"
    )


@app.command(epilog="Example: tierstream customer 1516 --redis-url redis://127.0.0.1:6379/0")
def customer(
    customer_id: Annotated[str, typer.Argument(help="The customer's id.")],
    redis_url: Annotated[str | None, typer.Option(help="The serving view's Redis.")] = None,
) -> None:
    """What a customer is now, from the serving view: tier, risk, value at stake and the whole profile, as JSON."""
    from redis.exceptions import RedisError

    from streams.view.customers import RedisView

    try:
        settings = load_settings(redis_url=redis_url)
    except SettingsError as error:
        raise refuse(str(error)) from None
    if settings.redis_url is None:
        raise refuse("no Redis is named; give --redis-url or set TIERSTREAM_REDIS_URL")

    async def look_up(url: str) -> dict[str, Any] | None:
        view = RedisView(url, settings.redis_prefix)
        try:
            return await view.customer(customer_id)
        finally:
            await view.redis.aclose()

    try:
        found = asyncio.run(look_up(settings.redis_url))
    except (RedisError, OSError, ValueError) as error:
        raise fail(f"Redis does not answer: {error}; check TIERSTREAM_REDIS_URL") from None
    if found is None:
        raise fail(f"no customer {customer_id!r} is known")
    say_json(found, orjson.OPT_INDENT_2)


def main() -> None:
    """The console script."""
    app(prog_name="tierstream")


if __name__ == "__main__":
    main()
