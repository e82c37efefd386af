"""Replay in several processes: each reads the whole log and folds its share of the customers.

In a log in the order of time customers have nothing to do with one another, so their announcements are the same however many
processes there are; only which customer's line comes before which other's in a file depends on their number. In another log
an event moves the clock of all customers before the earlier events of others come, so it is refused.
"""

from __future__ import annotations

import heapq
import multiprocessing
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from xxhash import xxh3_64_intdigest

from models import units
from models.events import Decoder, Event, Rejected
from models.outputs import PROFILES
from models.policy import Policy
from streams.merge import Record
from streams.sources.logs import Log, LogError
from streams.workshop.replay import Replay, fold_all
from streams.workshop.results import OUTPUT_FILES, ResultFiles, files_of

NOT_MINE: Final = Rejected("not_mine", "another process folds this customer")
_CUSTOMER: Final = b'"customer_id"'
_TIME: Final = b'"occurred_at"'
_PLAIN_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z")


class Share:
    """A decoder for one log that only looks closely at the records of its share of the customers.

    A record whose customer or time can't be told at a glance is decoded by all, and one that is no event belongs to the first.
    """

    def __init__(self, decoder: Decoder, number: int, shares: int) -> None:
        self._decoder = decoder
        self._number = number
        self._shares = shares
        self._decided: Event | Rejected | None = None
        self._latest = b""

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """As `Decoder.decode`, or NOT_MINE. Raises LogError if the log goes back in time."""
        glanced = _at_a_glance(value)
        if glanced is not None:
            customer, time = glanced
            self._check_order(time)
            if self._share_of(customer) != self._number:
                return NOT_MINE
        decoded = self._decided = self._decoder.decode(topic, value, key, timestamp_ms)
        if glanced is None:
            if isinstance(decoded, Event):
                self._check_order(units.format_time(decoded.occurred_at_ms)[:-1].encode())
            share = self._share_of(decoded.key) if isinstance(decoded, Event) else 0
            if share != self._number:
                return NOT_MINE
        return decoded

    def is_mine(self, record: Record) -> bool:
        """Whether a record, just decoded, is of the share."""
        if record.decoded is NOT_MINE:
            return False
        # What the log itself rejected never came here.
        return record.decoded is self._decided or self._number == 0

    def _check_order(self, time: bytes) -> None:
        """Times in RFC 3339 without their Z are in the order of their characters."""
        if time < self._latest:
            raise LogError(
                f"the log goes back in time, from {self._latest.decode()}Z to {time.decode()}Z: several --workers need it in order; "
                "sort it, or leave --workers out"
            )
        self._latest = time

    def _share_of(self, customer: bytes) -> int:
        return xxh3_64_intdigest(customer) % self._shares


def _at_a_glance(value: bytes | None) -> tuple[bytes, bytes] | None:
    """The customer's id and the time without its Z of a record, if both are written once and plainly."""
    if value is None or b"\\" in value:
        return None
    customer, time = _text_of(_CUSTOMER, value), _text_of(_TIME, value)
    return (customer, time[:-1]) if customer is not None and time is not None and _PLAIN_TIME.fullmatch(time) else None


def _text_of(name: bytes, value: bytes) -> bytes | None:
    if value.count(name) != 1:
        return None
    before, _, rest = value.partition(name)[2].partition(b'"')
    text, quote, _ = rest.partition(b'"')
    return text if quote and before.strip() == b":" else None


Agree = Callable[[int], int]
"""Given how far this process's clock has come, how far the furthest has."""
T = TypeVar("T")


def in_shares(workers: int, share: Callable[[int, Agree], T]) -> list[T]:
    """What `share(number, agree)` gives in each of so many processes, in their order. Raises LogError if one does."""
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    try:
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_one_share, args=(theirs, number, share), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        latest_ms = max(_heard(pipe) for pipe in pipes)
        for pipe in pipes:
            pipe.send(latest_ms)
        return [_heard(pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.terminate()


def _one_share(pipe: Connection, number: int, share: Callable[[int, Agree], T]) -> None:
    def agree(clock_ms: int) -> int:
        pipe.send(clock_ms)
        latest_ms: int = pipe.recv()
        return latest_ms

    try:
        pipe.send(share(number, agree))
    except LogError as error:
        pipe.send(error)
    except (KeyboardInterrupt, EOFError):
        return


def replay_in_shares(
    logs: Sequence[Log], policy: Policy, out: Path, until_ms: int | None, progress: bool, workers: int
) -> dict[str, Any]:
    """`replay_logs` in so many processes. Raises LogError."""
    folders = [out / f".share-{number}" for number in range(workers)]

    def share(number: int, agree: Agree) -> tuple[int, int, Counter[str], Counter[str]]:
        with ResultFiles(policy, folders[number], files_of(logs)) as results:
            replay, decoder = Replay(policy, with_recorded_lines=True), policy.decoder()
            shares = [Share(decoder, number, workers) for _ in logs]
            fold_all(replay, logs, shares, results.add, progress and number == 0, [one.is_mine for one in shares])
            latest_ms = agree(replay.clock_ms)
            for batch in replay.finish(latest_ms if until_ms is None else until_ms):
                results.add(batch)
            tiers = results.write_profiles(replay)
        return results.events, len(replay.customers), tiers, results.counts

    with ResultFiles(policy, out, files_of(logs)) as results:
        try:
            counted = in_shares(workers, share)
            for name in OUTPUT_FILES:
                results.copy(name, _lines(name, folders))
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        events, customers, tiers, counts = 0, 0, Counter[str](), Counter[str]()
        for its_events, its_customers, its_tiers, its_counts in counted:
            events, customers = events + its_events, customers + its_customers
            tiers.update(its_tiers)
            counts.update(its_counts)
        return results.summary(events, customers, tiers, counts)


def _heard(pipe: Connection) -> Any:
    try:
        said = pipe.recv()
    except EOFError:
        raise LogError("a process of the replay ended before its time; is there enough memory?") from None
    if isinstance(said, LogError):
        raise said
    return said


def _lines(name: str, folders: Sequence[Path]) -> Iterator[bytes]:
    """The lines that the shares wrote: profiles by customer, others share by share."""
    files = [(folder / f"{name}.jsonl").open("rb") for folder in folders]
    try:
        if name == PROFILES:
            yield from heapq.merge(*files, key=_customer_of_profile)
        else:
            for file in files:
                yield from file
    finally:
        for file in files:
            file.close()


def _customer_of_profile(line: bytes) -> bytes:
    customer: str = orjson.loads(line)["customer_id"]
    return customer.encode()
