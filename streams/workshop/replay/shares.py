"""Replay in several processes: each reads the whole log and folds its share of the customers.

If a log is in the order of time, customers do not affect each other, so their announcements do not depend on the number
of processes; only the order of the customers' lines in a file does. In any other log an event moves the clock of all
customers before earlier events of others are read, so such a log is refused.
"""

from __future__ import annotations

import heapq
import multiprocessing
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import orjson
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from models import units
from models.bodies import Time
from models.events import Decoder, Event, Rejected
from models.outputs import PROFILES
from models.policy import Policy
from streams.engine.merge import Record
from streams.sources.logs import Log, LogError
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.results import OUTPUT_FILES, ResultFiles, files_of
from streams.workshop.replay.run import fold_all

NOT_MINE: Final = Rejected("not_mine", "another process folds this customer")


class _CustomerAndTime(Struct):
    customer_id: str
    occurred_at: Time


_decode_customer_and_time = msgspec.json.Decoder(_CustomerAndTime).decode


class Share:
    """A decoder for one log that fully decodes only the records of its share of the customers.

    A record without a customer or a time belongs to the first share.
    """

    def __init__(self, decoder: Decoder, number: int, shares: int) -> None:
        self._decoder = decoder
        self._number = number
        self._shares = shares
        self._latest_ms = -1
        self._rejected: deque[Rejected] = deque()
        """The rejections in this share that `is_mine` has not been asked about yet, in the order of their records."""

    def decode(
        self, topic: str, value: bytes | None, key: bytes | None = None, timestamp_ms: int | None = None
    ) -> Event | Rejected:
        """As `Decoder.decode`, or NOT_MINE. Raises LogError if the log goes back in time."""
        share = 0
        try:
            partial = _decode_customer_and_time(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # the decoder rejects the record, with a reason
        else:
            at = partial.occurred_at
            self._check_order(at if isinstance(at, int) else units.ms_from_datetime(at))
            share = xxh3_64_intdigest(partial.customer_id.encode()) % self._shares
        if share != self._number:
            return NOT_MINE
        decoded = self._decoder.decode(topic, value, key, timestamp_ms)
        if isinstance(decoded, Rejected):
            self._rejected.append(decoded)
        return decoded

    def is_mine(self, record: Record) -> bool:
        """Whether a record is of this share. It has to be asked for all records, in the order of their decoding."""
        decoded = record.decoded
        if isinstance(decoded, Event):
            return True
        if decoded is NOT_MINE:
            return False
        if self._rejected and self._rejected[0] is decoded:
            self._rejected.popleft()
            return True
        return self._number == 0  # the log itself rejected it

    def _check_order(self, at_ms: int) -> None:
        if not 0 <= at_ms < units.LATEST_MS:
            return  # the decoder rejects the record
        if at_ms < self._latest_ms:
            raise LogError(
                f"the log goes back in time, from {units.format_time(self._latest_ms)} to {units.format_time(at_ms)}: "
                "several --workers need it in order; sort it, or leave --workers out"
            )
        self._latest_ms = at_ms


Agree = Callable[[int], int]
"""Takes the clock of this process, and returns the latest clock of all processes (ms)."""
T = TypeVar("T")


def run_shares(workers: int, share: Callable[[int, Agree], T]) -> list[T]:
    """Run `share(number, agree)` in so many processes; returns their results in order. Raises LogError if one does."""
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
        latest_ms = max(_receive(pipe) for pipe in pipes)
        for pipe in pipes:
            pipe.send(latest_ms)
        return [_receive(pipe) for pipe in pipes]
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
            replay, decoder = Replay(policy, with_recorded_thresholds=True), policy.decoder()
            shares = [Share(decoder, number, workers) for _ in logs]
            fold_all(replay, logs, shares, results.add, progress and number == 0, [one.is_mine for one in shares])
            latest_ms = agree(replay.partition.clock_ms)
            for batch in replay.finish(latest_ms if until_ms is None else until_ms):
                results.add(batch)
            tiers = results.write_profiles(replay.partition)
        return results.events, len(replay.partition.customers), tiers, results.counts

    with ResultFiles(policy, out, files_of(logs)) as results:
        try:
            counted = run_shares(workers, share)
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


def _receive(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except EOFError:
        raise LogError("a process of the replay ended unexpectedly; is there enough memory?") from None
    if isinstance(answer, LogError):
        raise answer
    return answer


def _lines(name: str, folders: Sequence[Path]) -> Iterator[bytes]:
    """The lines that the shares wrote: profiles in the order of customers, other outputs share by share."""
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
