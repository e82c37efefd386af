"""The reader of the Redis stream in docs/integrations.md does what the page says."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from streams.broker.embedded import EmbeddedRedis
from streams.view.customers import RedisView
from tests.integration.harness import ROOT, wait_until
from tests.view.fed_view import FedView


def test_it_prints_each_change_once_and_repeats_only_unacknowledged_ones(tmp_path: Path) -> None:
    [source] = re.findall(
        r"```python\n(import json\nimport os.*?)```", (ROOT / "docs" / "integrations.md").read_text(), re.S
    )
    (tmp_path / "reader.py").write_text(source)
    # One that crashes just before it acknowledges.
    (tmp_path / "crashing.py").write_text(
        source.replace("        redis.xack", "        os._exit(1)\n        redis.xack")
    )
    log = tmp_path / "reader.log"

    def start(name: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as sink:
            environment = os.environ | {"TIERSTREAM_REDIS_URL": redis.url}
            return subprocess.Popen([sys.executable, name], cwd=tmp_path, env=environment, stdout=sink, stderr=sink)

    def complain(*customer_ids: str) -> None:
        async def work() -> None:
            view = RedisView(redis.url)
            fed.view = view
            await fed.complain(*customer_ids)
            await view.redis.aclose()

        asyncio.run(work())

    def groups() -> int:
        async def work() -> int:
            view = RedisView(redis.url)
            try:
                exists = await view.redis.exists("tierstream:alert-stream")
                return len(await view.redis.xinfo_groups("tierstream:alert-stream")) if exists else 0
            finally:
                await view.redis.aclose()

        return asyncio.run(work())

    with EmbeddedRedis(tmp_path) as redis:
        fed = FedView(RedisView(redis.url))
        crashing = start("crashing.py")
        wait_until(lambda: groups() == 1, 30, log.read_text)
        complain("ada")
        assert crashing.wait(30) == 1
        reader = start("reader.py")
        try:
            complain("bob")
            wait_until(lambda: "bob opened" in log.read_text(), 30, log.read_text)
        finally:
            reader.send_signal(signal.SIGKILL)
            reader.wait()
    assert log.read_text().split("\n") == ["ada opened", "ada opened", "bob opened", ""]
