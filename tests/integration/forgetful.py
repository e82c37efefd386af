"""A worker whose broker forgets how a transaction ended: it stops before it writes the end into the partitions
(KAFKA-20734).

    FORGET_AFTER=state:3   the broker forgets everything from the third batch on; in that batch the worker dies right
                           after this point of Delivery
    FORGET_ONLY=3          the broker forgets only what the third batch writes into the changelog; the worker dies in
                           the fourth batch, after it has written the changelog

The partitions are never reported to the transaction's coordinator, so it ends nothing there. The broker accepts such
writes only with transaction.partition.verification.enable=false.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

from aiokafka.producer.transaction_manager import TransactionManager

import models
from streams.settings import load_settings
from streams.worker.delivery import BATCH_TOPICS, Delivery
from streams.worker.run import run_worker

END_SECONDS = 2.0


def forget(order: str) -> None:
    """Have the broker forget everything from a batch on, and die in that batch; `order` is "point:batch"."""
    point, _, number = order.partition(":")
    left = int(number)
    begin, complete = Delivery._begin, getattr(Delivery, f"append_{point}")

    def add_silently(self: TransactionManager, tp: Any) -> None:
        self._txn_partitions.add(tp)

    async def begin_and_count(self: Delivery, topics: Iterable[str]) -> None:
        nonlocal left
        left -= topics == BATCH_TOPICS
        if left == 0:
            # The end of the previous transaction, after which this one may begin, is forgotten as well.
            await asyncio.sleep(END_SECONDS)
            TransactionManager.maybe_add_partition_to_txn = add_silently
        await begin(self, topics)

    async def complete_and_die(self: Delivery, *args: Any) -> None:
        await complete(self, *args)
        if left <= 0:
            await asyncio.gather(*self._sent, self._journal_sent)
            os.kill(os.getpid(), signal.SIGKILL)

    Delivery._begin = begin_and_count  # type: ignore[method-assign]
    setattr(Delivery, f"append_{point}", complete_and_die)


def forget_only(forgotten: int) -> None:
    """Have the broker forget what one batch writes to the changelog, and die in the next batch."""
    number, forgets = 0, False
    begin, append, add = Delivery._begin, Delivery.append_state, TransactionManager.maybe_add_partition_to_txn

    def add_perhaps_silently(self: TransactionManager, tp: Any) -> None:
        if forgets and tp.topic.endswith("changelog"):
            self._txn_partitions.add(tp)
        else:
            add(self, tp)

    async def begin_and_count(self: Delivery, topics: Iterable[str]) -> None:
        nonlocal number, forgets
        number += topics == BATCH_TOPICS
        forgets = topics == BATCH_TOPICS and number == forgotten
        await begin(self, topics)

    async def append_and_die(self: Delivery, *args: Any) -> None:
        await append(self, *args)
        if number > forgotten:
            await asyncio.gather(*self._sent, self._journal_sent)
            os.kill(os.getpid(), signal.SIGKILL)

    TransactionManager.maybe_add_partition_to_txn = add_perhaps_silently
    Delivery._begin = begin_and_count  # type: ignore[method-assign]
    Delivery.append_state = append_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    if "FORGET_AFTER" in os.environ:
        forget(os.environ["FORGET_AFTER"])
    else:
        forget_only(int(os.environ["FORGET_ONLY"]))
    settings = load_settings()
    sys.exit(run_worker(settings, models.load(settings.policy)))
