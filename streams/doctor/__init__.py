"""Examines an installation (policy, broker, topics, rights, Redis, clocks, a worker) and says what is wrong and what to do.

Public: `examine` (checks.py), `Finding` (finding.py), `doctor` (cli.py). It changes nothing anywhere.
"""
