"""A chaos run: workers fold a random log while faults are injected. At the end every fault is undone, the workers
process what is left, and the results are verified.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka

import models
from models.bodies import EVERYBODY
from models.parameters import FORM, About, CardTable, Metrics, Parameters, Purchases
from streams.broker.topic_creation import create_topics
from streams.engine.policy_on_wire import edition_body
from streams.settings import Settings, load_settings
from streams.topics import INPUTS, topics_of
from tests.chaos.broker import Broker, Steps, finish
from tests.chaos.crew import Crew
from tests.chaos.faults import FAULTS, Fault, Stage
from tests.chaos.proxy import Proxy
from tests.chaos.redis_server import RedisServer
from tests.chaos.story import Story
from tests.integration.harness import Site, free_port

POLICY = Path(__file__).with_name("policy.toml")
PARTITIONS = 4
TICK_SECONDS = 0.05
READY_SECONDS = 60.0
OVERLAP_PROBABILITY = 0.5
"""How often a fault may begin while another one lasts."""
DRAIN_SECONDS = 180.0
EDITION_SECONDS = 15.0
"""The time between the beginnings of two editions of the policy."""

STRAY_EVERY = 13
"""One record in so many goes to a partition that does not depend on its key."""

Say = Callable[[str], None]


class Writer:
    """Writes the story to the input topics at a steady rate, and retries while the broker is away."""

    def __init__(self, settings: Settings, story: Story, events_per_second: float, with_editions: bool) -> None:
        self._settings = settings
        self._story = story
        self._events_per_second = events_per_second
        self._started = time.monotonic()
        self._written_until_ms = time.time_ns() // 1_000_000
        self._failed: list[str] = []
        self._records = 0
        self.editions = 0
        self._next_edition = self._started + EDITION_SECONDS if with_editions else math.inf
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": settings.broker,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "message.timeout.ms": 600_000,
                "reconnect.backoff.max.ms": 500,
                # Otherwise librdkafka would log on standard error what the faults do to it.
                "log_level": 0,
            }
        )

    def tick(self) -> None:
        """Write the records that are due by now; begin an edition of the policy every EDITION_SECONDS."""
        if time.monotonic() >= self._next_edition:
            self._next_edition += EDITION_SECONDS
            self.editions += 1
            self._begin_edition(self.editions)
        due = int((time.monotonic() - self._started) * self._events_per_second) - self._story.total
        now_ms = time.time_ns() // 1_000_000
        for record in self._story.records(max(due, 0), now_ms, self._written_until_ms):
            topic, self._records = self._settings.topic(record.topic), self._records + 1
            # Some as a producer with another partitioner would place them: most of these are strays.
            elsewhere = (
                {"partition": self._records // STRAY_EVERY % PARTITIONS} if self._records % STRAY_EVERY == 0 else {}
            )
            self._producer.produce(topic, record.value, record.key, on_delivery=self._delivered, **elsewhere)
        self._written_until_ms = now_ms
        self._producer.poll(0)

    def _begin_edition(self, number: int) -> None:
        """Send other parameters to every partition; every other time twice, as a sender does that crashed and retried."""
        body = edition_body(number, time.time_ns() // 1_000_000, parameters=parameters_of(number))
        for partition in [*range(PARTITIONS)] * (1 + number % 2):
            topic = self._settings.topic("commands")
            self._producer.produce(topic, body, EVERYBODY.encode(), partition, on_delivery=self._delivered)

    def flush(self) -> bool:
        """Wait a moment for deliveries; returns whether everything is delivered. Raises AssertionError for a failed one."""
        left = self._producer.flush(TICK_SECONDS)
        assert not self._failed, f"{len(self._failed)} records were not written: {self._failed[0]}"
        return left == 0

    def _delivered(self, error: confluent_kafka.KafkaError | None, _: confluent_kafka.Message) -> None:
        if error is not None:
            self._failed.append(str(error))


def parameters_of(number: int) -> Parameters:
    """The policy's risk with another intercept for each edition, so that the levels of some customers change."""
    risk = models.load(POLICY).risk
    shift = (0.0, 0.4, -0.3)[number % 3]
    return Parameters(
        form=FORM,
        fit=About(
            log=["chaos"], events=1, customers=1, begins="2026-01-01T00:00:00Z", ends="2026-01-02T00:00:00Z", horizon="1d",
            origins=[], calibrated_at="2026-01-02T00:00:00Z",
        ),
        metrics=Metrics(customers=1, churned=0.5, auc=0.5, brier=0.25, brier_of_base_rate=0.25),
        purchases=Purchases(
            r=risk.mbg.r, alpha_weeks=risk.mbg.alpha, a=risk.mbg.a, b=risk.mbg.b, log_likelihood=0.0, standard_errors=[]
        ),
        card=CardTable(
            intercept=shift, model=1.0, silence=0.1, frequency=-0.1, spend=-0.05, basket_trend=-0.1, typical_spend="100"
        ),
    )  # fmt: skip


@dataclass
class Active:
    """A fault that has begun and is not undone yet."""

    fault: Fault
    steps: Steps
    resume_at: float


class Injector:
    """Injects faults in a random order: every kind once, then every kind again, and so on."""

    def __init__(
        self,
        stage: Stage,
        chance: random.Random,
        names: list[str],
        max_faults: int | None,
        calm_seconds: float,
        say: Say,
    ) -> None:
        self._stage = stage
        self._chance = chance
        self._names = names
        self._bag: list[str] = []
        self._left = max_faults
        self._calm_seconds = calm_seconds
        self._say = say
        self._active: list[Active] = []
        self.counts: Counter[str] = Counter()
        self._next: Fault | None = None
        self._next_at = 0.0
        self._draw()

    @property
    def is_done(self) -> bool:
        """Whether all faults that were asked for have been injected and undone."""
        return self._next is None and not self._active

    def tick(self) -> None:
        """Continue the faults in progress, and begin the next one if it is due."""
        now = time.monotonic()
        for active in [one for one in self._active if one.resume_at <= now]:
            try:
                active.resume_at = now + next(active.steps)
            except StopIteration:
                self._active.remove(active)
                self._next_at = max(self._next_at, time.monotonic() + self._calm)
        if self._next is not None and now >= self._next_at and self._may_begin(self._next):
            self._begin(self._next)
            self._draw()

    def _may_begin(self, fault: Fault) -> bool:
        if not self._active:
            return True
        alone = fault.is_alone or any(one.fault.is_alone for one in self._active)
        same = any(one.fault.touches == fault.touches for one in self._active)
        return self._overlaps and not alone and not same

    def _begin(self, fault: Fault) -> None:
        self.counts[fault.name] += 1
        report: Say = lambda detail: self._say(f"{fault.name:22} {detail}")  # noqa: E731
        # A random generator for each fault: how many numbers one draws does not change which faults follow.
        steps = fault.do(self._stage, random.Random(self._chance.random()), report)
        self._active.append(Active(fault, steps, time.monotonic()))

    def _draw(self) -> None:
        self._next = None
        if self._left is not None:
            if self._left == 0:
                return
            self._left -= 1
        if not self._bag:
            self._bag = self._chance.sample(self._names, len(self._names))
        self._next = FAULTS[self._bag.pop()]
        self._overlaps = self._chance.random() < OVERLAP_PROBABILITY
        self._calm = self._chance.uniform(0, self._calm_seconds)
        self._next_at = time.monotonic() + self._calm

    def close(self) -> None:
        """Undo the faults in progress."""
        self._next = None
        for active in self._active:
            active.steps.close()
        self._active.clear()


@contextmanager
def staged(folder: Path, workers: int, delivery: str, say: Say) -> Iterator[Stage]:
    """A broker, a proxy, Redis, topics and a crew that has not started yet; all of them end with the block."""
    name = f"c{uuid.uuid4().hex[:10]}"
    with Proxy(free_port()) as proxy:
        broker = Broker(folder / "kafka", proxy)
        redis = RedisServer(free_port(), folder)
        values: dict[str, Any] = {
            "broker": proxy.address, "redis_url": redis.url, "policy": str(POLICY), "clock": "wall",
            "topic_prefix": f"{name}-", "app_id": name, "partitions": PARTITIONS, "session_timeout": 6_000,
            "profile_interval": 300, "commit_interval": 500, "max_idle": 1_000, "max_batch": 200,
        }  # fmt: skip
        if "delivery" in Settings.model_fields:
            values["delivery"] = delivery
        settings = load_settings(**values)
        crew = Crew(settings, folder, workers, say)
        try:
            finish(broker.steps_to_start())
            redis.start()
            create_topics(settings, topics_of(settings))
            yield Stage(settings, crew, broker, proxy, redis)
        finally:
            crew.kill()
            redis.stop()
            broker.thaw()
            finish(broker.steps_to_stop())


def run(
    minutes: float,
    seed: int,
    folder: Path,
    workers: int = 3,
    delivery: str = "exactly-once",
    events_per_second: float = 150,
    only: set[str] | None = None,
    max_faults: int | None = None,
    calm_seconds: float = 6,
    say: Say = print,
    with_editions: bool = True,
) -> dict[str, Any]:
    """One chaos run of so many minutes, or until `max_faults` were injected and undone; returns its summary.

    Up to `calm_seconds` pass from one fault to the next. With `with_editions` an edition of the policy begins every
    EDITION_SECONDS.
    """
    from tests.chaos.verify import verify

    if unknown := (only or set()) - set(FAULTS):
        raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def say_when(what: str) -> None:
        say(f"{time.monotonic() - started:7.1f} s  {what}")

    with staged(folder, workers, delivery, say_when) as stage:
        crew, story = stage.crew, Story(seed)
        writer = Writer(stage.settings, story, events_per_second, with_editions)
        _begin(crew, writer, say_when)
        names = [name for name in FAULTS if only is None or name in only]
        injector = Injector(stage, random.Random(seed), names, max_faults, calm_seconds, say_when)
        until = time.monotonic() + minutes * 60
        try:
            while time.monotonic() < until and not injector.is_done:
                writer.tick()
                injector.tick()
                crew.tick()
                time.sleep(TICK_SECONDS)
        finally:
            injector.close()
        say_when(f"undoing all faults, after {story.total} events")
        # A fault that was given up in the middle may have left the broker down.
        finish(stage.broker.steps_to_start())
        _drain(stage, writer, say_when)
        say_when("verifying")
        found = verify(
            settings=stage.settings,
            story=story,
            folder=folder,
            redis_url=stage.redis.url,
            policy=models.load(stage.settings.policy),
        )
        return {
            "seed": seed,
            "minutes": minutes,
            "delivery": delivery,
            "events": story.total,
            "editions": writer.editions,
            "faults": dict(sorted(injector.counts.items())),
            "deaths": dict(sorted(crew.deaths.items())),
            "restarts": crew.restarts,
            "unexpected_exits": crew.unexpected_exits,
            **found,
        }


def _begin(crew: Crew, writer: Writer, say: Say) -> None:
    """Wait until every worker is ready, so that the first fault hits workers that fold."""
    ready: set[int] = set()
    deadline = time.monotonic() + READY_SECONDS
    while len(ready) < len(crew.slots) and time.monotonic() < deadline:
        writer.tick()
        crew.tick()
        ready |= {worker.port for worker in crew.running() if worker.page("readyz")[0] == 200}
        time.sleep(TICK_SECONDS)
    say(f"{len(ready)} workers are ready")


def _drain(stage: Stage, writer: Writer, say: Say) -> None:
    """Wait until everything written is folded, announced, committed and served, and no worker runs any more."""
    crew = stage.crew
    deadline = time.monotonic() + DRAIN_SECONDS
    while not writer.flush() and time.monotonic() < deadline:
        crew.tick()
    # By the wall clock customers keep becoming due, so all workers are never drained at the same time, but each one is
    # now and then.
    drained: set[int] = set()
    while not (running := crew.running()) or {worker.port for worker in running} - drained:
        drained |= {worker.port for worker in running if worker.page("stats")[1].get("drained")}
        if time.monotonic() > deadline:
            for slot in crew.slots:
                waits_for = slot.worker.page("stats")[1].get("waits_for") if slot.worker else None
                crew.record_unexpected(slot, f"was not drained: {waits_for}")
            break
        crew.tick()
        time.sleep(TICK_SECONDS)
    say("drained; stopping")
    crew.stop()
    # By the event clock time does not pass without events, so a last worker comes to an end. It writes what the others
    # announced while they stopped into the view.
    last = crew.slots[0]
    worker = last.start(clock="event")
    site = Site(stage.settings, crew.folder, [worker])
    try:
        site.wait_until_drained(0, DRAIN_SECONDS)
        finish(last.steps_to_stop())
        assert site.committed_equals_ends(INPUTS), "offsets were not committed up to the end"
    except AssertionError as error:
        crew.record_unexpected(last, str(error))
