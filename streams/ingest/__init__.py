"""Live sources: topics of any shape, mapped, keyed by customer and carried into the input topics, exactly once.

Public: `run_ingest`, `ingest_beside` (run.py), `find_sources` (sources.py), `ingest` (cli.py). It decides nothing that
the worker decides: whether a body is a valid event under a policy it does not know.
"""
