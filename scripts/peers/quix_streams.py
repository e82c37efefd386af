"""The simplified fold on Quix Streams: a dataframe with a stateful function, RocksDB, and a changelog topic."""

import tempfile
from pathlib import Path
from typing import Any

from command_line import parser, state_option
from fold import book, new_customer
from quixstreams import Application, State


def update_tier(purchase: dict[str, Any], state: State) -> list[dict[str, Any]]:
    """Book a purchase on its customer; returns the tier change in a list, which is empty if the tier stays."""
    customer = state.get("customer") or new_customer()
    change = book(
        customer,
        purchase["customer_id"],
        purchase["event_id"],
        purchase["kind"],
        purchase["amount"],
        purchase["occurred_at"],
    )
    state.set("customer", customer)
    return [] if change is None else [change]


def create_app(broker: str, source: str, name: str, state_dir: Path) -> Application:
    """The application. JSON is decoded and state is encoded with orjson, the default of Quix Streams."""
    app = Application(
        broker_address=broker,
        consumer_group=name,
        auto_offset_reset="earliest",
        # A checkpoint a second: changelog, flush, offsets, RocksDB. `commit_every` stays off: it would add more.
        commit_interval=1.0,
        state_dir=state_dir,
        producer_extra_config={"acks": "all", "linger.ms": 50, "batch.size": 200_000, "compression.type": "lz4"},
        loglevel="WARNING",
    )
    purchases = app.topic(source, key_deserializer="bytes", value_deserializer="json")
    tier_changes = app.topic(f"{name}-tier-changes", key_serializer="bytes", value_serializer="json")
    app.dataframe(purchases).apply(update_tier, stateful=True, expand=True).to_topic(tier_changes)
    return app


def main() -> None:
    arguments = parser(__doc__, "quix_streams.py")
    state_option(arguments)
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="peer-quix-") as folder:
        create_app(args.broker, args.source, args.name, args.state_dir or Path(folder)).run()


if __name__ == "__main__":
    main()
