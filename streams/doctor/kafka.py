"""The checks of `tierstream doctor` on the broker: topics and their configuration, rights, transactions, the group.

Some requests change a broker: a request for the coordinator of a group, or of a transactional id, makes it create its
internal topics. Such requests are not made.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from models import units
from streams.broker.aiokafka_readers import connection_options
from streams.doctor.finding import Finding, ok, problem, version_text, warning, with_count
from streams.settings import Settings
from streams.topics import COMPACTED, INPUTS, TopicSpec, topics_of
from streams.worker.delivery import MAX_RECORD_BATCH_BYTES, TRANSACTION_TIMEOUT_MS

PATIENCE_MS: Final = 5_000
"""How long the broker may take to answer."""
OLDEST_KAFKA: Final = (2, 5)
"""The first version whose transactional producers are fenced by their epoch."""
TRANSACTION_TOPIC: Final = "__transaction_state"


def check_broker(settings: Settings) -> Iterator[Finding]:
    """Examine everything on the broker that a worker needs."""
    refused = _why_unreachable(settings.broker)
    if refused is not None:
        yield problem(
            "broker", f"no Kafka answers at {settings.broker}: {refused}", "Start it, or set TIERSTREAM_BROKER"
        )
        return
    try:
        admin = KafkaAdminClient(
            bootstrap_timeout_ms=PATIENCE_MS,
            request_timeout_ms=PATIENCE_MS,
            **connection_options(settings),
        )
    except (KafkaError, OSError, ValueError) as error:
        yield problem(
            "broker",
            f"a server at {settings.broker} does not answer as Kafka would: {error}",
            "See TIERSTREAM_SECURITY_PROTOCOL, _TLS_CA_FILE and _SASL_..., and the broker's log",
        )
        return
    try:
        yield from _check_cluster(admin, settings)
    except KafkaError as error:
        yield problem(
            "broker",
            f"the broker did not answer a request: {error}",
            'See its log, and docs/running.md, "Rights on the broker"',
        )
    finally:
        admin.close()


def _why_unreachable(servers: str) -> str | None:
    """Why none of the servers can be reached; None if one can."""
    refused = []
    for server in servers.split(","):
        host, _, port = server.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), PATIENCE_MS / 1000):
                return None
        except OSError as error:
            refused.append(error.strerror or str(error))
    return "; ".join(dict.fromkeys(refused))


def _check_cluster(admin: Any, settings: Settings) -> Iterator[Finding]:
    brokers = [one["broker_id"] for one in admin.describe_cluster()["brokers"] if not one.get("is_fenced")]
    version = admin.get_broker_version_data(brokers[0]).broker_version
    what = f"Kafka {version_text(version)} at {settings.broker}, {with_count(len(brokers), 'broker')}"
    if settings.delivery == "exactly-once" and version < OLDEST_KAFKA:
        yield problem(
            "broker",
            f"{what} is too old for exactly-once",
            "Use Kafka 2.5 or newer, or set TIERSTREAM_DELIVERY=at-least-once",
        )
    else:
        yield ok("broker", what)
    existing = {one["name"]: one for one in admin.describe_topics()}
    wanted = topics_of(settings)
    yield from _check_topics(settings, wanted, existing, len(brokers))
    there = [topic for topic in wanted if topic.name in existing]
    if there:
        yield from _check_configs(there, _configs(admin, ConfigResourceType.TOPIC, [one.name for one in there]))
    if settings.delivery == "exactly-once":
        of_broker = _configs(admin, ConfigResourceType.BROKER, [str(brokers[0])])[str(brokers[0])]
        yield from _check_transactions(of_broker, existing.get(TRANSACTION_TOPIC), len(brokers))
    yield from _check_group(settings, admin.list_groups())


def _configs(admin: Any, kind: Any, names: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """The configurations of things on the broker, by name; empty for one that this user may not see."""
    resources = [ConfigResource(kind, name) for name in names]
    found = admin.describe_configs(resources, config_filter="all").get(kind.name.lower(), {})
    return {one.name: {key: entry["value"] for key, entry in found.get(one.name, {}).items()} for one in resources}


def _check_topics(
    settings: Settings, wanted: Iterable[TopicSpec], existing: Mapping[str, Any], brokers: int
) -> Iterator[Finding]:
    missing = [topic.name for topic in wanted if topic.name not in existing]
    there = [existing[topic.name] for topic in wanted if topic.name in existing]
    if missing:
        found = warning if settings.create_topics else problem
        do = "tierstream topics create" + (", or start a worker, which creates them" if settings.create_topics else "")
        yield found("topics", f"these topics are missing: {', '.join(missing)}", do)
    wrong = []
    for topic in there:
        count = len(topic["partitions"])
        if count != settings.partitions:
            wrong.append(
                problem(
                    "topics",
                    f"{topic['name']} has {with_count(count, 'partition')}, but TIERSTREAM_PARTITIONS is {settings.partitions}",
                    f"Set TIERSTREAM_PARTITIONS={count} if all have as many; else tierstream topics migrate",
                )
            )
    yield from wrong
    if there and not missing and not wrong:
        yield ok("topics", f"all {len(there)} topics exist, each with {with_count(settings.partitions, 'partition')}")
    if missing and settings.replication > brokers:
        do = f"Set TIERSTREAM_REPLICATION={brokers}, or add brokers"
        what = f"TIERSTREAM_REPLICATION is {settings.replication}, but the cluster has {with_count(brokers, 'broker')}"
        yield problem("topics", what, do)
    if there:
        yield from _check_replicas(there, brokers)
        yield from _check_rights(settings, there)


def _check_replicas(topics: Iterable[Any], brokers: int) -> Iterator[Finding]:
    for topic in topics:
        leaderless = [one["partition_index"] for one in topic["partitions"] if one["leader_id"] < 0]
        if leaderless:
            yield problem(
                "replicas",
                f"{topic['name']} has no leader for the partitions {leaderless}",
                "Start the brokers that hold them",
            )
    fewest = min(len(one["replica_nodes"]) for topic in topics for one in topic["partitions"])
    if fewest == 1:
        yield warning(
            "replicas",
            "some partitions have no second replica: if a broker's disk fails, its records are lost",
            "This is fine for a trial. In production use three brokers or more, and create topics with TIERSTREAM_REPLICATION=3"
            if brokers < 3
            else "Create topics with TIERSTREAM_REPLICATION=3, or reassign them (kafka-reassign-partitions)",
        )
    else:
        yield ok("replicas", f"every partition has {with_count(fewest, 'replica')} or more")


def _check_rights(settings: Settings, topics: Iterable[Any]) -> Iterator[Finding]:
    inputs = {settings.topic(name) for name in INPUTS}
    lacking = []
    for topic in topics:
        given = topic.get("authorized_operations")
        needed = {"READ"} if topic["name"] in inputs else {"READ", "WRITE"}
        if given is not None and "ALL" not in given and not needed <= set(given):
            lacking.append(f"{topic['name']} ({', '.join(sorted(needed - set(given)))})")
    if lacking:
        yield problem(
            "rights",
            f"this user lacks rights: {'; '.join(lacking)}",
            "Give this user these rights (docs/running.md)",
        )


def _check_configs(topics: Iterable[TopicSpec], found: Mapping[str, Mapping[str, str | None]]) -> Iterator[Finding]:
    findings: list[Finding] = []
    for topic in topics:
        configs = found[topic.name]
        if configs:
            findings += _check_topic_configs(topic, configs)
        else:
            what = f"this user may not see how {topic.name} is configured"
            findings.append(warning("configs", what, "Give this user DescribeConfigs on it"))
    yield from findings or [ok("configs", "every topic is configured to keep its records")]


def _check_topic_configs(topic: TopicSpec, configs: Mapping[str, str | None]) -> Iterator[Finding]:
    is_compacted = topic.configs["cleanup.policy"] == COMPACTED["cleanup.policy"]
    alter = f"kafka-configs --alter --topic {topic.name} --add-config"
    for name, value in topic.configs.items():
        actual = configs.get(name)
        if actual is None or actual == value:
            continue
        do = f"{alter} {name}={value}"
        if name == "cleanup.policy":
            lost = "records are deleted by age" if is_compacted else "earlier records of a customer are deleted"
            yield problem("configs", f"{topic.name}: cleanup.policy is {actual}: {lost}", do)
        elif name == "retention.ms":
            days = int(actual) / units.DAY_MS
            yield warning(
                "configs", f"{topic.name}: records are deleted after {days:g} days; nobody can replay them then, nor start a new "
                "TIERSTREAM_APP_VERSION from them", do,
            )  # fmt: skip
        else:
            yield warning("configs", f"{topic.name}: {name} is {actual} instead of {value}", do)
    retained = configs.get("retention.bytes")
    if not is_compacted and retained not in (None, "-1"):
        yield warning(
            "configs", f"{topic.name}: records beyond {retained} bytes are deleted", f"{alter} retention.bytes=-1"
        )
    largest = configs.get("max.message.bytes")
    if largest is not None and int(largest) < MAX_RECORD_BATCH_BYTES:
        yield problem(
            "configs", f"{topic.name}: max.message.bytes is {largest}, but batches have up to {MAX_RECORD_BATCH_BYTES}",
            f"{alter} max.message.bytes=1048588",
        )  # fmt: skip


def _check_transactions(configs: Mapping[str, str | None], topic: Any, brokers: int) -> Iterator[Finding]:
    def number(name: str) -> int | None:
        value = configs.get(name)
        return None if value is None else int(value)

    needed = number("transaction.state.log.min.isr")
    replicas = number("transaction.state.log.replication.factor")
    longest_ms = number("transaction.max.timeout.ms")
    at_least_once = "or set TIERSTREAM_DELIVERY=at-least-once"
    if needed is None:
        do = f"Give this user DescribeConfigs on the cluster, {at_least_once}"
        yield warning("transactions", "this user may not see how the broker keeps transactions", do)
    elif longest_ms is not None and longest_ms < TRANSACTION_TIMEOUT_MS:
        yield problem(
            "transactions", f"transaction.max.timeout.ms is {longest_ms}, but transactions of a worker last up to {TRANSACTION_TIMEOUT_MS}",
            f"Raise it, {at_least_once}",
        )  # fmt: skip
    elif topic is None and replicas is not None and replicas > brokers:
        yield problem(
            "transactions", f"transaction.state.log.replication.factor is {replicas}, but the cluster has {with_count(brokers, 'broker')}: no transaction can begin",
            f"Add brokers, set it to {brokers}, {at_least_once}",
        )  # fmt: skip
    elif topic is not None and (short := [one for one in topic["partitions"] if len(one["isr_nodes"]) < needed]):
        yield problem(
            "transactions", f"{len(short)} partitions of {topic['name']} have fewer replicas in sync than the {needed} needed",
            f"Start the other brokers, {at_least_once}",
        )  # fmt: skip
    else:
        yield ok("transactions", "transactions are possible")


def _check_group(settings: Settings, groups: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    found = next((one for one in groups if one["group_id"] == settings.table_app_id), None)
    if found is None or found.get("group_state") in ("Empty", "Dead"):
        yield warning(
            "group",
            f"no worker is in the group {settings.table_app_id}",
            "Start tierstream worker, once the problems are solved",
        )
    else:
        yield ok("group", f"the group {settings.table_app_id} is in the state {found.get('group_state') or 'unknown'}")
