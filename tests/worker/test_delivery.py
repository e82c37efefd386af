"""What a delivery makes of errors, and when it writes nothing, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
)

import models
from streams.settings import load_settings
from streams.worker.delivery import Delivery, Fenced, Interrupted, Refused
from streams.worker.standalone import NoGroup, Standalone


class Group(NoGroup):
    """A group that may have given the partition away."""

    def __init__(self, is_member: Callable[[], bool]) -> None:
        super().__init__()
        self._is_member = is_member

    def is_member(self) -> bool:
        return self._is_member()


def delivery(is_member: Callable[[], bool] = lambda: True) -> Delivery:
    context = Standalone(
        load_settings(delivery="at-least-once"), models.load("annual-spend"), consumer=Group(is_member)
    )
    context.generation = 4
    made = Delivery(context, 0)
    made.generation = 4
    return made


def give_away(made: Delivery) -> None:
    assert isinstance(made._context, Standalone)
    made._context.generation = 5


async def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProducerFenced(), Fenced),
        (InvalidProducerEpoch(), Fenced),
        (MessageSizeTooLargeError(), Refused),
        (TransactionalIdAuthorizationFailed(), Refused),
        (KafkaTimeoutError(), Interrupted),
        (KafkaConnectionError(), Interrupted),
        (OutOfOrderSequenceNumber(), Interrupted),
        (KafkaError("Unexpected error during batch delivery"), Interrupted),
        (AssertionError("Invalid state transition"), Interrupted),
        (ConnectionResetError(), Interrupted),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else type(one).__name__,
)
def test_errors_are_translated_into_interrupted_refused_or_fenced(error: BaseException, expected: type) -> None:
    with pytest.raises(expected):
        asyncio.run(delivery()._patiently(failing(error)))


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(Refused, match=r"partition 0.*Raise max\.message\.bytes"):
        asyncio.run(delivery()._patiently(failing(MessageSizeTooLargeError())))


def test_futures_of_an_interrupted_batch_do_not_reach_the_next_one() -> None:
    async def interrupted() -> None:
        made = delivery()
        made._journal_sent = asyncio.get_running_loop().create_future()
        made._journal_sent.set_exception(KafkaError("Unexpected error during batch delivery"))
        made._journal_sent.exception()
        await made.close()
        made._record_journal_position()
        assert made.journal_position == 0

    asyncio.run(interrupted())


def test_nothing_is_written_for_a_generation_that_is_over() -> None:
    made = delivery()
    give_away(made)
    with pytest.raises(Fenced, match="generation 4"):
        asyncio.run(made.append_outputs({"tier-changes": []}))


def test_without_a_recent_heartbeat_nothing_is_written_until_the_group_answers() -> None:
    looks = iter([False, False])

    def is_member() -> bool:
        if next(looks, None) is None:
            give_away(made)
        return False

    made = delivery(is_member=is_member)
    with pytest.raises(Fenced):
        asyncio.run(made.append_outputs({"tier-changes": []}))
