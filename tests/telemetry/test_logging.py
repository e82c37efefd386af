"""A worker's log: during an outage it has the reason without a stack trace, and it never names a customer."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import aiokafka.producer.message_accumulator as accumulator
import pytest
from aiokafka.errors import KafkaConnectionError

from streams.engine.plan import Plan
from streams.engine.table import ChangelogError
from streams.settings import Settings, SettingsError, load_settings
from streams.telemetry import logs as worker_log
from streams.telemetry.logs import (
    JsonLines,
    _without_traces_of_outages,
    _WithoutRepeats,
    customer_hash,
    log_final_error,
    set_up_logging,
)
from streams.worker.partition import PartitionWorker
from tests.worker.doubles import folding, standalone


def logged(name: str, message: str, error: BaseException) -> logging.LogRecord:
    try:
        raise error
    except BaseException:
        return logging.LogRecord(name, logging.ERROR, "", 0, message, None, sys.exc_info())


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), ConnectionResetError("gone"), ChangelogError("gone")])
def test_an_outage_is_logged_in_one_line(error: BaseException) -> None:
    record = logged("aiokafka", "unexpected", error)
    assert _without_traces_of_outages(record)
    assert record.exc_info is None
    assert record.getMessage() == f"unexpected: {type(error).__name__}: {error}"


def test_a_programming_error_keeps_its_stack_trace() -> None:
    record = logged("streams.worker.partition", "unexpected", ZeroDivisionError())
    assert _without_traces_of_outages(record)
    assert record.exc_info is not None


def test_a_failure_of_a_given_up_producer_is_logged_in_one_line() -> None:
    broken: Any = accumulator.MessageAccumulator.__new__(accumulator.MessageAccumulator)
    broken._pending_batches = set()
    try:
        broken.reenqueue(object())
    except (KeyError, AttributeError):
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "Exception in callback", None, sys.exc_info())
    assert _without_traces_of_outages(record)
    assert record.exc_info is None


def test_repeats_of_the_clients_are_dropped_and_those_of_others_kept() -> None:
    without_repeats = _WithoutRepeats()
    complaint = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "can't connect", None, None)
    ours = logging.LogRecord("streams.view.customers", logging.WARNING, "", 0, "retrying", None, None)
    assert [without_repeats.filter(complaint) for _ in range(3)] == [True, False, False]
    assert [without_repeats.filter(ours) for _ in range(3)] == [True, True, True]


# ---------------------------------------------------------------- JSON
SetUp = Callable[..., Settings]


@pytest.fixture
def set_up() -> Iterator[SetUp]:
    """Sets up logging with these settings, as a process does at its start; the test's end restores it."""
    root, salt = logging.getLogger(), worker_log._salt
    handlers, level = root.handlers[:], root.level

    def with_settings(**values: Any) -> Settings:
        root.handlers = []
        settings = load_settings(**values)
        set_up_logging(settings)
        return settings

    yield with_settings
    root.handlers, worker_log._salt = handlers, salt
    root.setLevel(level)


def test_a_line_in_json_is_one_object_with_the_fields_of_the_record() -> None:
    record = logged("streams.worker.partition", "partition %d begins anew\nat once", ZeroDivisionError("by zero"))
    record.args, record.partition = (3,), 3
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line.pop("time").endswith("Z")
    error = line.pop("error")
    assert line == {
        "level": "ERROR", "logger": "streams.worker.partition", "message": "partition 3 begins anew\nat once", "partition": 3,
    }  # fmt: skip
    assert (error["type"], error["message"]) == ("ZeroDivisionError", "by zero")
    assert "in logged" in error["trace"]


def test_values_that_json_can_not_hold_are_written_as_text() -> None:
    record = logging.makeLogRecord(
        {"name": "mode", "levelname": "INFO", "msg": "x", "service": object(), "by": {1: b"y"}}
    )
    assert json.loads(JsonLines().format(record))["by"] == {"1": "b'y'"}


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_setting_chooses_the_form_of_all_lines_and_of_the_final_error(
    form: str, set_up: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = set_up(log_format=form)
    logging.getLogger("streams.worker.app").warning("one %s", "two")
    log_final_error(settings, "stopped by 100 %")
    first, last = capsys.readouterr().err.splitlines()
    if form == "json":
        assert json.loads(first)["message"] == "one two"
        assert json.loads(last)["message"] == "stopped by 100 %"
    else:
        assert first.endswith("WARNING streams.worker.app: one two")
        assert last == "tierstream: stopped by 100 %"


# ---------------------------------------------------------------- customers
def test_a_customer_is_logged_as_a_hash_that_only_the_salt_can_repeat(set_up: SetUp) -> None:
    of_this_process = customer_hash("ada")
    assert of_this_process == customer_hash(b"ada") != customer_hash("bob")
    set_up(log_salt="a secret of ours")
    salted = customer_hash("ada")
    assert salted == blake2b(b"ada", digest_size=8, key=b"a secret of ours").hexdigest() != of_this_process
    set_up(log_salt="another secret")
    assert customer_hash("ada") != salted


def test_a_salt_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(SettingsError, match="TIERSTREAM_LOG_SALT"):
        load_settings(log_salt="short")


def test_the_error_of_a_failed_fold_has_the_place_but_not_the_customer() -> None:
    flow = folding(PartitionWorker(standalone(), 0)).flow
    assert flow is not None
    with pytest.raises(AssertionError) as failed:
        asyncio.run(flow._fold(Plan(5, [b"ada-lovelace"], [], []), None))
    assert failed.value.__notes__ == [f"customer {customer_hash('ada-lovelace')}"]
    assert "ada-lovelace" not in str(failed.value)
