"""Examines an installation (broker, topics, rights, Redis, clock, policy) and says what is wrong and what to do.

Public: `examine` (checks.py), `Finding` (finding.py), `doctor` (cli.py). It changes nothing anywhere.
"""
