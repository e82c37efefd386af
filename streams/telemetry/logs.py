"""Logging on standard error: text for people, or JSON for machines, one object a line.

No log line names a customer. Where a line is about one customer, it has a keyed hash of the id (`customer_hash`), which
means nothing to readers without the key: ids are often short and could be guessed from a plain hash.
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
import traceback
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from streams.settings import Settings
from streams.terminal import warn

SECONDS_BETWEEN_REPEATS: Final = 10.0
TEXT_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HASH_BYTES: Final = 8
_OF_EVERY_RECORD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

_salt = secrets.token_bytes(16)
"""The key of `customer_hash`: random for each process, unless TIERSTREAM_LOG_SALT sets one for all."""

log = logging.getLogger("tierstream")


def set_up_logging(settings: Settings) -> None:
    """Send everything that is logged to standard error, in the form and from the level of the settings."""
    global _salt  # noqa: PLW0603
    if settings.log_salt is not None:
        _salt = settings.log_salt.get_secret_value().encode()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else logging.Formatter(TEXT_FORMAT))
    level = settings.log_level
    logging.basicConfig(level=level, handlers=[handler])
    for chatty in ("aiokafka", "kafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # It retries what it warns about: a transaction that begins right after another has to wait for a moment, every time.
    logging.getLogger("aiokafka.producer.sender").setLevel(logging.ERROR)
    if level != "DEBUG":
        handler.addFilter(_without_traces_of_outages)
        handler.addFilter(_WithoutRepeats())


def log_final_error(settings: Settings, text: str) -> None:
    """Log why the process ends: as a log record in JSON, else as plain text."""
    if settings.log_format == "json":
        log.critical(text)
    else:
        warn(f"tierstream: {text}")


def customer_hash(customer_id: str | bytes | None) -> str:
    """The keyed hash that stands for a customer in the log: 16 hexadecimal digits; `none` for None."""
    if customer_id is None:
        return "none"
    plain = customer_id if isinstance(customer_id, bytes) else customer_id.encode()
    return blake2b(plain, digest_size=HASH_BYTES, key=_salt[: blake2b.MAX_KEY_SIZE]).hexdigest()


class JsonLines(logging.Formatter):
    """Formats a log record as a JSON object: time, level, logger, message, the fields of `extra`, and the error if it
    has one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            trace = "".join(traceback.format_exception(error))
            line["error"] = {"type": type(error).__name__, "message": str(error), "trace": trace}
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _WithoutRepeats(logging.Filter):
    """Drops repeated messages of the clients during an outage, which they log several times every 100 ms."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the same message was not logged a moment ago."""
        if not record.name.startswith(("aiokafka", "kafka", "mode")):
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._logged_at.get(key, -SECONDS_BETWEEN_REPEATS) < SECONDS_BETWEEN_REPEATS:
            return False
        self._logged_at[key] = now
        return True


def _is_of_aiokafka(error: BaseException) -> bool:
    """Whether the broker's client raised an error; checked by name, since not every process has that client."""
    return any(kind.__module__ == "aiokafka.errors" for kind in type(error).__mro__)


def _without_traces_of_outages(record: logging.LogRecord) -> bool:
    """Remove the stack trace of an error of an outage, which helps nobody; the text of the error stays."""
    if record.exc_info:
        error = record.exc_info[1]
        is_ours = type(error).__module__.startswith("streams.")
        # A producer that was given up during an outage may still fail, and asyncio logs that.
        steps = traceback.extract_tb(record.exc_info[2])
        is_of_given_up_producer = record.name == "asyncio" and bool(steps) and "aiokafka" in steps[-1].filename
        if (
            error is None
            or is_ours
            or is_of_given_up_producer
            or isinstance(error, OSError | TimeoutError)
            or _is_of_aiokafka(error)
        ):
            message = record.getMessage()
            record.msg = (
                message if error is None or str(error) in message else f"{message}: {type(error).__name__}: {error}"
            )
            record.args, record.exc_info, record.exc_text = (), None, None
    return True
