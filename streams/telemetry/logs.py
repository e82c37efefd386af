"""What a worker says on standard error: as text for people, or as JSON, one object a line, for machines.

No line names a customer. Where one has to be told apart, it is by a keyed hash of the id (`told_customer`), which says nothing to
who does not know the key: ids are often short and could be guessed from a plain hash.
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

SECONDS_BETWEEN_COMPLAINTS: Final = 10.0
TEXT_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HASH_BYTES: Final = 8
_OF_EVERY_RECORD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

_salt = secrets.token_bytes(16)
"""Of this process, unless TIERSTREAM_LOG_SALT gives one for all."""

log = logging.getLogger("tierstream")


def set_up_logging(settings: Settings) -> None:
    """Have everything that is logged go to standard error, as the settings say."""
    global _salt  # noqa: PLW0603
    if settings.log_salt is not None:
        _salt = settings.log_salt.get_secret_value().encode()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else logging.Formatter(TEXT_FORMAT))
    level = settings.log_level
    logging.basicConfig(level=level, handlers=[handler])
    for chatty in ("aiokafka", "kafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # What it warns of it tries again: a transaction begun right after another has to wait for a moment, every time.
    logging.getLogger("aiokafka.producer.sender").setLevel(logging.ERROR)
    if level != "DEBUG":
        handler.addFilter(_without_traces_of_outages)
        handler.addFilter(_Thinned())


def last_words(settings: Settings, text: str) -> None:
    """Why the worker ends: a line of the log where machines read it, else plain."""
    if settings.log_format == "json":
        log.critical(text)
    else:
        warn(f"tierstream: {text}")


def told_customer(customer_id: str | bytes | None) -> str:
    """What stands for a customer in the log: 16 hexadecimal digits, the same for one customer under one salt."""
    if customer_id is None:
        return "none"
    told = customer_id if isinstance(customer_id, bytes) else customer_id.encode()
    return blake2b(told, digest_size=HASH_BYTES, key=_salt[: blake2b.MAX_KEY_SIZE]).hexdigest()


class JsonLines(logging.Formatter):
    """A log record as a JSON object: time, level, logger, message, what `extra` gave, and the error if there is one."""

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


class _Thinned(logging.Filter):
    """Lets what the clients say of an outage pass once in a while, not several times every 100 ms."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this is not what was said a moment ago."""
        if not record.name.startswith(("aiokafka", "kafka", "mode")):
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._said_at.get(key, -SECONDS_BETWEEN_COMPLAINTS) < SECONDS_BETWEEN_COMPLAINTS:
            return False
        self._said_at[key] = now
        return True


def _is_of_aiokafka(error: BaseException) -> bool:
    """Whether the broker's client raised it; told by its name, for not every process that logs has that client."""
    return any(kind.__module__ == "aiokafka.errors" for kind in type(error).__mro__)


def _without_traces_of_outages(record: logging.LogRecord) -> bool:
    """Where a library was when the broker went away helps nobody: the error's own words stay, the stack trace goes."""
    if record.exc_info:
        error = record.exc_info[1]
        in_our_words = type(error).__module__.startswith("streams.")
        # A producer that was given up in the middle of an outage may still stumble, with nobody there to hear of it.
        steps = traceback.extract_tb(record.exc_info[2])
        of_given_up = record.name == "asyncio" and bool(steps) and "aiokafka" in steps[-1].filename
        if (
            error is None
            or in_our_words
            or of_given_up
            or isinstance(error, OSError | TimeoutError)
            or _is_of_aiokafka(error)
        ):
            said = record.getMessage()
            record.msg = said if error is None or str(error) in said else f"{said}: {type(error).__name__}: {error}"
            record.args, record.exc_info, record.exc_text = (), None, None
    return True
