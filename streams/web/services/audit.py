"""The audit trail: who signed in, saw which customer and did what. Each entry is a record on the topic `audit`, keyed
by person.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any, Final, Literal

import orjson
from confluent_kafka import KafkaError, KafkaException

from models import units
from streams.topics import AUDIT
from streams.web.services.record_sender import RecordSender

log = logging.getLogger(__name__)

What = Literal[
    "signed_in", "sign_in_refused", "signed_out", "customer_seen", "claimed", "acted", "act_failed", "refused"
]
PATIENCE_MS: Final = 300_000
"""How long an entry waits for the broker before it is written to the log instead."""


class Audit:
    """Sends entries to Kafka without waiting. While the broker is unreachable, entries wait, up to a limit; others are
    logged.
    """

    def __init__(self, sender: RecordSender) -> None:
        self._sender = sender

    def record(self, user: str, what: What, address: str, role: str | None = None, **more: Any) -> None:
        """Send an entry; `more` are its further fields."""
        body = {
            "event_id": str(uuid.uuid4()),
            "at": units.format_time(time.time_ns() // 1_000_000),
            "user": user,
            "role": role,
            "what": what,
            "address": address,
            **more,
        }
        value = orjson.dumps(body)

        def report(error: KafkaError | None) -> None:
            if error is not None:
                log.error("not in the audit topic (%s): %s", error.str(), value.decode())

        try:
            self._sender.post(AUDIT, user, value, report)
        except (BufferError, KafkaException) as error:
            log.error("not in the audit topic (%s): %s", error, value.decode())
