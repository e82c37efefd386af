"""Opens tracing with OpenTelemetry, if `TIERSTREAM_TRACING_ENDPOINT` names a collector.

Without a collector nothing of OpenTelemetry is imported, and tracing costs one check per batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.settings import Settings, SettingsError

if TYPE_CHECKING:
    from streams.telemetry.spans import Spans

WORKER: Final = "tierstream-worker"
CONSOLE: Final = "tierstream-console"


def open_tracing(settings: Settings, service: str) -> Spans | None:
    """The maker of a process's spans; None if no collector is named. `service` is the process's name. Raises
    SettingsError.
    """
    if settings.tracing_endpoint is None:
        return None
    try:
        from streams.telemetry.spans import Spans
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            "TIERSTREAM_TRACING_ENDPOINT: tracing needs packages that are not installed; "
            "pip install 'tierstream[tracing]', or leave it empty"
        ) from None
    try:
        return Spans(settings, service)
    except ValueError as error:
        raise SettingsError(
            f"TIERSTREAM_TRACING_ENDPOINT: tracing can't begin: {error}; look at the variables OTEL_... of the environment"
        ) from None
