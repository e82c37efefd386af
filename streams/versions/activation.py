"""Editions on the wire: a command to everybody, in every partition of `commands`; and how a policy is activated by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from confluent_kafka import KafkaException, Producer
from msgspec import Struct

from models import units
from models.bodies import EVERYBODY, MAX_POLICY_CHARACTERS, Command
from models.parameters import Parameters
from models.policy import PolicyError, load, parse_with, with_parameters
from models.policy.compatibility import obstacles
from streams.broker.librdkafka import quiet, writing
from streams.engine.policy_on_wire import EDITION, Rules, edition_body
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.sources.logs import LogError
from streams.topics import CENSUS, COMMANDS

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


def in_force(settings: Settings, own: Rules) -> InForce:
    """What is in force on tables that were made under a policy of one's own. Raises SwitchError.

    By the commands, as the tables take them: an app version that was built later has the same behind it, and no notes. The notes
    say who did it and why, and which number is taken though its commands are still to be sent.
    """
    log = KafkaLog(settings)
    try:
        log.begin([CENSUS, COMMANDS])
        notes = [(message.key() or b"", message.value()) for message in log.messages(CENSUS, 0)]
        # Each goes to every partition, or to none.
        sent = [message.value() for message in log.messages(COMMANDS, 0) if message.key() == EVERYBODY.encode()]
    except LogError as error:
        raise SwitchError(str(error)) from None
    told = [msgspec.json.decode(value, type=Activation) for key, value in notes if key.startswith(ACTIVATION)]
    taken = [msgspec.json.decode(value, type=Command).edition or 0 for key, value in notes if key == EDITION]
    now = InForce(0, own, [])
    for value in sent:
        now = _after(now, value, {one.edition: one for one in told})
    return msgspec.structs.replace(now, edition=max(now.edition, *taken, *(one.edition for one in told), 0))


def _after(now: InForce, value: bytes | None, told: Mapping[int, Activation]) -> InForce:
    """What is in force after a command to everybody; what is none, or does not follow, changes nothing."""
    try:
        command = msgspec.json.decode(value or b"", type=Command)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return now
    if command.edition != now.edition + 1:
        return now
    begun = msgspec.structs.replace(now, edition=command.edition)
    if command.policy is None:
        if command.parameters is None:
            return begun
        return msgspec.structs.replace(begun, rules=msgspec.structs.replace(now.rules, parameters=command.parameters))
    note = told.get(command.edition)
    if note is None:
        if command.follows not in (None, _ref_in_force(now)):
            return begun  # it was not meant for a table under this policy
        try:
            rules = Rules.of(parse_with(command.policy, command.parameters))
        except PolicyError:
            return begun
        at = command.occurred_at
        at_ms = at if isinstance(at, int) else units.ms_from_datetime(at)
        note = Activation(command.edition, units.format_time(at_ms), rules, now.rules)
    return InForce(command.edition, note.rules, [*now.activations, note])


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
