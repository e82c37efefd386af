"""The contracts as documents, generated from the code: a JSON Schema for each topic, and an AsyncAPI document of all
topics.

Bodies and their descriptions come from the classes and their docstrings, headers from streams.engine.envelope,
partitions and cleanup from streams.topics.
"""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import orjson
from msgspec import Struct

from models import bodies, contracts, parameters
from models.bodies import TOPIC_BODIES
from models.contracts import CONTRACTS_VERSION, OUTPUT_BODIES, changes_of
from models.events import MAX_RECORD_BYTES, REASONS
from models.outputs import ALERTS, CHURN_RISK, DEAD_LETTERS, LIFE_CYCLE, PROFILES, TIER_CHANGES, Output
from streams.engine import journal
from streams.engine.envelope import output_record
from streams.settings import CARRIED, Settings
from streams.topics import AUDIT, CENSUS, JOURNAL, UNDELIVERED, TopicSpec, changelog_topic, topics_of

SERVERS: Final = {"kafka": "Without TLS.", "kafka-secure": "With TLS; with SASL, where the broker asks for it."}
"""Protocols, as AsyncAPI names them."""
MECHANISMS: Final = {
    "plain": "SASL PLAIN, over TLS.",
    "scramSha256": "SASL SCRAM-SHA-256.",
    "scramSha512": "SASL SCRAM-SHA-512.",
}
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI_FILE: Final = "asyncapi.json"
SCHEMAS_FOLDER: Final = "schemas"
BINDING_VERSION: Final = "0.5.0"

Json = dict[str, Any]

MODULES: Final[tuple[ModuleType, ...]] = (bodies, contracts, parameters, journal)
"""The modules with the classes of bodies, and of their parts."""
TOPICS: Final = {
    "purchases": "What customers buy, and what they get back.",
    "complaints": "Customers' complaints, step by step.",
    "feedback": "What customers answer when they are asked how satisfied they are.",
    "prospects": "What is known about people before their first purchase.",
    "commands": "What people decide about a customer. `use_edition` is for the customer `*`: it is sent to every partition.",
    TIER_CHANGES: "Every change of a customer's tier, once and in order, and erasures.",
    CHURN_RISK: "Every change of a customer's risk level, with what it rests on.",
    LIFE_CYCLE: "Every change of a customer's stage, behaviour, or qualification as a prospect; for policies with a life cycle.",
    ALERTS: "Every change of an alert, from opening to closing; for policies with alerts.",
    PROFILES: "What each customer is now. Compacted: the latest profile is always published; those in between may be left out.",
    DEAD_LETTERS: "Records that could not be used, and notes that settle them.",
    JOURNAL: "Internal: which records were folded in which order, batch by batch.",
    AUDIT: "Internal: who signed in to the console, saw which customer, and did what; keyed by the person's name.",
    UNDELIVERED: "Alerts that a webhook did not accept: the original key and bytes; the headers say why.",
    CENSUS: "Internal: how customers are distributed, per partition, for policies whose thresholds depend on all of them.",
}
CHANGELOG: Final = "Internal: the customers' table, in a binary form."
STRAYS: Final = (
    "Internal: records of the inputs that another partitioner had placed, in the partitions where their customers live. "
    "Headers: topic, partition and offset where the record was, and its timestamp."
)
INTERNAL: Final = (JOURNAL, CENSUS, AUDIT, UNDELIVERED)
TAGS: Final = {
    "input": "Public: what you write, and Tierstream reads.",
    "output": "Public: what Tierstream writes, and you read.",
    "internal": "What Tierstream writes for itself. It may become different in any version.",
}
MURMUR2: Final = (
    "By murmur2 of the key's bytes, as Java's clients do by default: (murmur2(key) & 0x7fffffff) % partitions; "
    "another, if TIERSTREAM_PARTITIONER says so. "
    "librdkafka's name for it is murmur2_random."
)
"""Where a producer has to place a record."""
THE_INPUTS_PARTITION: Final = "The partition of the record that it is about."
PLACES: Final = {
    JOURNAL: ("The app id.", "The partition whose batch it is about."),
    CENSUS: ("`points` or `edition`.", "The partition that was counted."),
    AUDIT: ("The person's name.", MURMUR2),
    UNDELIVERED: ("The customer_id, as UTF-8.", MURMUR2),
    DEAD_LETTERS: (
        "The key of the record that could not be used, or of the dead letter that a note settles.",
        THE_INPUTS_PARTITION,
    ),
}
"""Keys of topics that are not keyed by customer, and which partition a record has."""

OVERLAYS: Final[dict[tuple[str, str], Json]] = {
    ("Purchase", "amount"): {
        "anyOf": [{"type": "string"}, {"type": "number"}],
        "description": "A decimal in major units of `currency`, as text (best) or number, with at most as many decimals as the currency has.",
    },
}
"""Schemas of fields that a class leaves undecoded, so that its types do not say what is valid."""


# ---------------------------------------------------------------- schemas of bodies
def schemas() -> dict[str, Json]:
    """By topic, the JSON Schema of its records."""
    found = {}
    for topic, classes in carried_bodies().items():
        heads, definitions = components(classes, "#/$defs/{name}")
        head = heads[0] if len(heads) == 1 else {"anyOf": heads}
        found[topic] = {"$schema": DRAFT, "title": topic, "description": TOPICS[topic], **head, "$defs": definitions}
    return found


def carried_bodies() -> dict[str, tuple[type[Struct], ...]]:
    """By topic, the classes of the bodies that it may have."""
    return {**{topic: (body,) for topic, body in TOPIC_BODIES.items()}, **OUTPUT_BODIES}


def components(classes: tuple[type[Struct], ...], refer: str) -> tuple[list[Json], dict[str, Json]]:
    """References to the classes' schemas, and the schemas of the classes and of their parts, described by docstrings."""
    heads, definitions = msgspec.json.schema_components(classes, ref_template=refer)
    for name, schema in definitions.items():
        found = next(getattr(module, name) for module in MODULES if hasattr(module, name))
        for field in msgspec.structs.fields(found) if "properties" in schema else ():
            described = _described(schema["properties"][field.encode_name], _words(found, field.name))
            schema["properties"][field.encode_name] = OVERLAYS.get((name, field.encode_name), described)
    return list(heads), definitions


def _described(schema: Json, words: str) -> Json:
    if not words:
        return schema
    # Validators of older drafts ignore everything beside a $ref.
    return {"description": words, **({"allOf": [schema]} if "$ref" in schema else schema)}


def _words(of: type[Struct], field: str) -> str:
    """The docstring of a field, which may be an inherited one; empty without one."""
    return next((words[field] for one in of.__mro__ if field in (words := _docstrings().get(one.__name__, {}))), "")


@cache
def _docstrings() -> dict[str, dict[str, str]]:
    """By class, the docstrings of its fields, which Python keeps only in the source."""
    found: dict[str, dict[str, str]] = {}
    for module in MODULES:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = {
                    field.target.id: " ".join(inspect.cleandoc(text.value.value).split())
                    for field, text in zip(node.body, node.body[1:], strict=False)
                    if isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                    and isinstance(text.value.value, str)
                }
    return found


# ---------------------------------------------------------------- AsyncAPI
def asyncapi() -> Json:
    """The AsyncAPI 3.0 document of an installation with default settings."""
    settings = Settings.model_construct()
    carried = carried_bodies()
    every: tuple[type[Struct], ...] = (*(one for classes in carried.values() for one in classes), journal.Entry)
    messages = {
        one.__name__: _message(one, _headers(topic, one)) for topic, classes in carried.items() for one in classes
    }
    messages |= {
        "ErasedProfile": _plain("The customer was erased: delete what you have about them.", {"type": "null"})
        | {"bindings": _KEYED},
        "DeadLetter": _plain(
            "The original key and bytes; the headers say why it is here, and where the record was.",
            {"description": "Any bytes."},
            _dead_letter(),
        )
        | {"contentType": "application/octet-stream"},
        "Note": _plain("Settles a dead letter, whose key it has.", {"type": "null"}, _note()),
        "Entry": _plain("One batch.", {"$ref": "#/components/schemas/Entry"}),
    }
    of_topic = {topic: [one.__name__ for one in classes] for topic, classes in carried.items()}
    of_topic[PROFILES].append("ErasedProfile")
    of_topic |= {DEAD_LETTERS: ["DeadLetter", "Note"], JOURNAL: ["Entry"]}
    described = TOPICS | {changelog_topic(settings): CHANGELOG, settings.topic(CARRIED): STRAYS}
    channels = {
        topic.name: _channel(topic, settings, described[topic.name], of_topic.get(topic.name, []))
        for topic in topics_of(settings)
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tierstream",
            "version": CONTRACTS_VERSION,
            "description": f"Keeps every customer's value tier and churn risk current, event by event. Every topic is keyed by customer_id and has the same "
            "number of partitions (TIERSTREAM_PARTITIONS). Names may have a prefix (TIERSTREAM_TOPIC_PREFIX), those of outputs a "
            f"version (TIERSTREAM_APP_VERSION). An input record has at most {MAX_RECORD_BYTES} bytes. Announcements carry CloudEvents 1.0 headers "
            "(binary mode). Consumers read committed records, ignore fields that they do not know, and delete what they have about a customer when an erasure names them.",
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {protocol: _server(protocol, settings) for protocol in SERVERS},
        "channels": channels,
        "operations": {
            f"{action}-{topic}": {"action": action, "channel": _ref("channels", topic), "summary": TOPICS[topic]}
            for topic in TOPICS
            if topic not in INTERNAL
            for action in ("receive" if topic in TOPIC_BODIES else "send",)
        },
        "components": {
            "schemas": draft_07(components(every, "#/components/schemas/{name}")[1]),
            "messages": messages,
            "securitySchemes": {name: {"type": name, "description": words} for name, words in MECHANISMS.items()},
            "tags": {name: {"name": name, "description": words} for name, words in TAGS.items()},
        },
    }


def draft_07(schema: Any) -> Any:
    """The schema in AsyncAPI's older draft, in which `items` stands for `prefixItems`."""
    if isinstance(schema, list):
        return [draft_07(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: draft_07(one) for name, one in schema.items() if name != "prefixItems"}
    return found | ({"items": draft_07(schema["prefixItems"])} if "prefixItems" in schema else {})


def _server(protocol: str, settings: Settings) -> Json:
    return {
        "host": "{address}",
        "protocol": protocol,
        "description": f"{SERVERS[protocol]} Settings: TIERSTREAM_BROKER, TIERSTREAM_SECURITY_PROTOCOL, TIERSTREAM_SASL_MECHANISM.",
        "variables": {"address": {"default": settings.broker, "description": "Host and port of a broker."}},
        **(
            {"security": [_ref("components/securitySchemes", name) for name in MECHANISMS]}
            if protocol == "kafka-secure"
            else {}
        ),
    }


def _channel(topic: TopicSpec, settings: Settings, words: str, messages: list[str]) -> Json:
    configs: Json = dict(topic.configs)
    configs["cleanup.policy"] = configs["cleanup.policy"].split(",")
    if "retention.ms" in configs:
        configs["retention.ms"] = int(configs["retention.ms"])
    placed_by = (
        MURMUR2 if _tag(topic.name) == "input" or topic.name == settings.topic(CARRIED) else THE_INPUTS_PARTITION
    )
    key, partition = PLACES.get(topic.name, ("The customer_id, as UTF-8.", placed_by))
    return {
        "address": topic.name,
        "description": words,
        "tags": [_ref("components/tags", _tag(topic.name))],
        "messages": {name: _ref("components/messages", name) for name in messages},
        # Kafka's binding has no place for them.
        "x-key": key,
        "x-partition": partition,
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": settings.partitions,
                "replicas": settings.replication,
                "topicConfiguration": configs,
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _tag(topic: str) -> str:
    """Whether a topic is an input, an output, or internal."""
    if topic in TOPIC_BODIES:
        return "input"
    return "output" if topic in TOPICS and topic not in INTERNAL else "internal"


def _message(body: type[Struct], headers: Json | None) -> Json:
    return {
        "name": body.__name__,
        "summary": inspect.cleandoc(body.__doc__ or "").split("\n\n", maxsplit=1)[0].replace("\n", " "),
        **({"headers": headers} if headers else {}),
        "payload": _ref("components/schemas", body.__name__),
        "bindings": _KEYED,
    }


def _plain(words: str, payload: Json, headers: Json | None = None) -> Json:
    return {"summary": words, **({"headers": headers} if headers else {}), "payload": payload}


def _headers(topic: str, body: type[Struct]) -> Json | None:
    """The headers of an announcement; None for other records."""
    changes = changes_of(body)
    if topic in TOPIC_BODIES or not changes:
        return None
    written = [dict(output_record(Output(topic, "", "", 1, change, 0, b""))[2]) for change in changes]
    about: Json = {
        "ce_id": {"type": "string", "description": "The body's id."},
        "ce_type": {"enum": [one["ce_type"].decode() for one in written]},
        "ce_subject": {"type": "string", "description": "The customer_id."},
        "ce_time": {"type": "string", "format": "date-time", "description": "The body's occurred_at."},
    }
    return {
        "type": "object",
        "required": list(written[0]),
        "properties": {name: about.get(name, {"const": value.decode()}) for name, value in written[0].items()},
    }


def _dead_letter() -> Json:
    return _texts(
        ("topic", "partition", "offset", "reason", "detail"),
        topic={"type": "string", "description": "Where the record came from, with partition and offset."},
        partition=_DIGITS,
        offset=_DIGITS,
        reason={"enum": list(REASONS), "description": "; ".join(f"{code}: {words}" for code, words in REASONS.items())},
        detail={"type": "string", "description": "What is wrong, in a sentence."},
        value_bytes=_DIGITS | {"description": "The whole length of a value that was cut."},
    )


def _note() -> Json:
    return _texts(
        ("settles", "how", "by"),
        settles={"type": "string", "description": "partition:offset of the dead letter in this topic."},
        how={"enum": ["resent", "repaired", "dismissed"]},
        by={"type": "string"},
        note={"type": "string"},
        to={"type": "string", "description": "topic:partition:offset of the record that was sent for it."},
    )


def _texts(required: tuple[str, ...], **properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _ref(where: str, name: str) -> Json:
    return {"$ref": f"#/{where}/{name}"}


_DIGITS: Final[Json] = {"type": "string", "pattern": "^[0-9]+$"}
_KEYED: Final[Json] = {
    "kafka": {
        "key": {"type": "string", "minLength": 1, "maxLength": 128, "description": "The customer_id, as UTF-8."},
        "bindingVersion": BINDING_VERSION,
    }
}


# ---------------------------------------------------------------- files
def files() -> dict[str, bytes]:
    """Every document, by its path in the documents' folder."""
    found = {f"{SCHEMAS_FOLDER}/{topic}.json": schema for topic, schema in schemas().items()}
    return {name: _pretty(document) for name, document in {ASYNCAPI_FILE: asyncapi(), **found}.items()}


def write(folder: Path) -> list[Path]:
    """Write every document into a folder; returns the paths."""
    written = []
    for name, content in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append(path)
    return written


def _pretty(document: Json) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the documents into the folder of --out. Exits with status 2, and names the folder, if it can't be written."""
    parser = argparse.ArgumentParser(
        prog="scripts/documents",
        description="Write what the topics carry as documents: an AsyncAPI 3.0 document, and a JSON Schema for each topic.",
        epilog="Example: scripts/documents --out docs",
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for asyncapi.json and schemas/ (docs)")
    folder = parser.parse_args(arguments).out
    try:
        written = write(folder)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}; give another folder by --out")
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
