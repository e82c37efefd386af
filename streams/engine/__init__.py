"""What the worker and the replay share: the order of records, batches, the journal, the table. It knows no broker."""

from models import _compiled

__path__[:0] = _compiled.find("streams.engine")
