"""What a process reports about itself: counters, spans, and log lines that name no customer.

Public: `Stats` (stats.py), `open_tracing` (tracing.py), `Spans` (spans.py, the only importer of OpenTelemetry),
`set_up_logging`, `customer_hash` (logs.py). It does not know what is done with its figures, nor the broker.
"""
