"""Reading announcements in a program of your own: typed, in order, without repeats, and with gaps noticed.

    from streams.client import Erasure, tier_changes

    with tier_changes(broker="kafka:9092", group="my-app") as changes:
        for change in changes:
            if isinstance(change, Erasure):
                forget(change.customer_id)
            else:
                print(change.customer_id, change.before.tier, "->", change.after.tier, change.occurred_at)

`churn_risk`, `life_cycle` and `alerts` are the same for the other topics. An announcement is a class of models.contracts.

No repeats. A worker that delivers at least once repeats a batch after a crash. A repeated announcement has a `seq` that is not
beyond the customer's latest, and is skipped. For that, the latest `seq` of the last `remember` customers of each partition is kept
in memory. A repeat reaches back over one batch of the worker: not more customers than TIERSTREAM_MAX_BATCH, and 500 that only time
changed. After a start or a rebalance as many records before the position are read first, and only remembered.

No silent gaps. `previous_seq` is the `seq` of the customer's announcement before; if that one was never seen, `on_gap` is called
with a `Gap`. The default logs a warning and returns the announcement all the same. `on_gap=raise_gap` raises the Gap.

At least once, with a group: an announcement is done when the next one is asked for; what is done is committed every second and at
the end. After a crash the announcements since the last commit are read again. Exactly once, without a group: store
`changes.position` in the same transaction as the effects of the announcement, and pass it as `from_position` at the next start.

While the broker is away, the client waits for it. Ctrl-C ends the loop, and the announcement that is being processed is not done;
`stop()`, as from a handler of SIGTERM, ends it after that one.
"""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

import msgspec
from msgspec import Struct

from models import contracts
from models.contracts import (
    AlertChange,
    Announcement,
    BehaviourChange,
    Erasure,
    QualificationChange,
    RiskChange,
    StageChange,
    TierChange,
)
from models.names import ALERTS, CHURN_RISK, LIFE_CYCLE, TIER_CHANGES

from .connection import ClientError, connection
from .following import POLL_SECONDS, Follower, Position, Start

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Announcement)

REMEMBER: Final = 50_000
"""Customers per partition: three batches of a worker with default settings. A customer takes about 200 bytes."""


class Gap(Exception):
    """Missing announcements of a customer: those after `seen`, up to and including `previous_seq`."""

    def __init__(self, change: Announcement, seen: int, where: str) -> None:
        self.change = change
        """The announcement after the gap. It is itself complete."""
        self.customer_id = change.customer_id
        self.seen = seen
        """The customer's latest `seq` that was seen; 0 if there was none."""
        self.previous_seq = change.previous_seq
        super().__init__(
            f"{where}: of customer {self.customer_id!r} announcement {self.previous_seq} should have come before "
            f"{change.seq}, but the latest seen is {seen or 'none'}; was something deleted from the topic, or passed over?"
        )


class Unreadable(ClientError):
    """A record that breaks the contract. Asking for the next announcement skips it."""


def log_gap(gap: Gap) -> None:
    """Log a warning, and go on."""
    log.warning("%s", gap)


def raise_gap(gap: Gap) -> None:
    """Raise the gap. Asking for the next announcement goes on after `gap.change`."""
    raise gap


class _Numbered(Struct):
    """The fields of an announcement before the position, which is only remembered."""

    customer_id: str
    seq: int


_numbered: Final = msgspec.json.Decoder(_Numbered).decode


class Taken(NamedTuple):
    """Whether an announcement is new, and whether something is missing before it."""

    is_new: bool
    gap_after: int | None = None
    """The customer's latest `seq` before, if announcements after it are missing."""


NEWS: Final = Taken(True)
REPEAT: Final = Taken(False)


class Memory:
    """The latest `seq` of each customer of one partition; of the `most` customers that were announced last."""

    def __init__(self, most: int, is_whole: bool) -> None:
        self._most = most
        self._is_whole = is_whole
        """Whether it holds every customer that was ever announced."""
        self._latest: OrderedDict[str, int] = OrderedDict()

    def take(self, customer_id: str, seq: int, previous_seq: int) -> Taken:
        """Record an announcement, and say whether it is new."""
        latest = self._latest.get(customer_id, 0 if self._is_whole else None)
        if latest is not None and seq <= latest:
            self.record(customer_id, latest)
            return REPEAT
        self.record(customer_id, seq)
        return NEWS if latest is None or previous_seq <= latest else Taken(True, latest)

    def record(self, customer_id: str, seq: int) -> None:
        """Record that the customer's announcements up to this one were seen."""
        latest = self._latest
        latest[customer_id] = max(seq, latest.get(customer_id, 0))
        latest.move_to_end(customer_id)
        if len(latest) > self._most:
            latest.popitem(last=False)
            self._is_whole = False


class Changes(Generic[T]):
    """The announcements of one topic: an iterator, and a context that closes it.

    Without a group or a position it begins at the beginning of the topic, and keeps no position. Other settings are those of
    `connection.Connection`, by name (`topic_prefix`, `security_protocol` and so on) or from the environment. Raises ClientError.
    """

    def __init__(
        self,
        name: str,
        *,
        broker: str | None = None,
        group: str | None = None,
        from_position: Mapping[int, int] | Mapping[str, int] | None = None,
        partitions: Collection[int] | None = None,
        start: Start = "beginning",
        on_gap: Callable[[Gap], None] = log_gap,
        remember: int = REMEMBER,
        idle_seconds: float | None = None,
        kafka: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if group is not None and (from_position is not None or partitions is not None):
            raise ClientError(
                "a group keeps its own positions and shares partitions itself: leave out group, or both others"
            )
        self._name = name
        self._on_gap = on_gap
        self._remember = remember
        self._idle_seconds = idle_seconds
        self._memories: dict[int, Memory] = {}
        self._in_progress: tuple[int, int] | None = None
        """Of the announcement that the caller is processing: its partition, and the offset after it."""
        self._is_stopped = False
        chosen = connection(broker=broker, **settings)
        # Not a bound method, which would keep this object alive: without a close() it is closed when it is collected.
        memories = self._memories
        self._follower = Follower(
            chosen,
            name,
            group,
            from_position,
            partitions,
            start,
            remember,
            kafka,
            lambda taken, lost: _forget(memories, lost),
        )
        self._finalizer = weakref.finalize(self, self._follower.close)

    # ------------------------------------------------------------ iterating
    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        self._settle()
        waiting_since = time.monotonic()
        while not self._is_stopped and self._finalizer.alive:
            left = POLL_SECONDS
            if self._idle_seconds is not None and self._follower.has_joined:
                left = min(left, waiting_since + self._idle_seconds - time.monotonic())
                if left <= 0:
                    break
            had_joined = self._follower.has_joined
            message = self._follower.poll(left)
            if message is not None and (found := self._news(message)) is not None:
                return found
            if message is not None or not had_joined:
                waiting_since = time.monotonic()
        raise StopIteration

    def _news(self, message: Any) -> T | None:
        """The announcement in a record; None if it is not new."""
        number, offset = message.partition(), message.offset()
        span = self._follower.spans.get(number)
        if span is None:
            return None  # of a partition that another member has by now
        memory = self._memories.get(number)
        if memory is None:
            memory = self._memories[number] = Memory(self._remember, is_whole=span.read_from == 0)
        value = message.value() or b""
        if offset < span.begin:
            with contextlib.suppress(msgspec.MsgspecError):  # it was reported as unreadable when it was new
                seen = _numbered(value)
                memory.record(seen.customer_id, seen.seq)
            return None
        span.next = offset + 1
        self._in_progress = (number, offset + 1)
        where = f"{self._follower.topic}, partition {number}, offset {offset}"
        try:
            change = contracts.decode(self._name, value)
        except msgspec.MsgspecError as error:
            raise Unreadable(f"{where}: {error}; is this client older than the worker?") from None
        taken = memory.take(change.customer_id, change.seq, change.previous_seq)
        if not taken.is_new:
            self._settle()
            return None
        if taken.gap_after is not None:
            self._on_gap(Gap(change, taken.gap_after, where))
        return change  # type: ignore[no-any-return]

    def _settle(self) -> None:
        """The announcement that was being processed is done."""
        if self._in_progress is not None:
            (number, offset), self._in_progress = self._in_progress, None
            if number in self._follower.spans:
                self._follower.store(number, offset)

    # ------------------------------------------------------------ positions
    @property
    def position(self) -> Position:
        """Per partition the offset after the announcement that is being processed: store it together with its effects."""
        return {number: span.next for number, span in self._follower.spans.items()}

    # ------------------------------------------------------------ ending
    def stop(self) -> None:
        """End the loop after the announcement that is being processed. May be called from any thread, or a signal's handler."""
        self._is_stopped = True

    def close(self) -> None:
        """Commit what is done, and leave the group. The announcement that is being processed is not done."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _forget(memories: dict[int, Memory], lost: Iterable[int]) -> None:
    for number in lost:
        memories.pop(number, None)


# ---------------------------------------------------------------- the topics
def tier_changes(**options: Any) -> Changes[TierChange | Erasure]:
    """Every change of a tier, and every erasure. Options as of `Changes`."""
    return Changes(TIER_CHANGES, **options)


def churn_risk(**options: Any) -> Changes[RiskChange]:
    """Every change of a risk level. Options as of `Changes`."""
    return Changes(CHURN_RISK, **options)


def life_cycle(**options: Any) -> Changes[StageChange | BehaviourChange | QualificationChange]:
    """Every change of a stage, a behaviour, or a prospect's qualification. Options as of `Changes`."""
    return Changes(LIFE_CYCLE, **options)


def alerts(**options: Any) -> Changes[AlertChange]:
    """Every change of an alert. Options as of `Changes`."""
    return Changes(ALERTS, **options)
