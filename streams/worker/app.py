"""The composition root: builds a worker from settings, policy, patches, Faust app, agents, gauges and health pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.policy import Policy
from streams.broker import aiokafka_patches
from streams.settings import Settings
from streams.worker import agents, health
from streams.worker.faust_app import TierstreamApp
from streams.worker.gauges import Gauges
from streams.worker.no_tables import NoTables
from streams.worker.transport import credentials

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans


def create_app(settings: Settings, policy: Policy, spans: Spans | None = None) -> TierstreamApp:
    """The worker's app, complete and not yet started. Raises UnknownVersion for an aiokafka version without patches."""
    aiokafka_patches.install()
    seconds = settings.session_timeout / 1000
    app = TierstreamApp(
        settings,
        policy,
        spans,
        broker=[f"aiokafka://{server}" for server in settings.broker.split(",")],
        broker_credentials=credentials(settings),
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_max_fetch_size=1 << 20,
        broker_max_poll_records=2 * settings.max_batch,
        broker_commit_interval=settings.commit_interval / 1000,
        broker_session_timeout=seconds,
        broker_heartbeat_interval=max(seconds / 5, 0.5),
        broker_request_timeout=max(3 * seconds, 30.0),
        TableManager=NoTables,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        web_enabled=True,
        web_host=settings.web_host,
        web_port=settings.web_port,
        web_bind=settings.web_host,
        worker_redirect_stdouts=False,
    )
    gauges = Gauges(app)
    app.stats.registry.register(gauges)
    agents.attach(app)
    health.attach(app, gauges)
    return app
