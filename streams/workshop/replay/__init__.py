"""Folding logs into output files: in one process or several, from a checkpoint or from a worker's table.

Public: `Replay` (fold.py), `replay_logs`, `replay_journal` (run.py), `replay_in_shares` (shares.py), `Checkpoint`
(checkpoint.py), `read_seed` (seed.py). The bytes are those of the worker, since both hold the same engine.
"""
