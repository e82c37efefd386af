"""One customer's story as the worker folded it: by the journal, in its very batches and order, whatever the order that times would give.

What is late, and what a batch met first, was decided at run time, of which only the journal knows. Who else was due in a batch is
part of what it says, so all customers of the partition are folded; noted are the moments of one.
"""

from __future__ import annotations

from itertools import takewhile

from models.policy import Policy
from streams.sources.kafka_log import KafkaLog
from streams.sources.progress import progress_over
from streams.topics import INPUTS, JOURNAL
from streams.workshop.explain.story import ExplainError, Story, StoryReplay
from streams.workshop.explain.table_story import likely_first
from streams.workshop.replay.run import replay_partition


def story_from_journal(customer_id: str, log: KafkaLog, policy: Policy, at_ms: int | None, progress: bool) -> Story:
    """A customer's story to where the journal ends; or by the batches that were folded up to an instant, and what time did until
    then. Raises LogError, JournalError or ExplainError.
    """
    others = 0
    with progress_over([log], progress, "reading") as reading:
        log.begin((*INPUTS, JOURNAL))
        for number in likely_first(customer_id, log.partitions(JOURNAL)):
            entries = log.entries(number)
            if at_ms is not None:
                entries = takewhile(lambda entry: entry.until_ms <= at_ms, entries)
            watched = StoryReplay(policy, customer_id, True, at_ms)
            replay_partition(log, number, policy, reading.on_bytes, lambda batch: None, entries, watched)
            if customer_id.encode() in watched.partition.customers:
                until_ms = watched.partition.clock_ms if at_ms is None else at_ms
                for _ in watched.finish(until_ms):
                    pass
                return watched.story(until_ms)
            others += len(watched.partition.customers)
    raise ExplainError(f"the journal of {log.name} has no customer {customer_id!r}; it has {others:,} others")
