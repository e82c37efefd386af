"""The schemas of a registry (Confluent's interface), and readers of records by them: Avro, Protobuf, JSON Schema.

The libraries for it are the extra `registry`. They are imported only if a registry is named, so JSON works without
them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import orjson

from models.events import Rejected
from streams.ingest.record_rows import HEAD_BYTES, Read
from streams.settings import RegistrySettings, SettingsError

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema

EXTRA: Final = "a schema registry needs more libraries: pip install 'tierstream[registry]'"
NOT_FOUND: Final = 404
SCHEMA_NOT_FOUND: Final = 40403
UNKNOWN_SECONDS: Final = 60.0
"""How long to wait before asking again for a schema that the registry did not know."""
ANSWER_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


class RegistryUnavailable(Exception):
    """The registry does not answer, or refuses; the message says how. It may answer later."""


class Schemas(dict[int, Read | Rejected]):
    """The readers of records by schema id, for the schemas that `learn` has fetched."""

    def __init__(self, settings: RegistrySettings) -> None:
        super().__init__()
        self._url = settings.url
        self._client = None if settings.url is None else _client(settings)
        self._retry_at: dict[int, float] = {}

    def learn(self, schema_ids: Collection[int]) -> None:
        """Fetch the schemas that are not known yet. Raises RegistryUnavailable; then the call can be repeated."""
        now = time.monotonic()
        for schema_id in schema_ids:
            if schema_id in self and now < self._retry_at.get(schema_id, now + 1):
                continue
            self[schema_id] = found = self._reader(schema_id)
            if isinstance(found, Rejected):
                self._retry_at[schema_id] = now + UNKNOWN_SECONDS
                log.warning("schema %d can't be used: %s", schema_id, found.detail)
            else:
                self._retry_at.pop(schema_id, None)

    def _reader(self, schema_id: int) -> Read | Rejected:
        if self._client is None:
            return Rejected(
                "unknown_schema", f"it needs schema {schema_id}, and no registry is named; give --registry URL"
            )
        schema = self._ask(self._client.get_schema, schema_id)
        if schema is None:
            return Rejected("unknown_schema", f"the registry does not know its schema {schema_id}")
        try:
            return self._reader_of(schema)
        except RegistryUnavailable:
            raise
        except Exception as error:  # a library may raise anything for a schema that anybody may have written
            return Rejected("unknown_schema", f"its schema {schema_id} is of no use: {error}"[:1_000])

    def _reader_of(self, schema: Schema) -> Read:
        if schema.schema_type == "JSON":
            return lambda value: orjson.loads(value[HEAD_BYTES:])
        if schema.schema_type == "PROTOBUF":
            from streams.ingest.protobuf import protobuf_reader

            return protobuf_reader(schema.schema_str or "", dict(self._references(schema)))
        return avro_reader(schema.schema_str or "", self._references(schema))

    def _references(self, schema: Schema) -> list[tuple[str, str]]:
        """Names and texts of the schemas that a schema refers to, directly or not; a schema is after those that it
        refers to.
        """
        client, found = self._client, dict[str, str]()
        assert client is not None, "a schema was fetched with it"

        def collect(one: Schema) -> None:
            for reference in one.references or ():
                if reference.name in found:
                    continue
                version = self._ask(client.get_version, reference.subject, reference.version)
                if version is None:
                    raise ValueError(
                        f"it refers to {reference.subject}, version {reference.version}, which is not there"
                    )
                collect(version.schema)
                found[reference.name] = version.schema.schema_str

        collect(schema)
        return list(found.items())

    def _ask(self, get: Any, *what: Any) -> Any:
        """The answer of the registry; None if it does not have what is asked for. Raises RegistryUnavailable."""
        import httpx2
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return get(*what)
        except SchemaRegistryError as error:
            if error.http_status_code == NOT_FOUND and error.error_code // 100 == SCHEMA_NOT_FOUND // 100:
                return None
            # A 404 without such a code is from a server that is not a registry, or not one at this path.
            raise RegistryUnavailable(f"the registry at {self._url} refused: {error}") from None
        except httpx2.HTTPError as error:
            raise RegistryUnavailable(f"the registry at {self._url} does not answer: {error}") from None


def _client(settings: RegistrySettings) -> Any:
    """The client of the registry. Raises SettingsError."""
    try:
        import fastavro  # noqa: F401
        import google.protobuf  # noqa: F401
        import grpc_tools  # noqa: F401
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise SettingsError(f"{EXTRA} ({error})") from None
    # The client does not retry: the pipeline does, because it has to stay in the consumer group meanwhile.
    options: dict[str, Any] = {"url": settings.url, "max.retries": 0, "timeout": ANSWER_SECONDS}
    if settings.username is not None and settings.password is not None:
        options["basic.auth.user.info"] = f"{settings.username}:{settings.password.get_secret_value()}"
    if settings.ca_file is not None:
        options["ssl.ca.location"] = settings.ca_file
    try:
        return SchemaRegistryClient(options)
    except OSError as error:
        raise SettingsError(
            f"TIERSTREAM_REGISTRY_CA_FILE {settings.ca_file}: {error.strerror}; give a PEM file"
        ) from None


def avro_reader(text: str, references: list[tuple[str, str]]) -> Read:
    """A function that reads records of an Avro schema, given the schemas it refers to. Raises what fastavro raises."""
    from fastavro import parse_schema, schemaless_reader

    named: dict[str, Any] = {}
    for _, one in references:
        parse_schema(json.loads(one), named)
    schema = parse_schema(json.loads(text), named)

    def read(value: bytes) -> Any:
        stream = BytesIO(value)
        stream.seek(HEAD_BYTES)
        return schemaless_reader(stream, schema, None)

    return read
