"""Pages to monitor the worker: /healthz (alive), /readyz (restored and caught up), /stats (counts), /metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from streams.worker.faust_app import TierstreamApp
    from streams.worker.gauges import Gauges
    from streams.worker.partition import PartitionWorker


def attach(app: TierstreamApp, gauges: Gauges) -> None:
    """Give the app its pages."""

    @app.page("/healthz")
    async def healthz(web: Any, request: Any) -> Any:
        alive = app.failure is None
        return web.json({"alive": alive, "failure": None if alive else str(app.failure)}, status=200 if alive else 503)

    @app.page("/readyz")
    async def readyz(web: Any, request: Any) -> Any:
        ready = app.is_ready()
        body = {
            "ready": ready,
            "partitions": {n: worker.caught_up for n, worker in sorted(app.partition_workers.items())},
        }
        return web.json(body, status=200 if ready else 503)

    @app.page("/stats")
    async def stats(web: Any, request: Any) -> Any:
        workers = app.partition_workers.values()
        waits_for = [what for worker in workers for what in worker.waits_for()]
        if app.feed is not None:
            waits_for += app.feed.waits_for()
        return web.json(
            {
                **app.stats.as_dict(),
                "ready": app.is_ready(),
                "drained": app.is_ready() and not waits_for,
                "waits_for": waits_for,
                "customers": sum(len(worker.table.customers) for worker in workers if worker.table is not None),
                "policy": app.policy.ref,
                "shadow": None if app.shadow_policy is None else _shadow(app.shadow_policy.ref, workers),
                "policies_in_force": sorted({editions.current.ref for editions in app.editions_held()}),
            }
        )

    @app.page("/metrics")
    async def metrics(web: Any, request: Any) -> Any:
        await gauges.ask_redis()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.bytes(encode(app.stats.registry), headers={"Content-Type": content_type})


def _shadow(ref: str, workers: Iterable[PartitionWorker]) -> dict[str, Any]:
    shadows = [one.shadow for one in workers if one.shadow is not None]
    return {
        "policy": ref,
        "customers": sum(len(one.table.customers) for one in shadows if one.table is not None),
        "off": sorted({one.refusal for one in shadows if one.refusal is not None}),
    }
