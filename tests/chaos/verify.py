"""After the chaos: is everything on the broker and in Redis what the log says it has to be?

What the workers left is held against three things: the replay of inputs and journal (every byte), the story's own count
of what was bought (no code shared with the fold), and itself (numbering, repeats, positions).
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
from streams.topics import INPUTS, JOURNAL, changelog_topic
from streams.workshop.replay.run import replay_partition
from tests.chaos.story import Story
from tests.integration.harness import Site
from tests.integration.test_worker_equals_replay import assert_redis_equals

EXAMPLES = 20

Letter = tuple[str, int, int]
"""Where a dead letter's record is: topic, partition, offset."""


@dataclass
class Findings:
    """What is wrong, counted, with some examples."""

    lost: int = 0
    mismatches: int = 0
    repeats: int = 0
    examples: list[str] = field(default_factory=list)

    def lose(self, count: int, what: str) -> None:
        """Something is missing."""
        if count > 0:
            self.lost += count
            self._note(f"lost {count}: {what}")

    def check(self, holds: bool, what: str) -> None:
        """Something has to be as it should."""
        if not holds:
            self.mismatches += 1
            self._note(what)

    def _note(self, what: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(what[:1_000])


class Replayed:
    """The results of replaying inputs and journal."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self.events = 0
        self.bodies: dict[str, dict[str, list[bytes]]] = {topic: defaultdict(list) for topic in ANNOUNCEMENTS}
        self.dead_letters: dict[Letter, tuple[str, bytes | None]] = {}
        self.customers: dict[str, bytes] = {}
        self.of_partition: dict[int, dict[bytes, bytes]] = {}
        self.policies: dict[int, Policy] = {}
        """By edition, the policy that is in force in some partition at the end."""
        self.unreviewed = 0
        """How many customers are not under it."""
        log = KafkaLog(settings)
        log.begin((*INPUTS, JOURNAL))
        for number in range(settings.partitions):
            replay = replay_partition(log, number, policy, lambda count: None, self._take)
            self.of_partition[number] = replay.partition.customers
            self.policies[replay.partition.editions.number] = replay.partition.editions.current
            self.unreviewed += sum(
                models.decode(state).edition != replay.partition.editions.number
                for state in replay.partition.customers.values()
            )
            self.customers |= {key.decode(): state for key, state in replay.partition.customers.items()}

    def _take(self, batch: Batch) -> None:
        self.events += batch.events
        for output in batch.outputs:
            self.bodies[output.topic][output.customer_id].append(output.body)
        for letter in batch.dead_letters:
            record = letter.record
            self.dead_letters[record.topic, record.partition, record.offset] = (letter.code, record.value)


def verify(*, settings: Settings, story: Story, folder: Path, redis_url: str, policy: Policy) -> dict[str, Any]:
    """What is wrong after a run; nothing, if `lost` and `mismatches` are 0."""
    found, site, replayed = Findings(), Site(settings, folder), Replayed(settings, policy)
    # What the broker has may be more than the story's records: a killed broker forgets what an idempotent producer sent.
    written = Counter(
        (topic, message.value())
        for topic in INPUTS
        for message in site.read(topic)
        if message.key() != EVERYBODY.encode()
    )
    found.lose(story.total - written.total(), "records that were produced and acknowledged")
    found.lose(written.total() - replayed.events, "records that were written and never folded")
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
        found.lose(len(expected.keys() - states[number].keys()), f"customers of partition {number} in the changelog")
        for key, state in states[number].items():
            same = expected.get(key) == state
            found.check(same, same or f"state of {key!r}: {_state(state)}, replayed {_state(expected.get(key))}")


def check_announcements(found: Findings, site: Site, replayed: Replayed) -> None:
    """The announcements are those of the replay, per customer in order, numbered without a gap.

    A consumer of exactly-once outputs need not de-duplicate; any other sees repeats that are the same bytes.
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
            found.lose(len(set(expected) - set(once)), f"announcements of {customer} on {topic}")
            found.check(once == expected, f"{topic} of {customer}: {len(once)} announced, {len(expected)} replayed")
            numbers[customer] += [orjson.loads(body)["seq"] for body in once]
    for customer, sequence in numbers.items():
        gapless = sorted(sequence) == list(range(1, len(sequence) + 1))
        found.check(gapless, f"the announcements of {customer} are numbered {sorted(sequence)}")


def check_dead_letters(
    found: Findings, site: Site, replayed: Replayed, story: Story, written: Counter[tuple[str, Any]]
) -> int:
    """Every record that can't be used is in the dead letters, once after de-duplication; returns how many."""
    letters: dict[Letter, tuple[str, bytes | None]] = {}
    for message in site.read(DEAD_LETTERS):
        headers = {name: value.decode() for name, value in message.headers()}
        where = (headers["topic"], int(headers["partition"]), int(headers["offset"]))
        letter = (headers["reason"], message.value())
        if where in letters:
            found.repeats += 1
            found.check(site.settings.delivery == "at-least-once", f"the dead letter of {where} comes twice")
            found.check(letters[where] == letter, f"the dead letter of {where} comes twice and differs")
        letters[where] = letter
    found.lose(len(replayed.dead_letters.keys() - letters.keys()), "dead letters")
    found.check(letters == replayed.dead_letters, "the dead letters are not those of the replay")
    rejected = Counter((topic, value) for (topic, _, _), (_, value) in letters.items())
    garbage = Counter({one: max(count, written[one]) for one, count in story.garbage.items()})
    for one, count in garbage.items():
        found.lose(count - rejected[one], f"garbage {one}")
    for (topic, value), count in (rejected - garbage).items():
        reasons = {code for (at, _, _), (code, body) in letters.items() if (at, body) == (topic, value)}
        found.check(False, f"{count} rejected that are none: {topic} {value!r} {reasons}")
    return len(letters)


def check_facts(found: Findings, replayed: Replayed, story: Story) -> None:
    """What every customer bought is what the story counted."""
    counted = story.facts()
    for customer_id, wanted in counted.items():
        state = replayed.customers.get(customer_id)
        if state is None:
            found.lose(1, f"customer {customer_id}")
            continue
        facts = models.decode(state).facts
        first_ms, last_ms = facts.first_purchase_ms, facts.last_purchase_ms
        have = (facts.orders, facts.spend_minor, None if first_ms < 0 else first_ms, None if last_ms < 0 else last_ms)
        found.check(have == tuple(wanted), f"facts of {customer_id}: {have}, counted {tuple(wanted)}")
    for customer_id in story.erased & replayed.customers.keys():
        found.check(
            models.decode(replayed.customers[customer_id]).facts.orders == 0, f"{customer_id} was not forgotten"
        )


def check_profiles(found: Findings, site: Site, replayed: Replayed, policy: Policy, redis_url: str) -> None:
    """The latest profiles are those of the states, and Redis says the same."""
    made = {key: models.profile(models.decode(state), key, policy) for key, state in replayed.customers.items()}
    wanted = {key: body for key, body in made.items() if body is not None}
    latest = site.latest(PROFILES)
    found.lose(len(wanted.keys() - latest.keys()), "profiles")
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
