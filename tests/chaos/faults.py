"""The faults: each one begins, waits as long as it lasts, and is undone, even if it is given up in the middle."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from streams.broker.aiokafka_readers import connection_options
from streams.settings import Settings
from streams.topics import changelog_topic
from tests.chaos.broker import Broker, Steps
from tests.chaos.crew import Crew, Slot
from tests.chaos.proxy import Proxy
from tests.chaos.redis_server import RedisServer
from tests.chaos.worker import POINTS

Report = Callable[[str], None]

WORKERS, KAFKA, REDIS = "workers", "kafka", "redis"
RECOVERY_POINTS = ("fenced", "restore")
ARMED_SECONDS = 20.0
LIMIT = "max.message.bytes"
NO_BATCH_FITS_BYTES = 100


@dataclass
class Stage:
    """Everything that faults can reach."""

    settings: Settings
    crew: Crew
    broker: Broker
    proxy: Proxy
    redis: RedisServer


@dataclass(frozen=True)
class Fault:
    """A kind of fault; `do` takes the stage, a random generator, and a function that reports the detail."""

    name: str
    do: Callable[[Stage, random.Random, Report], Steps]
    touches: str
    """WORKERS, KAFKA or REDIS: two faults that touch the same one do not overlap."""
    is_alone: bool
    """It overlaps with no other fault: a worker that is asked to stop has to succeed, which needs a broker."""


FAULTS: dict[str, Fault] = {}


def fault(touches: str, is_alone: bool = False) -> Callable[[Any], Any]:
    """Register a function in FAULTS under its name."""

    def enter(do: Callable[[Stage, random.Random, Report], Steps]) -> Callable[[Stage, random.Random, Report], Steps]:
        FAULTS[do.__name__] = Fault(do.__name__, do, touches, is_alone)
        return do

    return enter


# ---------------------------------------------------------------- workers
@fault(WORKERS)
def kill(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A worker dies and is started again after a while."""
    slot, seconds = stage.crew.pick(chance), chance.uniform(0, 8)
    report(f"{slot}, back after {seconds:.1f} s")
    with slot.reserved():
        slot.kill()
        yield seconds


@fault(WORKERS)
def kill_at(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A worker dies at a chosen point of its work."""
    point = chance.choice(sorted(set(POINTS) - set(RECOVERY_POINTS)))
    yield from _die_at(stage.crew.pick(chance), f"{point}:{chance.randint(1, 20)}", report)


@fault(WORKERS)
def kill_during_recovery(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A worker dies, and the one that takes its place dies while it takes over."""
    yield from _die_at(stage.crew.pick(chance), f"{chance.choice(RECOVERY_POINTS)}:{chance.randint(1, 4)}", report)


def _die_at(slot: Slot, order: str, report: Report) -> Steps:
    report(f"{slot} at {order}")
    slot.kill()
    armed = slot.start(kill=order)
    deadline = time.monotonic() + ARMED_SECONDS
    while armed.process.poll() is None and time.monotonic() < deadline:
        yield 0.2
    report(f"{slot} {'still runs' if armed.process.poll() is None else 'died'}")


@fault(WORKERS)
def zombie(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A worker hangs until the group has expelled it, then continues as if nothing had happened."""
    yield from _freeze(stage, stage.settings.session_timeout / 1000 + chance.uniform(1, 8), chance, report)


@fault(WORKERS)
def pause(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A worker hangs, but for less than its session's timeout, so it stays in the group."""
    yield from _freeze(stage, stage.settings.session_timeout / 1000 * chance.uniform(0.1, 0.7), chance, report)


def _freeze(stage: Stage, seconds: float, chance: random.Random, report: Report) -> Steps:
    slot = stage.crew.pick(chance)
    yield from _for_a_while(slot.freeze, slot.thaw, seconds, report, f"{slot} ")


def _for_a_while(
    do: Callable[[], None], undo: Callable[[], None], seconds: float, report: Report, what: str = ""
) -> Steps:
    """Call `do`, and `undo` after some seconds, or earlier if the fault is given up."""
    report(f"{what}for {seconds:.1f} s")
    do()
    try:
        yield seconds
    finally:
        undo()


@fault(WORKERS, is_alone=True)
def join(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A further worker joins, and leaves again."""
    slot, seconds = stage.crew.join(), chance.uniform(6, 15)
    if slot is None:
        report("no room")
        return
    report(f"{slot} for {seconds:.1f} s")
    slot.start()
    yield seconds
    # If the fault is given up before this, the worker stays.
    slot.is_reserved = True
    yield from slot.steps_to_stop()
    stage.crew.slots.remove(slot)


@fault(WORKERS, is_alone=True)
def leave(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A worker is asked to stop, and is started again after a while."""
    slot, seconds = stage.crew.pick(chance), chance.uniform(0, 8)
    report(f"{slot}, back after {seconds:.1f} s")
    with slot.reserved():
        yield from slot.steps_to_stop()
        yield seconds


@fault(WORKERS, is_alone=True)
def rolling_restart(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """All workers are stopped and started, one after the other."""
    seconds = chance.uniform(0, 4)
    report(f"{seconds:.1f} s between them")
    for slot in list(stage.crew.slots):
        with slot.reserved():
            yield from slot.steps_to_stop()
        slot.start()
        yield from slot.steps_until_alive()
        yield seconds


@fault(WORKERS)
def all_down(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """All workers die at once."""
    seconds = chance.uniform(0, 10)
    report(f"for {seconds:.1f} s")
    with ExitStack() as stack:
        for slot in stage.crew.slots:
            stack.enter_context(slot.reserved())
            slot.kill()
        yield seconds


@fault(WORKERS)
def clock_step(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """A worker's clock is wrong for some seconds."""
    slot, seconds = stage.crew.pick(chance), chance.uniform(2, 10)
    shift_ms = chance.choice((-1, 1)) * chance.randint(1_000, 30_000)
    what = f"{slot} by {shift_ms / 1000:+.1f} s "
    yield from _for_a_while(lambda: slot.shift_clock(shift_ms), lambda: slot.shift_clock(0), seconds, report, what)


# ---------------------------------------------------------------- the broker, and the connections to it
@fault(KAFKA)
def broker_restart(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """The broker is shut down cleanly, and started again."""
    seconds = chance.uniform(0, 10)
    report(f"down for {seconds:.1f} s")
    yield from stage.broker.steps_to_stop()
    yield seconds
    yield from stage.broker.steps_to_start()


@fault(KAFKA)
def broker_kill(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """The broker dies, and is started again."""
    seconds = chance.uniform(0, 5)
    report(f"down for {seconds:.1f} s")
    stage.broker.kill()
    yield seconds
    yield from stage.broker.steps_to_start()


@fault(KAFKA)
def broker_freeze(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """The broker hangs."""
    yield from _for_a_while(stage.broker.freeze, stage.broker.thaw, chance.uniform(1, 8), report)


@fault(KAFKA)
def changelog_refused(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """The broker refuses all batches for the changelog: workers have to stop, and log why."""
    seconds = chance.uniform(2, 6)
    report(f"for {seconds:.1f} s")
    name = changelog_topic(stage.settings)
    resource = ConfigResource(ConfigResourceType.TOPIC, name, {LIMIT: NO_BATCH_FITS_BYTES})
    admin = KafkaAdminClient(**connection_options(stage.settings))
    try:
        admin.alter_configs([resource])
        yield seconds
    finally:
        # The topic was created without a limit, so the broker's default applied.
        admin.reset_configs([resource])
        admin.close()


@fault(KAFKA)
def connections_cut(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """All connections to the broker break, and may be opened again at once."""
    times = chance.randint(1, 4)
    report(f"{times} times")
    for _ in range(times):
        stage.proxy.cut()
        yield chance.uniform(0.1, 2)


@fault(KAFKA)
def connections_refused(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """All connections to the broker break, and no client gets a new one."""
    yield from _for_a_while(stage.proxy.refuse, stage.proxy.resume, chance.uniform(1, 10), report)


@fault(KAFKA)
def connections_stalled(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """Nothing gets through to the broker or back, but connections stay open."""
    yield from _for_a_while(stage.proxy.stall, stage.proxy.resume, chance.uniform(1, 10), report)


# ---------------------------------------------------------------- Redis
@fault(REDIS)
def redis_stop(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """Redis dies with all its data, and is started again empty."""
    yield from _for_a_while(stage.redis.stop, stage.redis.start, chance.uniform(0, 10), report)


@fault(REDIS)
def redis_flush(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """All data in Redis is deleted."""
    report("")
    stage.redis.flush()
    yield 0


@fault(REDIS)
def redis_freeze(stage: Stage, chance: random.Random, report: Report) -> Steps:
    """Redis hangs."""
    yield from _for_a_while(stage.redis.freeze, stage.redis.thaw, chance.uniform(1, 8), report)
