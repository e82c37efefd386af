"""The command `tierstream rebuild`: runs the steps of rebuild.py one after the other, and reports on them."""

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
from streams.versions.app_versions import AppVersions, Positions, VersionError, by_topic
from streams.versions.rebuild import Progress, Reader
from streams.versions.rebuild_report import Report, steps_left
from streams.versions.table_comparison import Version
from streams.worker.delivery import Fenced, Interrupted, Refused


@dataclass(frozen=True)
class RebuildOptions:
    """The options of a rebuild."""

    groups: list[str]
    """Groups to move to the new version, each `NAME` or `OLD=NEW`."""
    own_worker: bool
    worker_log: Path | None
    moves: Path | None
    accept_differences: bool
    wait_seconds: float
    """How long the workers may take to stop."""
    yes: bool
    as_json: bool


def load_version(settings: Settings) -> Version:
    """An app version with its policy. Raises PolicyError."""
    return Version(settings, models.load(settings.policy))


def run_rebuild(old_settings: Settings, new_settings: Settings, options: RebuildOptions) -> None:
    """Build, compare, switch and move readers; steps that an earlier run did are not repeated."""
    versions, old, new = AppVersions(old_settings), load_version(old_settings), load_version(new_settings)
    versions.topics()  # fails at once if the broker is away
    report_step = warn if options.as_json else say
    positions, report = versions.read_cut(new.settings), None
    if positions:
        report_step(f"version {new.number} was switched to before")
    else:
        is_begun = asyncio.run(steps.check(versions, old, new))
        report_step(f"{'continues' if is_begun else 'builds'} version {new.number} under {new.policy.ref}")
        _build(versions, new, options)
        report = _compare(versions, old, new, options)
        if not report.is_accepted and not options.accept_differences:
            raise fail(
                f"nothing was switched. If you want these differences, run this again with --accept-differences; "
                f"--abort deletes version {new.number}"
            )
        confirm(
            f"Switch from version {old.number} to {new.number}? The workers of version {old.number} have to stop for it.",
            options.yes,
        )
        positions = _cut(versions, old, new, options.wait_seconds)
    readers = [steps.move_reader(versions, old, new, *_names(one)) for one in options.groups]
    _report_switch(versions, old, new, positions, readers, report, options.as_json)
    if not all(one.has_gone_over for one in readers):
        raise fail("not all readers have been moved yet; run this again when they can be")


def _build(versions: AppVersions, new: Version, options: RebuildOptions) -> None:
    create_topics(new.settings, topics_of(new.settings))
    others = versions.members(new.settings.table_app_id)
    if others:
        warn(f"waits for the {len(others)} running workers of version {new.number}: {', '.join(others)}")
    elif not options.own_worker:
        environment = f"TIERSTREAM_APP_VERSION={new.number} TIERSTREAM_POLICY={new.settings.policy}"
        warn(f"waits for your workers: {environment} tierstream worker")
    with ExitStack() as open_files:
        log = None if options.worker_log is None else open_files.enter_context(options.worker_log.open("wb"))
        with (
            steps.run_building_worker(new, options.own_worker and not others, log) as check_worker,
            _progress("records left") as on_progress,
        ):
            steps.catch_up(versions, new, check_worker, on_progress)


def _compare(versions: AppVersions, old: Version, new: Version, options: RebuildOptions) -> Report:
    report = Report(old, new, *asyncio.run(steps.compare(versions, old, new, lambda: None)))
    report.print(Console(stderr=options.as_json))
    if options.moves is not None:
        options.moves.write_bytes(b"".join(line + b"\n" for line in report.lines()))
        warn(f"{len(report.differences):,} customers written to {options.moves}")
    return report


def _cut(versions: AppVersions, old: Version, new: Version, wait_seconds: float) -> Positions:
    for one in (new, old):
        if members := versions.members(one.settings.table_app_id):
            warn(f"stop the workers of version {one.number} now: {', '.join(members)}")
        steps.wait_for_workers_to_stop(versions, one, wait_seconds)
    return asyncio.run(steps.cut_over(versions, old, new, lambda: None))


def _report_switch(
    versions: AppVersions,
    old: Version,
    new: Version,
    positions: Positions,
    readers: list[Reader],
    report: Report | None,
    as_json: bool,
) -> None:
    named = {one.group for one in readers}
    others = [one for one in versions.readers(old.settings) if one not in named]
    to_do = steps_left(old, new)
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
        f"version {new.number} begins where version {old.number} ends. Readers finish the topics of "
        f"version {old.number}, then continue at:"
    )
    for topic, by_partition in by_topic(positions).items():
        say(f"  {topic}  {' '.join(f'{number}:{offset}' for number, offset in by_partition.items())}")
    for reader in readers:
        say(f"group {reader.group}: {reader.what}")
    if others:
        say(f"groups with offsets in version {old.number}, not named by --group: {', '.join(others)}")
    for line in to_do:
        say(line)


def abort_rebuild(old_settings: Settings, new_settings: Settings, options: RebuildOptions) -> None:
    """Delete everything that belongs to the new version only."""
    versions, old, new = AppVersions(old_settings), load_version(old_settings), load_version(new_settings)
    versions.topics()
    if new.number <= old.number:
        raise refuse(f"version {new.number} is not later than TIERSTREAM_APP_VERSION, {old.number}, which is in use")
    if versions.read_cut(new.settings):
        raise fail(
            f"version {new.number} was switched to: its readers would lose it. "
            "Delete its topics yourself if they have no readers"
        )
    versions.refuse_workers(new.settings, "Stop them first; nothing was deleted")
    names = versions.own_topics(new.settings)
    if not names:
        say(f"there is no version {new.number}")
        return
    confirm(f"Delete {', '.join(names)}?", options.yes)
    versions.delete(new.settings)
    for name in names:
        say(f"deleted  {name}")
    if new.settings.redis_url is not None:
        say(f"deleted  {_delete_view(new.settings):,} keys of Redis")


def _delete_view(settings: Settings) -> int:
    """Delete the keys of a version in Redis, and with them the positions that a later version of this number would
    continue from.
    """
    redis = Redis.from_url(settings.redis_url or "", socket_timeout=5)
    try:
        keys = list(redis.scan_iter(match=f"{settings.redis_prefix}*", count=1000))
        for begin in range(0, len(keys), 1000):
            redis.unlink(*keys[begin : begin + 1000])
        return len(keys)
    finally:
        redis.close()


def _names(option: str) -> tuple[str, str]:
    """A group, and its name in the new version.

    >>> _names("my-app"), _names("tierstream-push=tierstream-v2-push")
    (('my-app', 'my-app'), ('tierstream-push', 'tierstream-v2-push'))
    """
    group, _, to_group = option.partition("=")
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
def reporting_errors() -> Iterator[None]:
    """Turn errors into a message and an exit status."""
    try:
        yield
    except (VersionError, TopicsError, ChangelogError, JournalError, LogError, Refused) as error:
        raise fail(str(error)) from None
    except (SettingsError, PolicyError) as error:
        raise refuse(str(error)) from None
    except (AioKafkaError, KafkaException, Interrupted) as error:
        raise fail(f"Kafka did not answer as it should ({error}); run this again to continue") from None
    except Fenced as error:
        raise fail(f"a partition was taken over ({error}): is a worker running? Stop it, and run this again") from None
    except RedisError as error:
        raise fail(f"Redis does not answer: {error}; check TIERSTREAM_REDIS_URL") from None
    except OSError as error:
        raise fail(f"{error.filename or 'the broker'}: {error.strerror or error}") from None
    except ValueError as error:
        raise refuse(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped; run this again to continue", INTERRUPTED) from None
