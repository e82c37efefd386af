"""`tierstream topics create` and `migrate`."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from streams.broker.topic_creation import TopicsError, create_topics
from streams.settings import SettingsError, load_settings
from streams.sources.logs import LogError
from streams.terminal import BrokerOption, JsonOption, example, fail, refuse, say, say_json, warn
from streams.topics import topics_of
from streams.versions.migrate import MigrationError
from streams.versions.migrate import migrate as copy_inputs

PATIENCE_SECONDS: Final = 60.0
"""It is the first command of an installation, whose broker is often started at the same moment."""


@example("TIERSTREAM_PARTITIONS=8 tierstream topics create --broker kafka:9092")
def create(
    broker: BrokerOption = None,
    partitions: Annotated[int | None, typer.Option(help="Partitions of every topic.")] = None,
) -> None:
    """Create every topic that is missing.

    All have the same number of partitions. It is harmless to repeat. A broker that has not come up yet is waited for, for
    a minute.
    """
    try:
        settings = load_settings(broker=broker, partitions=partitions)
        created = create_topics(settings, topics_of(settings), PATIENCE_SECONDS, warn)
    except SettingsError as error:
        raise refuse(str(error)) from None
    except TopicsError as error:
        raise fail(str(error)) from None
    for topic in topics_of(settings):
        say(f"{'created' if topic.name in created else 'exists '}  {topic.name}")


@example(
    "tierstream topics migrate --to-prefix wide- --partitions 16; then start workers with "
    "TIERSTREAM_TOPIC_PREFIX=wide- TIERSTREAM_PARTITIONS=16 TIERSTREAM_APP_ID=tierstream-wide"
)
def migrate(
    to_prefix: Annotated[str, typer.Option(help="Prefix of the new topics' names.")],
    partitions: Annotated[int, typer.Option(help="How many partitions the new topics have.")],
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the input topics to another number of partitions.

    The old topics stay as they are. Stop the producers before, and let them write to the new topics afterwards;
    docs/changing.md has the steps.
    """
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
