"""`tierstream up`."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis import Redis

import models
from models.policy import PolicyError
from streams.broker.librdkafka import connection_options, silent_logger
from streams.local.children import HOST, ChildError, Children, Stopped, free_port
from streams.local.installation import CONSOLE_PORT, START_SECONDS, Console, answers, start_console, start_worker
from streams.local.kafka import POM, PORT, Broker, KafkaError, find_kafka, locked, locked_file
from streams.local.redis_server import PORT as REDIS_PORT
from streams.local.redis_server import RedisMissing, redis_answers, start_redis
from streams.settings import Settings, SettingsError, load_settings
from streams.terminal import INTERRUPTED, BrokerOption, RedisOption, SettingPolicyOption, example, fail, refuse

PATIENCE_SECONDS: Final = 5.0
SHARED: Final = ("clock", "topic_prefix", "partitions", "partitioner", "app_id", "app_version")
"""Settings that commands in another terminal need, too, if they were given."""
LOOK_SECONDS: Final = 2.0
"""How often each part is asked whether it is well."""
UNWELL: Final = 3
"""After so many looks without an answer somebody should know."""


@example("tierstream up --policy annual-spend --data ~/tierstream")
def up(
    policy: SettingPolicyOption = None,
    broker: BrokerOption = None,
    redis_url: RedisOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Keep the topics and all else in this folder, and go on from there the next time."),
    ] = None,
) -> None:
    """Start Kafka, Redis, a worker and the console, for development.

    A Kafka or a Redis that you name is used; one that you do not name is started. To start Kafka it takes the one of
    KAFKA_HOME or of PATH, or fetches one with Maven; it needs Java 17. Settings of the worker and the console count here,
    too (docs/settings.md).

    Ctrl-C ends everything that was started. If one of the processes ends by itself, all do, and the end of its log is
    shown. Without --data nothing is kept.
    """
    try:
        settings = load_settings(policy=policy, broker=broker, redis_url=redis_url)
        chosen = models.load(settings.policy)
    except (SettingsError, PolicyError) as error:
        raise refuse(str(error)) from None
    is_up = False
    try:
        with ExitStack() as stack:
            folder = _folder(stack, data)
            children = stack.enter_context(Children(folder / "logs"))
            in_use = SettingsError(f"--data {folder} is in use by another tierstream up; give another folder")
            stack.enter_context(locked(children, folder, in_use))
            try:
                # Two that start at the same time would find the same ports free.
                with locked_file(children, POM.open(encoding="utf-8")):
                    settings, looks = _start_stores(children, settings, folder, keeps=data is not None)
                    console = _start_processes(children, settings, chosen, folder, looks)
                _tell(_welcome(settings, console, folder, keeps=data is not None))
                is_up = True
                _follow(children, looks)
            except (Stopped, ChildError):
                _tell("stopping ...")
                raise
    except SettingsError as error:
        raise refuse(str(error)) from None
    except (KafkaError, RedisMissing, ChildError, OSError) as error:
        raise fail(str(error)) from None
    except Stopped:
        _tell("everything is stopped")
        raise typer.Exit(0 if is_up else INTERRUPTED) from None


def _folder(stack: ExitStack, data: Path | None) -> Path:
    """The folder of this run; a temporary one goes when the stack is left. Raises SettingsError."""
    if data is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tierstream-")))
    folder = data.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--data {folder}: {error.strerror}; give a folder that can be written") from None
    return folder


Looks = dict[str, Callable[[], bool]]
"""By name of a part, whether it is well."""


def _start_stores(children: Children, settings: Settings, folder: Path, *, keeps: bool) -> tuple[Settings, Looks]:
    """Start Kafka and Redis, unless they are named; returns the settings with their addresses, and how to look at them."""
    given = settings.model_fields_set
    if "broker" in given:
        away = SettingsError(
            f"no Kafka answers at {settings.broker}; start it, or name none: then tierstream up starts one"
        )
        children.wait_until(lambda: _kafka_answers(settings), PATIENCE_SECONDS, lambda: away)
        _tell(f"Kafka    {settings.broker}, yours")
        address = settings.broker
    else:
        local = Broker(folder / "kafka")
        local.data.mkdir(exist_ok=True)
        local.stop()  # of an earlier run, if that was killed
        kafka, port = find_kafka(children, _tell), free_port(PORT)
        _tell(f"Kafka    {kafka.version} starts ...")
        local.start(children, kafka, port)
        address = f"{HOST}:{port}"
        _tell(f"Kafka    {address}")
    if settings.redis_url is not None:
        url = settings.redis_url
        _check_redis_url(url)
        away = SettingsError(f"no Redis answers at {url}; start it, or name none: then tierstream up starts one")
        children.wait_until(lambda: redis_answers(url), PATIENCE_SECONDS, lambda: away)
        _tell(f"Redis    {url}, yours")
    else:
        url = start_redis(children, folder / "redis", free_port(REDIS_PORT), keeps=keeps)
        _tell(f"Redis    {url}")
    own = {"broker": address, "redis_url": url, "web_port": free_port(settings.web_port)}
    return settings.model_copy(update=own), {"Redis": lambda: redis_answers(url)}


def _start_processes(
    children: Children, settings: Settings, policy: models.Policy, folder: Path, looks: Looks
) -> Console:
    """Start the worker, which creates the topics, and the console."""
    page = f"http://{HOST}:{settings.web_port}/readyz"
    _tell("worker and console start ...")
    worker = start_worker(children, settings)
    port = free_port(int(os.environ.get("TIERSTREAM_CONSOLE_PORT") or CONSOLE_PORT))
    console = start_console(children, settings, folder, port)
    children.wait_for(worker, lambda: answers(page), START_SECONDS)
    _tell(f"worker   http://{HOST}:{settings.web_port}/stats, policy {policy.ref}")
    _tell(f"console  {console.address}")
    looks["the worker"] = lambda: answers(page)
    looks["the console"] = lambda: answers(f"{console.address}/signin")
    return console


def _welcome(settings: Settings, console: Console, folder: Path, *, keeps: bool) -> str:
    names = {"TIERSTREAM_BROKER": settings.broker, "TIERSTREAM_REDIS_URL": str(settings.redis_url)}
    if "policy" in settings.model_fields_set:
        file = Path(settings.policy)
        names["TIERSTREAM_POLICY"] = str(file.resolve()) if file.exists() else settings.policy
    shared = [name for name in SHARED if name in settings.model_fields_set]
    names |= {f"TIERSTREAM_{name.upper()}": str(getattr(settings, name)) for name in shared}
    exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in names.items())
    kept = f"Everything is kept in {folder}" if keeps else "Nothing is kept after the end; --data FOLDER would"
    return (
        f"\nThe console:\n{console.address}\nSign in as {console.name} with {console.password}\n\n"
        f"In another terminal:\n  export {exported}\n"
        "  tierstream load LOG              # feed the worker: a log, or one event\n"
        "  tierstream customer show ID      # what a customer is now\n"
        "  tierstream alerts digest         # yesterday in short\n\n"
        f"{kept}. Logs: {folder / 'logs'}\nCtrl-C ends it all."
    )


def _follow(children: Children, looks: Looks) -> None:
    """Say which parts become unwell, and well again, until a signal. Raises ChildError if a process ends, and Stopped."""
    missed = dict.fromkeys(looks, 0)
    while True:
        for name, is_well in looks.items():
            children.check()
            was_unwell = missed[name] >= UNWELL
            missed[name] = 0 if is_well() else missed[name] + 1
            if missed[name] == UNWELL:
                _tell(f"{name} does not answer, or is not ready")
            elif was_unwell and not missed[name]:
                _tell(f"{name} is well again")
        children.rest(LOOK_SECONDS)


def _check_redis_url(url: str) -> None:
    try:
        Redis.from_url(url)
    except ValueError as error:
        raise SettingsError(f"TIERSTREAM_REDIS_URL: {error}") from None


def _kafka_answers(settings: Settings) -> bool:
    try:
        with AdminClient(connection_options(settings), logger=silent_logger) as admin:
            admin.list_topics(timeout=1)
    except KafkaException:
        return False
    return True


def _tell(text: str) -> None:
    typer.echo(text)  # which flushes
