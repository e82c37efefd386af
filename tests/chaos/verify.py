"""Verifies, after a chaos run, that topics and Redis have what the log demands.

What the workers wrote is compared with the replay of inputs and journal (every byte) and with the story's own count of
purchases (which shares no code with the fold), and is checked in itself: numbers, repeats, positions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

import models
from models.bodies import EVERYBODY
from models.outputs import ANNOUNCEMENTS, DEAD_LETTERS, PROFILES
from models.policy import Policy
from streams.engine.batch import Batch
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.topics import FOLDED, INPUTS, JOURNAL, changelog_topic
from streams.workshop.replay.run import replay_partition
from tests.chaos.story import Story
from tests.integration.harness import Site
from tests.integration.test_worker_equals_replay import assert_redis_equals

EXAMPLES = 20

Source = tuple[str, int, int]
"""Where the record of a dead letter was read: topic, partition, offset."""


@dataclass
class Findings:
    """What is wrong, counted, with some examples."""

    lost: int = 0
    mismatches: int = 0
    repeats: int = 0
    examples: list[str] = field(default_factory=list)

    def count_lost(self, count: int, what: str) -> None:
        """Count what is missing."""
        if count > 0:
            self.lost += count
            self._add_example(f"lost {count}: {what}")

    def check(self, holds: bool, what: str) -> None:
        """Count a mismatch unless `holds`."""
        if not holds:
            self.mismatches += 1
            self._add_example(what)

    def _add_example(self, what: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(what[:1_000])


class Replayed:
    """The results of replaying inputs and journal."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self.events = 0
        self.bodies: dict[str, dict[str, list[bytes]]] = {topic: defaultdict(list) for topic in ANNOUNCEMENTS}
        self.dead_letters: dict[Source, tuple[str, bytes | None]] = {}
        self.customers: dict[str, bytes] = {}
        self.of_partition: dict[int, dict[bytes, bytes]] = {}
        self.policies: dict[int, Policy] = {}
        """The policies in force at the end, by edition; more than one if partitions differ."""
        self.unreviewed = 0
        """How many customers were not judged under the edition in force."""
        log = KafkaLog(settings)
        log.begin((*FOLDED, JOURNAL))
        for number in range(settings.partitions):
            replay = replay_partition(log, number, policy, lambda count: None, self._collect)
            self.of_partition[number] = replay.partition.customers
            self.policies[replay.partition.editions.number] = replay.partition.editions.current
            self.unreviewed += sum(
                models.decode(state).edition != replay.partition.editions.number
                for state in replay.partition.customers.values()
            )
            self.customers |= {key.decode(): state for key, state in replay.partition.customers.items()}

    def _collect(self, batch: Batch) -> None:
        self.events += batch.events
        for output in batch.outputs:
            self.bodies[output.topic][output.customer_id].append(output.body)
        for dead_letter in batch.dead_letters:
            record = dead_letter.record
            source = record.origin or (record.topic, record.partition, record.offset)
            self.dead_letters[source] = (dead_letter.code, record.value)


def verify(*, settings: Settings, story: Story, folder: Path, redis_url: str, policy: Policy) -> dict[str, Any]:
    """What is wrong after a run; nothing, if `lost` and `mismatches` are 0."""
    found, site, replayed = Findings(), Site(settings, folder), Replayed(settings, policy)
    # The topics may hold more than the story's records: a killed broker forgets what an idempotent producer has sent.
    written = Counter(
        (topic, message.value())
        for topic in INPUTS
        for message in site.read(topic)
        if message.key() != EVERYBODY.encode()
    )
    found.count_lost(story.total - written.total(), "records that were produced and acknowledged")
    found.count_lost(written.total() - replayed.events, "records that were written and never folded")
    check_states(found, site, replayed)
    check_announcements(found, site, replayed)
    dead_letters = check_dead_letters(found, site, replayed, story, written)
    check_facts(found, replayed, story)
    found.check(len(replayed.policies) == 1, f"partitions are under different editions: {sorted(replayed.policies)}")
    found.check(not replayed.unreviewed, f"{replayed.unreviewed} customers were not judged under the last edition")
    check_profiles(found, site, replayed, max(replayed.policies.items())[1], redis_url)
    found.check(site.committed_equals_ends(INPUTS), "committed offsets are not where the inputs end")
    return {
        "announcements": sum(len(bodies) for topic in replayed.bodies.values() for bodies in topic.values()),
        "customers": len(replayed.customers),
        "written_twice": written.total() - story.total,
        "repeats": found.repeats,
        "lost": found.lost,
        "mismatches": found.mismatches,
        "dead_letters": dead_letters,
        "examples": found.examples,
    }


def check_states(found: Findings, site: Site, replayed: Replayed) -> None:
    """The changelog's states are the replay's, byte for byte."""
    states: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    staged: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    batches: dict[int, int] = defaultdict(int)
    for message in site.read_topic(changelog_topic(site.settings)):
        number, key, value = message.partition(), message.key(), message.value()
        if key != b"m":
            staged[number][key[1:]] = value
            continue
        # A batch that an earlier owner wrote too late does not count.
        if (batch := orjson.loads(value)["batch"]) > batches[number]:
            batches[number] = batch
            states[number] |= staged[number]
        staged[number].clear()
    for number, expected in replayed.of_partition.items():
        found.count_lost(
            len(expected.keys() - states[number].keys()), f"customers of partition {number} in the changelog"
        )
        for key, state in states[number].items():
            same = expected.get(key) == state
            found.check(same, same or f"state of {key!r}: {_state(state)}, replayed {_state(expected.get(key))}")


def check_announcements(found: Findings, site: Site, replayed: Replayed) -> None:
    """The announcements are those of the replay, per customer in order, numbered without a gap.

    A consumer of exactly-once outputs need not de-duplicate; others may see repeats, which are the same bytes.
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    for topic in ANNOUNCEMENTS:
        seen = site.by_customer(topic)
        for customer in replayed.bodies[topic].keys() | seen.keys():
            bodies = seen.get(customer, [])
            once = list(dict.fromkeys(bodies))
            found.repeats += len(bodies) - len(once)
            if site.settings.delivery == "exactly-once":
                found.check(len(bodies) == len(once), f"{topic} of {customer} has repeats")
            ids = Counter(orjson.loads(body)["id"] for body in once)
            found.check(len(ids) == len(once), f"{topic} of {customer} has another body under the same id")
            expected = replayed.bodies[topic].get(customer, [])
            found.count_lost(len(set(expected) - set(once)), f"announcements of {customer} on {topic}")
            found.check(once == expected, f"{topic} of {customer}: {len(once)} announced, {len(expected)} replayed")
            numbers[customer] += [orjson.loads(body)["seq"] for body in once]
    for customer, sequence in numbers.items():
        gapless = sorted(sequence) == list(range(1, len(sequence) + 1))
        found.check(gapless, f"the announcements of {customer} are numbered {sorted(sequence)}")


def check_dead_letters(
    found: Findings, site: Site, replayed: Replayed, story: Story, written: Counter[tuple[str, Any]]
) -> int:
    """Every record that can't be used is a dead letter, once after de-duplication. Returns the number of dead letters."""
    dead_letters: dict[Source, tuple[str, bytes | None]] = {}
    for message in site.read(DEAD_LETTERS):
        headers = {name: value.decode() for name, value in message.headers()}
        source = (headers["topic"], int(headers["partition"]), int(headers["offset"]))
        dead_letter = (headers["reason"], message.value())
        if source in dead_letters:
            found.repeats += 1
            found.check(site.settings.delivery == "at-least-once", f"the dead letter of {source} is there twice")
            found.check(dead_letters[source] == dead_letter, f"the dead letter of {source} is there twice and differs")
        dead_letters[source] = dead_letter
    found.count_lost(len(replayed.dead_letters.keys() - dead_letters.keys()), "dead letters")
    found.check(dead_letters == replayed.dead_letters, "the dead letters are not those of the replay")
    rejected = Counter((topic, value) for (topic, _, _), (_, value) in dead_letters.items())
    invalid = Counter({one: max(count, written[one]) for one, count in story.invalid.items()})
    for one, count in invalid.items():
        found.count_lost(count - rejected[one], f"dead letters of the invalid record {one}")
    for (topic, value), count in (rejected - invalid).items():
        reasons = {code for (at, _, _), (code, body) in dead_letters.items() if (at, body) == (topic, value)}
        found.check(False, f"{count} valid records were rejected: {topic} {value!r} {reasons}")
    return len(dead_letters)


def check_facts(found: Findings, replayed: Replayed, story: Story) -> None:
    """The facts of every customer are those that the story counted."""
    counted = story.facts()
    for customer_id, wanted in counted.items():
        state = replayed.customers.get(customer_id)
        if state is None:
            found.count_lost(1, f"customer {customer_id}")
            continue
        facts = models.decode(state).facts
        first_ms, last_ms = facts.first_purchase_ms, facts.last_purchase_ms
        folded = (facts.orders, facts.spend_minor, None if first_ms < 0 else first_ms, None if last_ms < 0 else last_ms)
        found.check(folded == tuple(wanted), f"facts of {customer_id}: {folded}, counted {tuple(wanted)}")
    for customer_id in story.erased & replayed.customers.keys():
        found.check(
            models.decode(replayed.customers[customer_id]).facts.orders == 0, f"{customer_id} was not forgotten"
        )


def check_profiles(found: Findings, site: Site, replayed: Replayed, policy: Policy, redis_url: str) -> None:
    """The latest profiles are those that the states give, and Redis has the same."""
    made = {key: models.profile(models.decode(state), key, policy) for key, state in replayed.customers.items()}
    wanted = {key: body for key, body in made.items() if body is not None}
    latest = site.latest(PROFILES)
    found.count_lost(len(wanted.keys() - latest.keys()), "profiles")
    for key in wanted.keys() | latest.keys():
        found.check(
            wanted.get(key) == latest.get(key), f"profile of {key}: {latest.get(key)!r}, not {wanted.get(key)!r}"
        )
    try:
        assert_redis_equals(redis_url, wanted, [tier.name for tier in policy.ladder.tiers])
    except AssertionError as error:
        found.check(False, f"Redis is not what the profiles say: {error}")


def _state(state: bytes | None) -> str:
    return "none" if state is None else repr(models.decode(state))
