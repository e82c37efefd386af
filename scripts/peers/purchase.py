"""A purchase decoded and validated as `models/events.py` does it, for the bare loops."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

Id = Annotated[str, Meta(min_length=1, max_length=128)]


class Purchase(Struct, gc=False, kw_only=True):
    """One purchase or refund. `amount` is not decoded, as in `models/events.py`."""

    event_id: Id
    customer_id: Id
    kind: Literal["purchase", "refund"]
    order_id: Id
    amount: Raw
    currency: str
    occurred_at: Annotated[int, Meta(ge=0, lt=4_102_444_800_000)] | Annotated[datetime, Meta(tz=True)]


decode = msgspec.json.Decoder(Purchase).decode
