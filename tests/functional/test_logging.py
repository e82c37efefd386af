"""What a worker's log says of an outage: the reason, not where in a library it was noticed."""

from __future__ import annotations

import logging
import sys
from typing import Any

import aiokafka.producer.message_accumulator as accumulator
import pytest
from aiokafka.errors import KafkaConnectionError

from streams.run import _Thinned, _without_traces_of_outages
from streams.table import ChangelogError


def logged(name: str, message: str, error: BaseException) -> logging.LogRecord:
    try:
        raise error
    except BaseException:
        return logging.LogRecord(name, logging.ERROR, "", 0, message, None, sys.exc_info())


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), ConnectionResetError("gone"), ChangelogError("gone")])
def test_an_outage_is_told_in_one_line(error: BaseException) -> None:
    record = logged("aiokafka", "unexpected", error)
    assert _without_traces_of_outages(record)
    assert record.exc_info is None
    assert record.getMessage() == f"unexpected: {type(error).__name__}: {error}"


def test_a_mistake_of_ours_keeps_its_stack_trace() -> None:
    record = logged("streams.partition", "unexpected", ZeroDivisionError())
    assert _without_traces_of_outages(record)
    assert record.exc_info is not None


def test_what_a_given_up_producer_stumbles_over_is_told_in_one_line() -> None:
    broken: Any = accumulator.MessageAccumulator.__new__(accumulator.MessageAccumulator)
    broken._pending_batches = set()
    try:
        broken.reenqueue(object())
    except (KeyError, AttributeError):
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "Exception in callback", None, sys.exc_info())
    assert _without_traces_of_outages(record)
    assert record.exc_info is None


def test_the_clients_repeat_a_complaint_once_in_a_while_and_others_always() -> None:
    thinned = _Thinned()
    complaint = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "can't connect", None, None)
    ours = logging.LogRecord("streams.view", logging.WARNING, "", 0, "retrying", None, None)
    assert [thinned.filter(complaint) for _ in range(3)] == [True, False, False]
    assert [thinned.filter(ours) for _ in range(3)] == [True, True, True]
