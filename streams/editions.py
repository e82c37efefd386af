"""Editions on the wire: a command to everybody, in every partition of `commands`; and how a policy is activated by one."""

from __future__ import annotations

from typing import Final

import msgspec
from confluent_kafka import KafkaException, Producer
from msgspec import Struct

from models import units
from models.bodies import EVERYBODY, MAX_POLICY_CHARACTERS, Breakpoints, Command
from models.parameters import Parameters
from models.policy_file import load, with_parameters
from models.succession import obstacles
from streams.librdkafka import quiet, writing
from streams.rules import Rules
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.sources.logs import LogError
from streams.topics import CENSUS

EDITION: Final = b"edition"
"""Key, in the topic `census`, of the note of the latest edition that was begun."""
ACTIVATION: Final = b"activation-"
"""What the keys of the notes of activated policies begin with, one note for each."""
PATIENCE_SECONDS: Final = 30.0


class Activation(Struct, frozen=True):
    """The note of an activation, in the topic `census`."""

    edition: int
    at: str
    rules: Rules
    before: Rules
    """What was in force until then: a rollback goes there."""
    actor: str | None = None
    reason: str | None = None


class InForce(Struct, frozen=True):
    """What was begun so far."""

    edition: int
    """The latest."""
    rules: Rules
    """The policy of the latest activation, or the workers' own; with the parameters that were switched to since."""
    activations: list[Activation]
    """The oldest first."""


class SwitchError(RuntimeError):
    """An edition that could not be begun; the message says what to do."""


def edition_body(
    number: int,
    at_ms: int,
    breakpoints: Breakpoints | None = None,
    parameters: Parameters | None = None,
    policy: str | None = None,
    follows: str | None = None,
) -> bytes:
    """The command that begins an edition. The same edition has the same event id, whoever sends it."""
    body = {
        "event_id": f"edition-{number}",
        "customer_id": EVERYBODY,
        "command": "use_edition",
        "occurred_at": units.format_time(at_ms),
        "edition": number,
        "breakpoints": breakpoints,
        "parameters": parameters,
        "policy": policy,
        "follows": follows,
    }
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


def in_force(settings: Settings, own: Rules) -> InForce:
    """What is in force on tables that were made under a policy of one's own. Raises SwitchError."""
    log = KafkaLog(settings)
    try:
        log.begin([CENSUS])
        notes = [(message.key() or b"", message.value()) for message in log.messages(CENSUS, 0)]
    except LogError as error:
        raise SwitchError(str(error)) from None
    begun = [msgspec.json.decode(value, type=Command) for key, value in notes if key == EDITION]
    told = [msgspec.json.decode(value, type=Activation) for key, value in notes if key.startswith(ACTIVATION)]
    activations = sorted({one.edition: one for one in told}.values(), key=lambda one: one.edition)
    rules, since = (activations[-1].rules, activations[-1].edition) if activations else (own, 0)
    latest = max(begun, key=lambda one: one.edition or 0, default=None)
    number = max((latest.edition or 0) if latest is not None else 0, since)
    if latest is not None and latest.parameters is not None and number > since:
        rules = msgspec.structs.replace(rules, parameters=latest.parameters)
    return InForce(number, rules, activations)


def switch(settings: Settings, parameters: Parameters, at_ms: int) -> int:
    """Begin an edition of the policy in force with other parameters, in every partition or in none; returns its number.

    Raises SwitchError if the broker refuses, PolicyError if the policy can't have them.
    """
    now = in_force(settings, Rules.of(load(settings.policy)))
    with_parameters(now.rules.policy(), parameters)
    number = now.edition + 1
    _begin(settings, number, edition_body(number, at_ms, parameters=parameters), {})
    return number


def activate(
    settings: Settings, now: InForce, rules: Rules, at_ms: int, actor: str | None = None, reason: str | None = None
) -> int:
    """Begin an edition that is another policy, in every partition or in none; returns its number.

    Raises SwitchError if the broker refuses or the policy can't follow the one in force.
    """
    found = why_not(now, rules)
    if found:
        raise SwitchError(f"{rules.ref} can't follow {now.rules.ref}: {'; '.join(found)}. A rebuild can change that")
    number = now.edition + 1
    note = Activation(number, units.format_time(at_ms), rules, now.rules, actor, reason)
    body = edition_body(number, at_ms, parameters=rules.parameters, policy=rules.text, follows=_ref_in_force(now))
    _begin(settings, number, body, {ACTIVATION + str(number).encode(): msgspec.json.encode(note)})
    return number


def _ref_in_force(now: InForce) -> str:
    """The name of the policy in force as tables tell it: of an activated one without the digest of its parameters."""
    if not now.activations:
        return now.rules.ref
    policy = now.rules.policy()
    return f"{policy.id}@{policy.version}"


def why_not(now: InForce, rules: Rules) -> list[str]:
    """What keeps a policy from following what is in force, in sentences. Raises PolicyError."""
    before, after = now.rules.policy(), rules.policy()
    if (before.id, before.version) == (after.id, after.version):
        return [
            f"{after.id}@{after.version} is in force; give another version"
            if before.text != after.text
            else "it is in force"
        ]
    if len(rules.text) > MAX_POLICY_CHARACTERS:
        return [f"its file has {len(rules.text):,} characters; {MAX_POLICY_CHARACTERS:,} is the most"]
    return obstacles(before, after)


def _begin(settings: Settings, number: int, body: bytes, notes: dict[bytes, bytes]) -> None:
    """Send the command of an edition everywhere, with the notes of it. Raises SwitchError."""
    producer = Producer(writing(settings) | {"transactional.id": f"{settings.table_app_id}-editions"}, logger=quiet)
    try:
        producer.init_transactions(PATIENCE_SECONDS)
        producer.begin_transaction()
        # The note first: with it the owner of partition 0 knows the number that is taken.
        for key, note in ({EDITION: body} | notes).items():
            producer.produce(settings.topic(CENSUS), note, key, partition=0)
        for partition in range(settings.partitions):
            producer.produce(settings.topic("commands"), body, EVERYBODY.encode(), partition=partition)
        producer.commit_transaction(PATIENCE_SECONDS)
    except KafkaException as error:
        raise SwitchError(
            f"the broker at {settings.broker} did not take edition {number}: {error.args[0].str()}. Nothing was switched; try again"
        ) from None
