"""The simplified fold on Faust, written as Faust's user guide writes its examples."""

import sys
import tempfile
from typing import Any

import faust
import uvloop
from command_line import parser, state_option
from confluent_kafka.admin import AdminClient
from fold import book, new_customer


class Purchase(faust.Record, serializer="json"):
    """One purchase or refund."""

    event_id: str
    customer_id: str
    kind: str
    order_id: str
    amount: str
    currency: str
    occurred_at: str


def create_app(broker: str, source: str, name: str, datadir: str) -> faust.App:
    """The app: one table, one agent."""
    partitions = len(
        AdminClient({"bootstrap.servers": broker}).list_topics(source, timeout=30).topics[source].partitions
    )
    app = faust.App(
        name,
        broker=f"aiokafka://{broker}",
        datadir=datadir,
        # The table is in memory. That is Faust's default and its fastest store. The guide prefers "rocksdb://" in
        # production for its shorter recovery; it adds a write to disk and a deserialisation per access, and is an extra.
        store="memory://",
        # "Higher numbers gives better throughput", says the reference, as long as commits are frequent enough.
        stream_buffer_maxsize=16_384,
        broker_max_poll_records=4_096,
        broker_commit_interval=1.0,
        producer_acks=-1,
        producer_linger=0.01,
        producer_max_batch_size=131_072,
        # A changelog has as many partitions as the source topic.
        topic_partitions=partitions,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
    )
    purchases = app.topic(source, key_type=str, value_type=Purchase)
    tier_changes = app.topic(f"{name}-tier-changes", key_type=str, value_serializer="json")
    customers = app.Table("customers", key_type=str, partitions=partitions)

    @app.agent(purchases)
    async def update_tiers(stream: Any) -> None:
        async for purchase in stream:
            customer_id = purchase.customer_id
            customer = customers.get(customer_id) or new_customer()
            change = book(
                customer, customer_id, purchase.event_id, purchase.kind, purchase.amount, purchase.occurred_at
            )
            customers[customer_id] = customer
            if change is not None:
                await tier_changes.send(key=customer_id, value=change)

    return app


def main() -> None:
    arguments = parser(__doc__, "idiomatic_faust.py")
    state_option(arguments)
    args = arguments.parse_args()
    uvloop.install()
    with tempfile.TemporaryDirectory(prefix="peer-faust-") as folder:
        app = create_app(args.broker, args.source, args.name, str(args.state_dir or folder))
        faust.Worker(app, loglevel="info", quiet=True).execute_from_commandline()


if __name__ == "__main__":
    sys.exit(main())
