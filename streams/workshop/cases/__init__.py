"""Customers whose result is known beforehand, in a file, run against a policy like unit tests.

Public: `load_cases`, `Case` (cases.py), `run_cases`, `Outcome` (runs.py), `example_of` (example.py). It knows no log
and no broker.
"""
