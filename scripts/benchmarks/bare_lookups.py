"""The same look-up as a bare ASGI application: what remains without Litestar. `python -m scripts.benchmarks.bare_lookups PORT`."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from streams.settings import load_settings
from streams.web.directory import Directory
from streams.web.keys import Keys
from streams.web.settings import load_console_settings


def application() -> Any:
    settings, console = load_settings(), load_console_settings()
    assert settings.redis_url is not None
    directory = Directory(settings.redis_url, settings.redis_prefix, settings.app_version)
    keys = Keys(console.keys_file)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        key = next((value.decode() for name, value in scope["headers"] if name == b"x-api-key"), "")
        found = None if keys.find(key) is None else await directory.customer(scope["path"].rpartition("/")[2])
        body, etag = (b"", "") if found is None else (found.body, found.etag)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"etag", etag.encode()),
        ]
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


if __name__ == "__main__":
    uvicorn.run(
        application(), port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="warning",
    )  # fmt: skip
