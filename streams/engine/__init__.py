"""What the worker and the replay share: the order of records, plans, batches, the journal, the table.

Public: `Merge`, `Record` (merge.py), `Plan` (plan.py), `Batch` (batch.py), `Partition` (partition.py), `Table`
(table.py), `Entry` (journal.py). It knows no broker, no Redis and no settings: time and records are arguments.
"""

from models import _compiled

__path__[:0] = _compiled.find("streams.engine")
