"""The checks of `tierstream doctor` on the broker: topics and their configuration, rights, transactions, the group.

Some requests change a broker: a request for the coordinator of a group, or of a transactional id, makes it create its
internal topics. Such requests are not made.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from aiokafka.errors import KafkaError as AioKafkaError
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType, TopicMetadata

from models import units
from streams.broker.librdkafka import connection_options, silent_logger
from streams.broker.oldest_kafka import OLDEST_KAFKA, why_too_old
from streams.broker.topic_creation import hidden_topics
from streams.doctor.finding import Finding, ok, problem, warning, with_count
from streams.settings import Settings
from streams.topics import COMPACTED, INPUTS, TopicSpec, needed_by_workers, topics_of
from streams.worker.delivery import MAX_RECORD_BATCH_BYTES, TRANSACTION_TIMEOUT_MS

PATIENCE_SECONDS: Final = 5.0
"""How long the broker may take to answer."""
TRANSACTION_TOPIC: Final = "__transaction_state"
MAY_NOT: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""The errors of a broker that answers, but not this user."""
ALL_BROKERS_DOWN: Final = KafkaError._ALL_BROKERS_DOWN
"""What librdkafka reports beside the reason."""

T = TypeVar("T")


def check_broker(settings: Settings) -> Iterator[Finding]:
    """Examine everything on the broker that a worker needs."""
    refused = _why_unreachable(settings.broker)
    if refused is not None:
        yield problem(
            "broker", f"no Kafka answers at {settings.broker}: {refused}", "Start it, or set TIERSTREAM_BROKER"
        )
        return
    reported: list[KafkaError] = []
    options = connection_options(settings) | {"error_cb": reported.append}
    try:
        with AdminClient(options, logger=silent_logger) as admin:
            try:
                cluster = admin.list_topics(timeout=PATIENCE_SECONDS)
            except KafkaException as error:
                admin.poll(0)  # has what went wrong with the connections reported
                why = next((one.str() for one in reported if one.code() != ALL_BROKERS_DOWN), error.args[0].str())
                yield problem(
                    "broker",
                    f"a server at {settings.broker} does not answer as Kafka would: {why}",
                    "See TIERSTREAM_SECURITY_PROTOCOL, _TLS_CA_FILE and _SASL_..., and the broker's log",
                )
                return
            yield from _check_cluster(admin, cluster, settings)
    except (KafkaException, AioKafkaError, TimeoutError) as error:
        why = error.args[0].str() if isinstance(error, KafkaException) else str(error) or "timed out"
        yield problem(
            "broker",
            f"the broker did not answer a request: {why}",
            'See its log, and docs/running.md, "Rights on the broker"',
        )


def _why_unreachable(servers: str) -> str | None:
    """Why none of the servers can be reached; None if one can."""
    refused = []
    for server in servers.split(","):
        host, _, port = server.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), PATIENCE_SECONDS):
                return None
        except OSError as error:
            refused.append(error.strerror or str(error))
    return "; ".join(dict.fromkeys(refused))


def _check_cluster(admin: AdminClient, cluster: Any, settings: Settings) -> Iterator[Finding]:
    brokers = len(cluster.brokers)
    what = f"Kafka at {settings.broker}, {with_count(brokers, 'broker')}"
    too_old = why_too_old(settings)
    if too_old is not None:
        do = f"Use Kafka {OLDEST_KAFKA} or newer, or set TIERSTREAM_DELIVERY=at-least-once"
        yield problem("broker", too_old, do)
    else:
        yield ok("broker", f"{what}, new enough for {settings.delivery}")
    existing: dict[str, TopicMetadata] = {
        name: topic for name, topic in cluster.topics.items() if topic.error is None and topic.partitions
    }
    hidden = hidden_topics(settings, [topic.name for topic in topics_of(settings) if topic.name not in existing])
    needed = set(needed_by_workers(settings))
    for found, names, whose in (
        (problem, [name for name in hidden if name in needed], "a worker"),
        (warning, [name for name in hidden if name not in needed], "the console, pushed alerts or some policies"),
    ):
        if names:
            yield found(
                "rights",
                f"this user may not see what {whose} needs, nor whether it exists: {', '.join(names)}",
                "Give this user Describe, Read and Write on these topics (docs/running.md)",
            )
    wanted = [topic for topic in topics_of(settings) if topic.name not in hidden]
    yield from _check_topics(settings, wanted, existing, brokers)
    there = [topic for topic in wanted if topic.name in existing]
    if there:
        names = [topic.name for topic in there]
        yield from _check_rights(settings, _rights(admin, names))
        yield from _check_configs(there, _configs(admin, ResourceType.TOPIC, names))
    if settings.delivery == "exactly-once":
        # All brokers have the same settings of transactions, or should have.
        number = str(min(cluster.brokers))
        of_broker = _configs(admin, ResourceType.BROKER, [number])[number]
        yield from _check_transactions(of_broker, existing.get(TRANSACTION_TOPIC), brokers)
    yield from _check_group(settings, admin)


def _answer(asked: Future[T]) -> T | None:
    """What the broker answers; None if this user may not know it. Raises KafkaException and TimeoutError."""
    try:
        return asked.result(2 * PATIENCE_SECONDS)
    except KafkaException as error:
        if error.args[0].code() not in MAY_NOT:
            raise
        return None


def _configs(admin: AdminClient, kind: ResourceType, names: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """The configurations of things on the broker, by name; empty for one that this user may not see."""
    resources = [ConfigResource(kind, name) for name in names]
    asked = admin.describe_configs(resources, request_timeout=PATIENCE_SECONDS)
    return {
        one.name: {name: entry.value for name, entry in (_answer(answer) or {}).items()}
        for one, answer in asked.items()
    }


def _rights(admin: AdminClient, names: Sequence[str]) -> dict[str, set[str] | None]:
    """What this user may do with topics, by the names that Kafka gives operations; None where the broker does not say."""
    asked = admin.describe_topics(
        TopicCollection(list(names)), include_authorized_operations=True, request_timeout=PATIENCE_SECONDS
    )
    found: dict[str, set[str] | None] = {}
    for name, answer in asked.items():
        described = _answer(answer)
        if described is None:
            found[name] = set()
        else:
            given = described.authorized_operations
            found[name] = None if given is None else {one.name for one in given}
    return found


def _check_topics(
    settings: Settings, wanted: Iterable[TopicSpec], existing: Mapping[str, TopicMetadata], brokers: int
) -> Iterator[Finding]:
    missing = [topic.name for topic in wanted if topic.name not in existing]
    there = [existing[topic.name] for topic in wanted if topic.name in existing]
    if missing:
        found = warning if settings.create_topics else problem
        do = "tierstream topics create" + (", or start a worker, which creates them" if settings.create_topics else "")
        yield found("topics", f"these topics are missing: {', '.join(missing)}", do)
    wrong = []
    for topic in there:
        count = len(topic.partitions)
        if count != settings.partitions:
            wrong.append(
                problem(
                    "topics",
                    f"{topic.topic} has {with_count(count, 'partition')}, but TIERSTREAM_PARTITIONS is {settings.partitions}",
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


def _check_replicas(topics: Sequence[TopicMetadata], brokers: int) -> Iterator[Finding]:
    for topic in topics:
        leaderless = [one.id for one in topic.partitions.values() if one.leader < 0]
        if leaderless:
            yield problem(
                "replicas",
                f"{topic.topic} has no leader for the partitions {leaderless}",
                "Start the brokers that hold them",
            )
    fewest = min(len(one.replicas) for topic in topics for one in topic.partitions.values())
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


def _check_rights(settings: Settings, rights: Mapping[str, set[str] | None]) -> Iterator[Finding]:
    inputs = {settings.topic(name) for name in INPUTS}
    lacking = []
    for name, given in rights.items():
        needed = {"READ"} if name in inputs else {"READ", "WRITE"}
        if given is not None and "ALL" not in given and not needed <= given:
            lacking.append(f"{name} ({', '.join(sorted(needed - given))})")
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


def _check_transactions(
    configs: Mapping[str, str | None], topic: TopicMetadata | None, brokers: int
) -> Iterator[Finding]:
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
    elif topic is not None and (short := [one for one in topic.partitions.values() if len(one.isrs) < needed]):
        yield problem(
            "transactions", f"{len(short)} partitions of {topic.topic} have fewer replicas in sync than the {needed} needed",
            f"Start the other brokers, {at_least_once}",
        )  # fmt: skip
    else:
        yield ok("transactions", "transactions are possible")


def _check_group(settings: Settings, admin: AdminClient) -> Iterator[Finding]:
    listed = _answer(admin.list_consumer_groups(request_timeout=PATIENCE_SECONDS))
    group = settings.table_app_id
    # Only a group that exists is asked about, so that no broker makes the topic of groups for the answer.
    is_there = listed is not None and any(one.group_id == group for one in listed.valid)
    asked = admin.describe_consumer_groups([group], request_timeout=PATIENCE_SECONDS) if is_there else {}
    found = _answer(asked[group]) if is_there else None
    if found is None or not found.members:
        yield warning(
            "group", f"no worker is in the group {group}", "Start tierstream worker, once the problems are solved"
        )
    else:
        members = with_count(len(found.members), "member")
        yield ok(
            "group", f"the group {group} has {members} and is in the state {found.state.name.lower().replace('_', ' ')}"
        )
