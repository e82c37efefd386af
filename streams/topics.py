"""The registry of topics: their names, and how each has to be configured on the broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.bodies import TOPIC_BODIES
from models.outputs import ANNOUNCEMENTS, DEAD_LETTERS, PROFILES
from streams.settings import CARRIED

if TYPE_CHECKING:
    from streams.settings import Settings

TABLE: Final = "customers"
JOURNAL: Final = "journal"
COMMANDS: Final = "commands"
CENSUS: Final = "census"
"""Summaries of the partitions' measures, for policies whose thresholds depend on all customers."""
AUDIT: Final = "audit"
"""What people saw and did in the console, keyed by person."""
UNDELIVERED: Final = "undelivered"
"""Alerts that could not be delivered to a webhook."""
INPUTS: Final = tuple(TOPIC_BODIES)
FOLDED: Final = (*INPUTS, CARRIED)
"""What a partition folds: its inputs, and the strays that were carried to it."""
OUTPUTS: Final = (*ANNOUNCEMENTS, PROFILES)
"""The topics that feed the serving view."""

SHADOWED: Final = (*OUTPUTS, DEAD_LETTERS)
"""The outputs of a shadow policy, which it has in topics of its own."""

KEPT_FOREVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1"}
COMPACTED: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic's name and configuration on the broker."""

    name: str
    configs: dict[str, str]


def topics_of(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic of this installation. Inputs are kept forever, so that they can be replayed."""
    names = {
        **dict.fromkeys(FOLDED, KEPT_FOREVER),
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


def needed_by_workers(settings: Settings) -> tuple[str, ...]:
    """The names of the topics without which no worker works; others of `topics_of` belong to the console, to the webhook or to
    policies whose thresholds follow the base.
    """
    others = {settings.topic(name) for name in (AUDIT, UNDELIVERED, CENSUS)}
    return tuple(topic.name for topic in topics_of(settings) if topic.name not in others)


def changelog_topic(settings: Settings) -> str:
    """The changelog of the customers' table, as Faust names it."""
    return f"{settings.table_app_id}-{TABLE}-changelog"


def shadow_of(name: str) -> str:
    """The topic in which a shadow policy has what the policy in force has in the topic `name`."""
    return f"{name}-shadow"


def shadow_changelog_topic(settings: Settings) -> str:
    """The changelog of the customers under the shadow policy."""
    return f"{settings.table_app_id}-{shadow_of(TABLE)}-changelog"
