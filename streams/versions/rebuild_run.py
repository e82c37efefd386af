"""The steps of `tierstream rebuild`, one after the other, and what they say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiokafka.errors import KafkaError as AioKafkaError
from confluent_kafka import KafkaException
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TextColumn

import models
from models.policy import PolicyError
from streams.broker.topic_creation import TopicsError, create_topics
from streams.engine.journal import JournalError
from streams.engine.table import ChangelogError
from streams.settings import Settings, SettingsError
from streams.sources.logs import LogError
from streams.terminal import INTERRUPTED, confirm, fail, refuse, say, warn
from streams.topics import topics_of
from streams.versions import rebuild as steps
from streams.versions.app_versions import Positions, VersionError, Versions, by_topic
from streams.versions.rebuild import Progress, Reader
from streams.versions.rebuild_report import Report, what_is_left_to_do
from streams.versions.two_tables import Version
from streams.worker.delivery import Fenced, Interrupted, Refused


@dataclass(frozen=True)
class Wishes:
    """How a rebuild is wanted."""

    groups: list[str]
    """Groups that are to go over, each `NAME` or `OLD=NEW`."""
    own_worker: bool
    worker_log: Path | None
    moves: Path | None
    accept_differences: bool
    wait_seconds: float
    """How long the old version's workers may take to stop."""
    yes: bool
    as_json: bool


def version_of(settings: Settings) -> Version:
    """An app version with its policy. Raises PolicyError."""
    return Version(settings, models.load(settings.policy))


def run_rebuild(old_settings: Settings, new_settings: Settings, wishes: Wishes) -> None:
    """Build, compare, switch, and have readers go over; what was done before is found and not done again."""
    versions, old, new = Versions(old_settings), version_of(old_settings), version_of(new_settings)
    versions.topics()  # so that a broker that is away is noticed at once
    tell = warn if wishes.as_json else say
    positions, report = versions.cut(new.settings), None
    if positions:
        tell(f"version {new.number} was switched to before")
    else:
        is_begun = asyncio.run(steps.check(versions, old, new))
        tell(f"{'goes on with' if is_begun else 'builds'} version {new.number} under {new.policy.ref}")
        _build(versions, new, wishes)
        report = _compare(old, new, wishes)
        if not report.is_accepted and not wishes.accept_differences:
            raise fail(
                f"nothing was switched. If the differences are what you want, run this again with --accept-differences; "
                f"--abort deletes version {new.number}"
            )
        confirm(
            f"Switch from version {old.number} to {new.number}? The workers of version {old.number} have to stop for it.",
            wishes.yes,
        )
        positions = _cut(versions, old, new, wishes.wait_seconds)
    readers = [steps.move_reader(versions, old, new, *_names(one)) for one in wishes.groups]
    _say_what_is_done(versions, old, new, positions, readers, report, wishes.as_json)
    if not all(one.has_gone_over for one in readers):
        raise fail("not all readers have gone over yet; run this again when they can")


def _build(versions: Versions, new: Version, wishes: Wishes) -> None:
    create_topics(new.settings, topics_of(new.settings))
    others = versions.members(new.settings.table_app_id)
    if others:
        warn(f"waits for the {len(others)} of version {new.number} that are at work: {', '.join(others)}")
    elif not wishes.own_worker:
        environment = f"TIERSTREAM_APP_VERSION={new.number} TIERSTREAM_POLICY={new.settings.policy}"
        warn(f"waits for your workers: {environment} tierstream worker")
    with ExitStack() as open_files:
        log = None if wishes.worker_log is None else open_files.enter_context(wishes.worker_log.open("wb"))
        with (
            steps.building(new, wishes.own_worker and not others, log) as check_worker,
            _progress("records left") as on_progress,
        ):
            steps.catch_up(versions, new, check_worker, on_progress)


def _compare(old: Version, new: Version, wishes: Wishes) -> Report:
    report = Report(old, new, *asyncio.run(steps.compare(old, new, lambda: None)))
    report.print(Console(stderr=wishes.as_json))
    if wishes.moves is not None:
        wishes.moves.write_bytes(b"".join(line + b"\n" for line in report.lines()))
        warn(f"{len(report.differences):,} customers written to {wishes.moves}")
    return report


def _cut(versions: Versions, old: Version, new: Version, wait_seconds: float) -> Positions:
    for one in (new, old):
        if members := versions.members(one.settings.table_app_id):
            warn(f"stop the workers of version {one.number} now: {', '.join(members)}")
        steps.wait_for_workers_to_stop(versions, one, wait_seconds)
    return asyncio.run(steps.cut(versions, old, new, lambda: None))


def _say_what_is_done(
    versions: Versions,
    old: Version,
    new: Version,
    positions: Positions,
    readers: list[Reader],
    report: Report | None,
    as_json: bool,
) -> None:
    named = {one.group for one in readers}
    others = [one for one in versions.readers(old.settings) if one not in named]
    to_do = what_is_left_to_do(old, new)
    if as_json:
        found = None if report is None else report.as_json()
        answer = {
            "switched": True,
            "comparison": found,
            "positions": by_topic(positions),
            "readers": [one._asdict() for one in readers],
            "other_readers": others,
            "to_do": to_do,
        }
        say(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
        return
    say(
        f"version {new.number} begins where version {old.number} ends. Readers finish version {old.number}'s topics, then go on at:"
    )
    for topic, by_partition in by_topic(positions).items():
        say(f"  {topic}  {' '.join(f'{number}:{offset}' for number, offset in by_partition.items())}")
    for reader in readers:
        say(f"group {reader.group}: {reader.what}")
    if others:
        say(f"groups with positions in version {old.number}, not named by --group: {', '.join(others)}")
    for line in to_do:
        say(line)


def abort_rebuild(old_settings: Settings, new_settings: Settings, wishes: Wishes) -> None:
    """Delete what there is of the new version and of no other."""
    versions, old, new = Versions(old_settings), version_of(old_settings), version_of(new_settings)
    versions.topics()
    if new.number <= old.number:
        raise refuse(f"version {new.number} is no later one than TIERSTREAM_APP_VERSION, {old.number}, which serves")
    if versions.cut(new.settings):
        raise fail(
            f"version {new.number} was switched to: its readers would lose it. Delete its topics by hand if nobody reads them"
        )
    versions.refuse_workers(new.settings, "Stop them first; nothing was deleted")
    names = versions.own_topics(new.settings)
    if not names:
        say(f"there is no version {new.number}")
        return
    confirm(f"Delete {', '.join(names)}?", wishes.yes)
    versions.delete(new.settings)
    for name in names:
        say(f"deleted  {name}")
    if new.settings.redis_url is not None:
        say(f"deleted  {_delete_view(new.settings):,} keys of Redis")


def _delete_view(settings: Settings) -> int:
    """What Redis has of a version, without which it would look for what came after."""
    redis = Redis.from_url(settings.redis_url or "", socket_timeout=5)
    try:
        keys = list(redis.scan_iter(match=f"{settings.redis_prefix}*", count=1000))
        for begin in range(0, len(keys), 1000):
            redis.unlink(*keys[begin : begin + 1000])
        return len(keys)
    finally:
        redis.close()


def _names(written: str) -> tuple[str, str]:
    """A group, and its name in the new version.

    >>> _names("my-app"), _names("tierstream-push=tierstream-v2-push")
    (('my-app', 'my-app'), ('tierstream-push', 'tierstream-v2-push'))
    """
    group, _, to_group = written.partition("=")
    return group, to_group or group


@contextmanager
def _progress(what: str) -> Iterator[Callable[[Progress], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Bars(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("waiting for the worker", total=None)

        def show(progress: Progress) -> None:
            about = "" if progress.seconds_left is None else f", about {progress.seconds_left:,.0f} s"
            bars.update(
                task, description=f"{progress.left:,} {what}, {progress.records_per_second:,.0f} a second{about}"
            )

        yield show


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong, in words."""
    try:
        yield
    except (VersionError, TopicsError, ChangelogError, JournalError, LogError, Refused) as error:
        raise fail(str(error)) from None
    except (SettingsError, PolicyError) as error:
        raise refuse(str(error)) from None
    except (AioKafkaError, KafkaException, Interrupted) as error:
        raise fail(f"Kafka did not answer as it should ({error}); run this again, it goes on") from None
    except Fenced as error:
        raise fail(
            f"somebody else took a partition over ({error}): is a worker running? Stop it, and run this again"
        ) from None
    except RedisError as error:
        raise fail(f"Redis does not answer: {error}; check TIERSTREAM_REDIS_URL") from None
    except OSError as error:
        raise fail(f"{error.filename or 'the broker'}: {error.strerror or error}") from None
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped; run this again to go on", INTERRUPTED) from None
