"""Activates policies: an edition begins with a command for all customers, sent to every partition of `commands`."""

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
from streams.broker.librdkafka import producer_options, silent_logger
from streams.engine.policy_on_wire import EDITION, PolicyOnWire, edition_body
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.sources.logs import LogError
from streams.topics import CENSUS, COMMANDS

ACTIVATION: Final = b"activation-"
"""Prefix of the keys, in the topic `census`, of the records of activations."""
PATIENCE_SECONDS: Final = 30.0


class Activation(Struct, frozen=True):
    """The record of an activation, in the topic `census`."""

    edition: int
    at: str
    rules: PolicyOnWire
    before: PolicyOnWire
    """The policy that was in force until then; a rollback restores it."""
    actor: str | None = None
    reason: str | None = None


class InForce(Struct, frozen=True):
    """The policy in force, and the activations so far."""

    edition: int
    """The number of the latest edition."""
    rules: PolicyOnWire
    """The policy of the latest activation, or the workers' own; with the parameters that later editions switched to."""
    activations: list[Activation]
    """The oldest first."""


class SwitchError(RuntimeError):
    """An edition that could not be begun; the message says what to do."""


def read_policy_in_force(settings: Settings, own: PolicyOnWire) -> InForce:
    """The policy in force on tables that were made under `own`. Raises SwitchError.

    It is computed from the commands, as tables do: an app version that was built later has the same commands, but no
    records of activations. Those records add who activated a policy and why, and edition numbers whose commands are
    still to be sent.
    """
    log = KafkaLog(settings)
    try:
        log.begin([CENSUS, COMMANDS])
        records = [(message.key() or b"", message.value()) for message in log.messages(CENSUS, 0)]
        # Each command is sent to every partition, or to none.
        sent = [message.value() for message in log.messages(COMMANDS, 0) if message.key() == EVERYBODY.encode()]
    except LogError as error:
        raise SwitchError(str(error)) from None
    activations = [msgspec.json.decode(value, type=Activation) for key, value in records if key.startswith(ACTIVATION)]
    taken = [msgspec.json.decode(value, type=Command).edition or 0 for key, value in records if key == EDITION]
    now = InForce(0, own, [])
    for value in sent:
        now = _after(now, value, {one.edition: one for one in activations})
    return msgspec.structs.replace(now, edition=max(now.edition, *taken, *(one.edition for one in activations), 0))


def _after(now: InForce, value: bytes | None, activations: Mapping[int, Activation]) -> InForce:
    """The policy in force after a command for all customers. A record that is no such command, or not the next, is
    ignored.
    """
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
    activation = activations.get(command.edition)
    if activation is None:
        if command.follows not in (None, _ref_in_force(now)):
            return begun  # it is meant for tables under another policy
        try:
            rules = PolicyOnWire.of(parse_with(command.policy, command.parameters))
        except PolicyError:
            return begun
        at = command.occurred_at
        at_ms = at if isinstance(at, int) else units.ms_from_datetime(at)
        activation = Activation(command.edition, units.format_time(at_ms), rules, now.rules)
    return InForce(command.edition, activation.rules, [*now.activations, activation])


def switch(settings: Settings, parameters: Parameters, at_ms: int) -> int:
    """Begin an edition of the policy in force with other parameters, in every partition or in none; returns its number.

    Raises SwitchError if the broker refuses, PolicyError if the policy does not accept the parameters.
    """
    now = read_policy_in_force(settings, PolicyOnWire.of(load(settings.policy)))
    with_parameters(now.rules.policy(), parameters)
    number = now.edition + 1
    _begin(settings, number, edition_body(number, at_ms, parameters=parameters), {})
    return number


def activate(
    settings: Settings,
    now: InForce,
    rules: PolicyOnWire,
    at_ms: int,
    actor: str | None = None,
    reason: str | None = None,
) -> int:
    """Begin an edition with another policy, in every partition or in none; returns its number.

    Raises SwitchError if the broker refuses or the policy can't follow the one in force.
    """
    found = reasons_against(now, rules)
    if found:
        raise SwitchError(f"{rules.ref} can't follow {now.rules.ref}: {'; '.join(found)}. A rebuild can change that")
    number = now.edition + 1
    activation = Activation(number, units.format_time(at_ms), rules, now.rules, actor, reason)
    body = edition_body(number, at_ms, parameters=rules.parameters, policy=rules.text, follows=_ref_in_force(now))
    _begin(settings, number, body, {ACTIVATION + str(number).encode(): msgspec.json.encode(activation)})
    return number


def _ref_in_force(now: InForce) -> str:
    """The policy in force as tables name it: an activated policy without the digest of its parameters."""
    if not now.activations:
        return now.rules.ref
    policy = now.rules.policy()
    return f"{policy.id}@{policy.version}"


def reasons_against(now: InForce, rules: PolicyOnWire) -> list[str]:
    """Why a policy can't follow the one in force, in sentences; empty if it can. Raises PolicyError."""
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


def _begin(settings: Settings, number: int, body: bytes, records: dict[bytes, bytes]) -> None:
    """Send an edition's command to every partition, and its records to `census`. Raises SwitchError."""
    producer = Producer(
        producer_options(settings) | {"transactional.id": f"{settings.table_app_id}-editions"}, logger=silent_logger
    )
    try:
        producer.init_transactions(PATIENCE_SECONDS)
        producer.begin_transaction()
        # The records first: from them the owner of partition 0 knows that the number is taken.
        for key, value in ({EDITION: body} | records).items():
            producer.produce(settings.topic(CENSUS), value, key, partition=0)
        for partition in range(settings.partitions):
            producer.produce(settings.topic("commands"), body, EVERYBODY.encode(), partition=partition)
        producer.commit_transaction(PATIENCE_SECONDS)
    except KafkaException as error:
        raise SwitchError(
            f"the broker at {settings.broker} did not take edition {number}: {error.args[0].str()}. "
            "Nothing was switched; try again"
        ) from None
