"""Customers whose result is known beforehand, in a file, run against a policy like unit tests.

Public: `load_cases`, `Case` (case_file.py), `run_cases`, `Outcome` (runner.py), `example_of` (example.py). It knows no log
and no broker.
"""
