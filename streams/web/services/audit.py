"""The audit trail: who signed in, saw which customer, and did what; a record each on the topic `audit`, keyed by person."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any, Final, Literal

import orjson
from confluent_kafka import KafkaError, KafkaException

from models import units
from streams.topics import AUDIT
from streams.web.services.outbox import Outbox

log = logging.getLogger(__name__)

What = Literal[
    "signed_in", "sign_in_refused", "signed_out", "customer_seen", "claimed", "acted", "act_failed", "refused"
]
PATIENCE_MS: Final = 300_000
"""How long an entry waits for the broker; then it goes to the log, where what is lost to Kafka can be found."""


class Audit:
    """Tells Kafka without waiting. Looking goes on while the broker is away: entries wait, up to a limit, then they are logged."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def tell(self, user: str, what: What, address: str, role: str | None = None, **more: Any) -> None:
        """One entry; `more` are its further fields."""
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

        def told(error: KafkaError | None) -> None:
            if error is not None:
                log.error("not in the audit topic (%s): %s", error.str(), value.decode())

        try:
            self._outbox.post(AUDIT, user, value, told)
        except (BufferError, KafkaException) as error:
            log.error("not in the audit topic (%s): %s", error, value.decode())
