"""A shadow policy on a partition that is folded, killed and restored: it announces what an activation would have
announced, and changes nothing else.

The broker is kept in memory. What is right is defined by a replay of the same log with the policy activated in it.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate, groupby, pairwise
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from models import decode
from models.outputs import ANNOUNCEMENTS
from models.policy import Policy
from streams.broker.aiokafka_readers import ReadProgress
from streams.engine.table import MARKER, Table
from streams.settings import Settings, load_settings
from streams.topics import INPUTS, shadow_changelog_topic, shadow_of
from streams.worker.delivery import Interrupted
from streams.worker.fetch import Fetch
from streams.worker.inputs import Inputs
from streams.worker.partition import PartitionState, PartitionWorker
from streams.worker.standalone import Standalone
from tests.builders import DAY, Wire, ms, purchase, shipped_text
from tests.models.test_activation import activation, pairs, timely_logs
from tests.models.test_editions import fold_in_batches
from tests.running import policy_of
from tests.worker.doubles import MemoryDelivery, ReadRecord

STEPS = ("append_journal", "append_outputs", "append_shadow", "append_state", "commit")
"""Where a batch may be interrupted, before it is done."""


class Broker:
    """Topics of one partition, in memory: keys and values."""

    def __init__(self, is_exactly_once: bool) -> None:
        self.topics: dict[str, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
        self.is_exactly_once = is_exactly_once

    async def read_to_end(
        self, settings: Any, topic: str, number: int, first: int = 0
    ) -> AsyncIterator[tuple[list[ReadRecord], ReadProgress]]:
        yield self.records(topic, first), ReadProgress(first, len(self.topics[topic]), len(self.topics[topic]))

    async def read_undecided(self, settings: Any, topic: str, number: int) -> list[ReadRecord]:
        return []

    def records(self, topic: str, first: int = 0) -> list[ReadRecord]:
        every = enumerate(self.topics[topic])
        return [ReadRecord(offset, key, value) for offset, (key, value) in every if offset >= first]

    def forget_shadow(self) -> None:
        """What was announced so far."""
        for topic in ANNOUNCEMENTS:
            self.topics[shadow_of(topic)].clear()

    def announced(self, of_shadow: bool = False) -> dict[str, list[bytes]]:
        """By customer, in their order, each once: what is repeated has to be the same."""
        found: dict[str, dict[int, bytes]] = defaultdict(dict)
        for topic in ANNOUNCEMENTS:
            for key, value in self.topics[shadow_of(topic) if of_shadow else topic]:
                assert key is not None
                assert value is not None
                number = json.loads(value)["seq"]
                assert found[key.decode()].setdefault(number, value) == value
        return {customer_id: [bodies[number] for number in sorted(bodies)] for customer_id, bodies in found.items()}


class Dying(MemoryDelivery):
    """Delivery to such a broker, which is interrupted at a step after so many committed batches."""

    def __init__(self, broker: Broker, settings: Settings, dies_at: str, batches: int) -> None:
        super().__init__(settings, broker.topics)
        self.is_exactly_once = broker.is_exactly_once
        self._dies_at, self._left = dies_at, batches

    def step(self, name: str) -> None:
        if (name, 0) == (self._dies_at, self._left):
            raise Interrupted(name)
        self._left -= name == "commit"


class AtItsEnd(Inputs):
    """All records arrive at once."""

    def is_at_end(self, topic: str) -> bool:
        return True


class Site:
    """An installation of one partition."""

    def __init__(
        self, broker: Broker, before: Policy, after: Policy | None, most_due: int = 500, **options: Any
    ) -> None:
        self.most_due = most_due
        self.broker = broker
        shadow = None if after is None else "given"
        settings = load_settings(
            clock="event", shadow=shadow, partitions=1, profile_interval=0, max_idle=0, **({"max_batch": 10} | options)
        )
        self.context = Standalone(settings, before, after)
        self.dies_at, self.steps_left = "", 0

    def die_at(self, step: str, batches: int) -> None:
        """Interrupt at a step, after so many committed batches."""
        self.dies_at, self.steps_left = step, batches


@contextmanager
def partition(site: Site) -> Iterator[PartitionWorker]:
    """A worker of the partition, which restores from what the broker has."""
    with pytest.MonkeyPatch.context() as patch:
        # So few that the table changes customers that the shadow has not taken over.
        patch.setattr("streams.worker.shadow.MOST_DUE", site.most_due)
        patch.setattr("streams.worker.restoring.read_to_end", site.broker.read_to_end)
        patch.setattr("streams.worker.restoring.read_undecided", site.broker.read_undecided)
        patch.setattr("streams.worker.partition.Inputs", AtItsEnd)
        yield PartitionWorker(site.context, 0, Dying(site.broker, site.context.settings, site.dies_at, site.steps_left))


async def fold_what_is_there(worker: PartitionWorker, broker: Broker) -> None:
    """Restore, and fold until nothing is left to do."""
    flow = worker.flow = await worker._restore()
    worker.state = PartitionState.FOLDING
    worker.inputs.begin_after(flow.table.marker.offsets)
    for topic in INPUTS:
        records = broker.records(topic, worker.inputs.next_offsets[topic])
        if records:
            worker.offer(topic, Fetch(records[0].offset, records))
    # A shadow may have begun in a step that had nothing else to do.
    while await worker.step(flow) or await worker.step(flow):
        pass


def run(site: Site) -> PartitionWorker | None:
    """A worker's life until everything is done; None if it was killed."""
    with partition(site) as worker:
        try:
            asyncio.run(fold_what_is_there(worker, site.broker))
        except Interrupted:
            return None
        return worker


def run_until_done(site: Site) -> PartitionWorker:
    worker = run(site)
    while worker is None:
        site.dies_at = ""
        worker = run(site)
    return worker


def table(worker: PartitionWorker) -> Table:
    assert worker.table is not None
    return worker.table


def in_order(log: list[Wire]) -> list[Wire]:
    return sorted(log, key=lambda wire: (ms(wire["occurred_at"]), INPUTS.index(wire["topic"])))


def give(broker: Broker, log: Iterable[Wire]) -> None:
    for wire in log:
        body = {name: value for name, value in wire.items() if name != "topic"}
        broker.topics[wire["topic"]].append((wire["customer_id"].encode(), json.dumps(body).encode()))


@settings(max_examples=40)
@given(pairs(), timely_logs(), st.data())
def test_a_shadow_announces_what_an_activation_would_whenever_it_was_killed(
    pair: tuple[Policy, Policy], log: list[Wire], data: st.DataObject
) -> None:
    before, after = pair
    log = in_order(log)
    # What happens at one instant is folded at once: afterwards the order would be another one.
    instants = groupby(log, key=lambda wire: ms(wire["occurred_at"]))
    ends = [0, *accumulate(len(list(group)) for _, group in instants)]
    begins, *cuts = sorted(data.draw(st.lists(st.sampled_from(ends), min_size=1, max_size=3)))
    first, parts = log[:begins], [log[begin:end] for begin, end in pairwise([begins, *cuts, len(log)])]
    until_ms = ms(log[-1]["occurred_at"]) + data.draw(st.integers(0, 500)) * DAY
    broker = Broker(is_exactly_once=data.draw(st.booleans()))
    most = data.draw(st.sampled_from([1, 2, 100]))

    # An earlier shadow that missed a batch does not count any more.
    earlier = data.draw(st.integers(0, max(0, len(first) - 1)))
    give(broker, first[:earlier])
    run_until_done(Site(broker, before, data.draw(st.sampled_from([None, after])), max_batch=most))
    give(broker, first[earlier:])
    run_until_done(Site(broker, before, None, max_batch=most))
    broker.forget_shadow()
    announced_before = {customer_id: len(bodies) for customer_id, bodies in broker.announced().items()}
    at_ms = -1 if not first else ms(first[-1]["occurred_at"])

    deaths = 0
    for part in parts:
        give(broker, part)
        site = Site(broker, before, after, data.draw(st.sampled_from([0, 1, 500])), max_batch=most)
        site.die_at(data.draw(st.sampled_from([*STEPS, "append_state"])), data.draw(st.sampled_from([1, 0, 2, 9])))
        worker = run(site)
        deaths += worker is None
    worker = run_until_done(at_the_end(broker, before, after, most, until_ms))
    event(f"deaths: {deaths}")

    alone, customers = fold_in_batches(before, log, 100, until_ms)
    assert broker.announced() == alone
    assert dict(table(worker).customers) == customers

    begun = [*first, activation(1, max(at_ms, 0), after.text), *log[len(first) :]]
    activated, customers = fold_in_batches(before, begun, 100, until_ms)
    expected = {
        customer_id: bodies[announced_before.get(customer_id, 0) :] for customer_id, bodies in activated.items()
    }
    assert broker.announced(of_shadow=True) == {
        customer_id: bodies for customer_id, bodies in expected.items() if bodies
    }
    assert worker.shadow is not None
    assert {key: worker.shadow.customers[key] for key in worker.shadow.customers} == customers


def at_the_end(broker: Broker, before: Policy, after: Policy, most: int, until_ms: int) -> Site:
    site = Site(broker, before, after, max_batch=most)
    site.context.settings = site.context.settings.model_copy(update={"until": until_ms})
    return site


def annual_spend(version: int, **lines: str) -> Policy:
    text = shipped_text("annual-spend").replace("version = 1", f"version = {version}", 1)
    for before, after in lines.items():
        text = text.replace(f'"{before[1:]}.00"', f'"{after}.00"')
    return policy_of(text)


def some_purchases(first: int, count: int) -> list[Wire]:
    return [purchase(f"c{n}", "230", on=ms("2024-01-01") + n, id=f"p{n}") for n in range(first, first + count)]


def test_an_interrupted_batch_of_the_shadow_alone_is_finished_after_a_restart() -> None:
    before, after = annual_spend(1), annual_spend(2, _200="400")
    broker = Broker(is_exactly_once=False)
    give(broker, some_purchases(0, 5))
    run_until_done(Site(broker, before, None))
    # The table has nothing to do any more; the batch that judges everybody under the shadow policy dies before its marker.
    killed = Site(broker, before, after)
    killed.die_at("append_state", 1)
    assert run(killed) is None
    batches = len(broker.topics["journal"])

    give(broker, some_purchases(5, 2))
    worker = run_until_done(Site(broker, before, after))
    assert worker.shadow is not None
    assert len(table(worker).customers) == 7
    assert {decode(state).edition for state in worker.shadow.customers.values()} == {1}
    assert table(worker).marker.batch > batches


def test_a_shadow_whose_changelog_is_damaged_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    before, after = annual_spend(1), annual_spend(2, _200="400")
    broker = Broker(is_exactly_once=True)
    give(broker, some_purchases(0, 5))
    run_until_done(Site(broker, before, after))
    changelog = broker.topics[shadow_changelog_topic(load_settings())]
    place = next(number for number, (key, _) in enumerate(changelog) if key != MARKER)
    del changelog[place]
    with caplog.at_level("WARNING"):
        worker = run_until_done(Site(broker, before, after))
    assert "the shadow begins again: the changelog" in caplog.text
    assert worker.shadow is not None
    assert {decode(state).edition for state in worker.shadow.customers.values()} == {1}
    assert len(worker.shadow.active_table.customers) == 5


def test_a_shadow_policy_that_can_not_follow_the_activated_one_stops_no_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, after = annual_spend(1), annual_spend(2, _200="400")
    broker = Broker(is_exactly_once=True)
    give(broker, [*some_purchases(0, 5), activation(1, ms("2024-01-02"), after.text), *some_purchases(5, 3)])
    worker = run_until_done(Site(broker, before, after))
    assert table(worker).editions.current.ref == "annual-spend@2"
    assert worker.shadow is not None
    assert len(worker.shadow.active_table.customers) == 8  # it began before the activation

    broker.topics[shadow_changelog_topic(load_settings())].clear()
    give(broker, some_purchases(8, 2))
    worker = run_until_done(Site(broker, before, after))
    assert len(table(worker).customers) == 10
    assert worker.shadow is not None
    assert worker.shadow.table is None
    assert worker.shadow.refusal is not None
    assert worker.shadow.refusal.endswith("it is in force; give another version")
    assert "The worker goes on without it" in caplog.text


def test_what_only_the_shadow_refuses_is_a_dead_letter_of_its_own() -> None:
    before, after = annual_spend(1), annual_spend(2)
    stricter = policy_of(after.text.replace('kind = "calendar-year"', 'kind = "calendar-year"\nlateness = "1d"'))
    broker = Broker(is_exactly_once=True)
    late = purchase("c1", "10", on="2024-01-10", id="late")
    give(broker, [purchase("c1", "10", on="2024-02-01", id="first"), late, {"topic": "purchases", "customer_id": "c1"}])
    run_until_done(Site(broker, before, stricter))
    purchases = [value for _, value in broker.topics["purchases"]]
    assert [value for _, value in broker.topics["dead-letters"]] == [purchases[2]]
    assert [value for _, value in broker.topics["dead-letters-shadow"]] == [purchases[1]]
