"""The registry of topics, and their creation: one list, one partition count, one place.

Kafka's client comes in only with who creates topics: their names are also for who has no broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from models.bodies import TOPIC_BODIES
from models.outputs import ANNOUNCEMENTS, DEAD_LETTERS, PROFILES

if TYPE_CHECKING:
    from streams.settings import Settings

BOOTSTRAP_TIMEOUT_MS: Final = 10_000
TABLE: Final = "customers"
JOURNAL: Final = "journal"
COMMANDS: Final = "commands"
CENSUS: Final = "census"
"""What the partitions know of their customers' measures, for policies whose lines depend on all of them."""
AUDIT: Final = "audit"
"""What people saw and did in the console, keyed by who."""
UNDELIVERED: Final = "undelivered"
"""Alerts that a webhook did not take."""
INPUTS: Final = tuple(TOPIC_BODIES)
OUTPUTS: Final = (*ANNOUNCEMENTS, PROFILES)
"""The topics that feed the serving view."""

SHADOWED: Final = (*OUTPUTS, DEAD_LETTERS)
"""What a shadow policy brings, in topics of its own."""

KEPT_FOREVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1"}
COMPACTED: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it has to be on the broker."""

    name: str
    configs: dict[str, str]


def registry(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic of this installation. Inputs are kept for as long as anybody wants to replay them."""
    names = {
        **dict.fromkeys(INPUTS, KEPT_FOREVER),
        **dict.fromkeys((*ANNOUNCEMENTS, DEAD_LETTERS, JOURNAL, AUDIT, UNDELIVERED), KEPT_FOREVER),
        **dict.fromkeys((PROFILES, CENSUS), COMPACTED),
    }
    changelogs = [changelog_topic(settings)]
    if settings.shadow is not None:
        names |= {shadow_of(name): names[name] for name in SHADOWED}
        changelogs.append(shadow_changelog_topic(settings))
    return (
        *(TopicSpec(settings.topic(name), configs) for name, configs in names.items()),
        *(TopicSpec(name, COMPACTED) for name in changelogs),
    )


def changelog_topic(settings: Settings) -> str:
    """The changelog of the customers' table, as Faust names it."""
    return f"{settings.table_app_id}-{TABLE}-changelog"


def shadow_of(name: str) -> str:
    """Where a shadow policy tells what the policy in force tells in an output topic."""
    return f"{name}-shadow"


def shadow_changelog_topic(settings: Settings) -> str:
    """The changelog of the customers under the shadow policy."""
    return f"{settings.table_app_id}-{shadow_of(TABLE)}-changelog"


class TopicsError(RuntimeError):
    """Topics that are not there and can't be made, or that don't fit; the message says what to do."""


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and check the partition count of those that are there. Raises TopicsError.

    Returns the names of the topics that it created.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS, **settings.client_options())
    except (KafkaError, OSError, ValueError) as error:
        raise TopicsError(
            f"no Kafka answers at {settings.broker} ({error}). Start one with ./scripts/kafka up, or set TIERSTREAM_BROKER"
        ) from None
    try:
        return _create(admin, settings)
    except KafkaError as error:
        raise TopicsError(f"the broker at {settings.broker} refused: {error}") from None
    finally:
        admin.close()


def _create(admin: Any, settings: Settings) -> list[str]:
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    wanted = registry(settings)
    existing = set(admin.list_topics())
    created = []
    for topic in wanted:
        if topic.name in existing:
            continue
        try:
            admin.create_topics([NewTopic(topic.name, settings.partitions, settings.replication, None, topic.configs)])
            created.append(topic.name)
        except TopicAlreadyExistsError:
            continue  # another worker was quicker
    admin.wait_for_topics([topic.name for topic in wanted])
    for described in admin.describe_topics([topic.name for topic in wanted]):
        count = len(described["partitions"])
        if count != settings.partitions:
            raise TopicsError(
                f"topic {described['name']} has {count} partitions, but TIERSTREAM_PARTITIONS is {settings.partitions}. "
                f"Every topic needs the same number: set TIERSTREAM_PARTITIONS={count}, or start over under another "
                "TIERSTREAM_TOPIC_PREFIX and TIERSTREAM_APP_VERSION"
            )
    return created
