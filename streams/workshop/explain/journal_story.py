"""One customer's story by the journal: in the batches and in the order in which the worker folded the events.

Which events were late, and which were first in a batch, was decided at run time, and only the journal has it. An entry
of the journal lists all customers that were due, so all customers of the partition are folded; only the moments of one
are recorded.
"""

from __future__ import annotations

from itertools import takewhile

from models.policy import Policy
from streams.sources.kafka_log import KafkaLog
from streams.sources.progress import progress_over
from streams.topics import FOLDED, JOURNAL
from streams.workshop.explain.story import ExplainError, Story, StoryReplay
from streams.workshop.explain.table_story import likely_first
from streams.workshop.replay.run import replay_partition


def story_from_journal(customer_id: str, log: KafkaLog, policy: Policy, at_ms: int | None, progress: bool) -> Story:
    """A customer's story up to the end of the journal; or by the batches that were folded up to an instant, and the
    effects of time until then. Raises LogError, JournalError or ExplainError.
    """
    others = 0
    with progress_over([log], progress, "reading") as reading:
        log.begin((*FOLDED, JOURNAL))
        for number in likely_first(customer_id, log.partitions(JOURNAL), log.partitioner):
            entries = log.entries(number)
            if at_ms is not None:
                entries = takewhile(lambda entry: entry.until_ms <= at_ms, entries)
            replay = StoryReplay(policy, customer_id, True, at_ms)
            replay_partition(log, number, policy, reading.on_bytes, lambda batch: None, entries, replay)
            if customer_id.encode() in replay.partition.customers:
                until_ms = replay.partition.clock_ms if at_ms is None else at_ms
                for _ in replay.finish(until_ms):
                    pass
                return replay.story(until_ms)
            others += len(replay.partition.customers)
    raise ExplainError(f"the journal of {log.name} has no customer {customer_id!r}; it has {others:,} others")
