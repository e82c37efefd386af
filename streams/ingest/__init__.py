"""What fills the input topics: live sources, mapped and carried exactly once, and logs, which are loaded.

Public: `run_ingest`, `ingest_beside` (run.py), `find_sources` (sources.py), `ingest` (cli.py), `Loader` (load.py), `load`
(load_cli.py). Live sources decide nothing that the worker decides: whether a body is a valid event under a policy they do
not know. A load refuses what the worker could not decode.
"""
