"""Editions on the wire: a command to everybody, in every partition of `commands`."""

from __future__ import annotations

from typing import Final

import msgspec
from confluent_kafka import KafkaException, Producer

from models import units
from models.bodies import EVERYBODY, Breakpoints, Command
from models.parameters import Parameters
from models.policy import Policy
from models.policy_file import with_parameters
from streams.librdkafka import quiet, writing
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.sources.logs import LogError
from streams.topics import CENSUS

EDITION: Final = b"edition"
"""Key, in the topic `census`, of the note that an edition was begun."""
PATIENCE_SECONDS: Final = 30.0


def edition_body(
    number: int, at_ms: int, breakpoints: Breakpoints | None = None, parameters: Parameters | None = None
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
    }
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


class SwitchError(RuntimeError):
    """An edition that could not be begun; the message says what to do."""


def switch(settings: Settings, policy: Policy, parameters: Parameters, at_ms: int) -> int:
    """Begin an edition of the running policy with other parameters, in every partition or in none; returns its number.

    Raises SwitchError if the broker refuses, PolicyError if the policy can't have them.
    """
    number = _latest(settings) + 1
    with_parameters(policy, parameters)
    body = edition_body(number, at_ms, parameters=parameters)
    producer = Producer(writing(settings) | {"transactional.id": f"{settings.table_app_id}-editions"}, logger=quiet)
    try:
        producer.init_transactions(PATIENCE_SECONDS)
        producer.begin_transaction()
        # The note first: with it the owner of partition 0 knows the number that is taken.
        producer.produce(settings.topic(CENSUS), body, EDITION, partition=0)
        for partition in range(settings.partitions):
            producer.produce(settings.topic("commands"), body, EVERYBODY.encode(), partition=partition)
        producer.commit_transaction(PATIENCE_SECONDS)
    except KafkaException as error:
        raise SwitchError(
            f"the broker at {settings.broker} did not take edition {number}: {error.args[0].str()}. Nothing was switched; try again"
        ) from None
    return number


def _latest(settings: Settings) -> int:
    """The number of the latest edition that was begun."""
    log = KafkaLog(settings)
    try:
        log.begin([CENSUS])
        notes = [message.value() for message in log.messages(CENSUS, 0) if message.key() == EDITION]
    except LogError as error:
        raise SwitchError(str(error)) from None
    return max((msgspec.json.decode(note, type=Command).edition or 0 for note in notes), default=0)
