"""Changes of a running system: activates policies; builds, compares, seeks and switches app versions.

Public: the commands (activate_cli.py, rebuild_cli.py), `Version` (table_comparison.py), `read_table` (offline_partition.py),
`version_text` (about.py), which says which build this is. It folds partitions with the worker's own code, while no
worker owns them.
"""
