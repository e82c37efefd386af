"""Print tier changes as they are announced, until Ctrl-C. Usage: follow_tier_changes.py HOST:PORT"""

import contextlib
import sys

from streams.client import Erasure, tier_changes

with tier_changes(broker=sys.argv[1], group="my-first-consumer") as changes, contextlib.suppress(KeyboardInterrupt):
    for change in changes:
        if isinstance(change, Erasure):
            print(change.occurred_at, change.customer_id, "is to be forgotten", flush=True)
        else:
            print(change.occurred_at, change.customer_id, change.before.tier, "->", change.after.tier, flush=True)
