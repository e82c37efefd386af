"""Follows one topic with librdkafka: which partitions, from which offset, and what to do when the broker fails.

With a group, Kafka shares the partitions among its members and stores their positions: those of `Follower.store` are committed
every second, on a rebalance and at the end. Without one, all partitions (or those that are named) are read from the caller's position.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Literal

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from .connection import ClientError, Connection, quiet

log = logging.getLogger(__name__)

Position = dict[int, int]
"""Per partition, the next offset to read."""
Start = Literal["beginning", "end"]

PATIENCE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.5
COMMIT_MS: Final = 1_000
NO_GROUP: Final = "tierstream-client"
"""The group id of a follower without a group: librdkafka wants one. Nothing is committed under it."""
REFUSALS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "give this user the right to read the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "give this user the right to read in the group",
    KafkaError._AUTHENTICATION: "look at TIERSTREAM_SASL_USERNAME and TIERSTREAM_SASL_PASSWORD",
    KafkaError._SSL: "look at TIERSTREAM_SECURITY_PROTOCOL and TIERSTREAM_TLS_CA_FILE",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "the topic is gone; was it deleted?",
    KafkaError._AUTO_OFFSET_RESET: "records were deleted before they were read; decide where to go on, by a position or a new group",
}
"""Errors that do not pass by themselves, and what to do about each. After any other the client tries again."""


class Span:
    """A partition that is being read."""

    def __init__(self, begin: int, read_from: int) -> None:
        self.begin = begin
        """The first offset whose record is given to the caller; records before it only say which `seq` came last."""
        self.read_from = read_from
        self.next = begin
        """The position: everything before it is done, or being processed by the caller."""


class Follower:
    """A consumer of one topic."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        group: str | None,
        position: Mapping[int, int] | Mapping[str, int] | None = None,
        partitions: Collection[int] | None = None,
        start: Start = "beginning",
        look_back: int = 0,
        options: Mapping[str, Any] | None = None,
        on_change: Callable[[Iterable[int], Iterable[int]], None] = lambda taken, lost: None,
    ) -> None:
        self.topic = connection.topic(name)
        self.spans: dict[int, Span] = {}
        self.has_joined = group is None
        """Whether the partitions are assigned."""
        self._broker = connection.broker
        self._group = group
        # As JSON keeps it, numbers are text.
        self._position: Position = {int(number): offset for number, offset in (position or {}).items()}
        self._start = start
        self._look_back = look_back
        self._on_change = on_change
        self._begun: set[int] = set()
        """Partitions for which the group has no position yet."""
        self._failed: ClientError | None = None
        self._is_away = False
        self._consumer = Consumer(
            connection.options()
            | {
                "group.id": group or NO_GROUP,
                "isolation.level": "read_committed",
                "enable.auto.commit": group is not None,
                "auto.commit.interval.ms": COMMIT_MS,
                # Only what is done is stored, and only what is stored is committed.
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "partition.assignment.strategy": "cooperative-sticky",
                "error_cb": self._on_error,
            }
            | dict(options or {}),
            logger=quiet,
        )
        try:
            numbers = self._partitions()
            if group is None:
                self._assign(sorted(numbers if partitions is None else set(partitions) & numbers))
            else:
                self._consumer.subscribe([self.topic], self._taken, self._lost, self._lost)
        except BaseException:
            self._consumer.close()
            raise

    # ------------------------------------------------------------ whose partitions, from where
    def _partitions(self) -> set[int]:
        try:
            found = self._consumer.list_topics(self.topic, timeout=PATIENCE_SECONDS).topics[self.topic]
        except KafkaException as error:
            self._raise_failure()
            raise ClientError(
                f"no Kafka answers at {self._broker} ({error.args[0].str()}); is the address right?"
            ) from None
        if found.error is not None:
            raise ClientError(
                f"there is no topic {self.topic} at {self._broker} ({found.error.str()}); "
                "set TIERSTREAM_TOPIC_PREFIX or TIERSTREAM_APP_VERSION if it has another name"
            )
        return set(found.partitions)

    def _taken(self, _: Consumer, tps: list[TopicPartition]) -> None:
        try:
            self._assign([tp.partition for tp in tps])
            self.has_joined = True
        except BaseException as error:
            # librdkafka goes on from offsets that are not ours: nothing of that may reach the caller.
            what = "was interrupted while it took partitions; start again"
            self._failed = error if isinstance(error, ClientError) else ClientError(f"{self.topic}: {what}")
            raise

    def _lost(self, _: Consumer, tps: list[TopicPartition]) -> None:
        numbers = [tp.partition for tp in tps]
        for number in numbers:
            self.spans.pop(number, None)
        self._on_change((), numbers)

    def _assign(self, numbers: list[int]) -> None:
        """Start to read partitions, each from its position."""
        position = self._position if self._group is None else self._committed(numbers)
        for number in numbers:
            self.spans[number] = self._span(number, position.get(number))
        self._on_change(numbers, ())
        assigned = [TopicPartition(self.topic, number, self.spans[number].read_from) for number in numbers]
        if self._group is None:
            self._consumer.assign(assigned)
            return
        self._consumer.incremental_assign(assigned)
        self._begun |= {number for number in numbers if number not in position}

    def _committed(self, numbers: list[int]) -> Position:
        asked = [TopicPartition(self.topic, number) for number in numbers]
        found = self._patiently(lambda: self._consumer.committed(asked, timeout=PATIENCE_SECONDS))
        return {tp.partition: tp.offset for tp in found if tp.offset >= 0}

    def _span(self, number: int, begin: int | None) -> Span:
        tp = TopicPartition(self.topic, number)
        first, end = self._patiently(lambda: self._consumer.get_watermark_offsets(tp, timeout=PATIENCE_SECONDS))
        if begin is None:
            begin = first if self._start == "beginning" else end
        if not first <= begin <= end:
            reason = "records were deleted before they were read" if begin < first else "the topic was made anew"
            raise ClientError(
                f"{self.topic}, partition {number} is to be read from offset {begin}, but has {first} to {end}: {reason}; "
                "decide where to go on, by a position or a new group"
            )
        return Span(begin, max(first, begin - self._look_back))

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask the broker until it answers. Raises ClientError if it refuses."""
        while True:
            try:
                return ask()
            except KafkaException as failed:
                error = failed.args[0]
                if error.code() in REFUSALS or error.fatal():
                    raise self._refusal(error) from None
                self._raise_failure()
                log.warning("%s at %s: %s; trying again", self.topic, self._broker, error.str())
                time.sleep(POLL_SECONDS)

    # ------------------------------------------------------------ reading
    def poll(self, seconds: float) -> Any | None:
        """The next record; None if none arrived in this time. Raises ClientError for what does not pass by itself.

        When it is called, everything before `next` of each span has to be done.
        """
        self._raise_failure()
        if self._begun:
            self._commit_beginnings()
        message = self._consumer.poll(seconds)
        self._raise_failure()
        if message is None:
            return None
        error = message.error()
        if error is None:
            if self._is_away:
                self._is_away = False
                log.info("%s at %s is there again", self.topic, self._broker)
            return message
        if error.code() in REFUSALS or error.fatal():
            raise self._refusal(error)
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            log.warning("%s: the last item took so long that others got our partitions; they read it again", self.topic)
        else:
            log.warning("%s at %s: %s; trying again", self.topic, self._broker, error.str())
        return None

    def _commit_beginnings(self) -> None:
        """Commit where the group began: a group that starts at the end, and stops before the first record, goes on from there."""
        self._begun &= set(self.spans)
        begun = [TopicPartition(self.topic, number, self.spans[number].next) for number in self._begun]
        if begun:
            try:
                self._consumer.commit(offsets=begun, asynchronous=False)
            except KafkaException as failed:
                log.debug("%s: %s; trying again", self.topic, failed.args[0].str())
                return
        self._begun.clear()

    def store(self, number: int, offset: int) -> None:
        """Everything before this offset is done."""
        if self._group is None:
            return
        try:
            self._consumer.store_offsets(offsets=[TopicPartition(self.topic, number, offset)])
        except KafkaException as failed:
            # Another member has the partition by now, and reads the item again.
            if failed.args[0].code() != KafkaError._STATE:
                raise

    def close(self) -> None:
        """Commit what is done and leave the group."""
        self._consumer.close()

    # ------------------------------------------------------------ trouble
    def _on_error(self, error: KafkaError) -> None:
        """What librdkafka reports besides records, while it is polled."""
        if error.code() in REFUSALS or error.fatal():
            self._failed = self._refusal(error)
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and not self._is_away:
            self._is_away = True
            log.warning("no Kafka answers at %s; waiting for it", self._broker)

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _refusal(self, error: confluent_kafka.KafkaError) -> ClientError:
        what = REFUSALS.get(error.code(), "start again")
        return ClientError(f"{self.topic} at {self._broker}: {error.str()}; {what}")
