"""Schemathesis makes valid and invalid requests from the OpenAPI document, and checks every answer against the
document.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from litestar import Litestar
from schemathesis import GenerationMode

from streams.broker.embedded import EmbeddedRedis
from streams.settings import load_settings
from streams.web.app import create_app
from streams.web.settings import load_console_settings
from streams.web.signin.keys import SCOPES, add_key
from tests.web.conftest import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def api_key(folder: Path) -> str:
    return add_key(folder / "keys.toml", "schemathesis", SCOPES)


@pytest.fixture(scope="module")
def document(server: EmbeddedRedis, folder: Path, api_key: str) -> Any:
    from redis import Redis

    redis = Redis.from_url(server.url)
    store = Store(redis)
    for id in ("1516", "0", "a"):
        store.customer(id)
        store.alert(id)
    redis.close()
    app: Litestar = create_app(
        load_settings(redis_url=server.url), load_console_settings(keys_file=folder / "keys.toml")
    )
    return schemathesis.openapi.from_asgi("/v1/openapi.json", app)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/customers/{customer_id}"), ("GET", "/v1/customers:batch"), ("POST", "/v1/customers:batch"),
        ("GET", "/v1/tiers/{tier}/customers"), ("GET", "/v1/alerts"),
    ],
)  # fmt: skip
def test_every_answer_is_as_the_document_says(document: Any, api_key: str, method: str, path: str) -> None:
    statuses = set()

    @settings(
        max_examples=25, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=document[path][method].as_strategy() | document[path][method].as_strategy(GenerationMode.NEGATIVE))
    def holds(case: Any) -> None:
        statuses.add(case.call_and_validate(headers={"X-API-Key": api_key}).status_code)

    holds()
    assert 200 in statuses or 404 in statuses


def test_the_document_has_no_further_operations(document: Any) -> None:
    assert len([one for one in document.get_all_operations()]) == 5
