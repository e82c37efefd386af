"""Changing what runs: activating a policy, and app versions that are built, compared, forked and switched to.

Public: the commands (activate_cli.py, rebuild_cli.py), `Version` (two_tables.py), `read_table` (offline_partition.py).
It folds partitions with the worker's own code, while no worker owns them.
"""
