"""Fitting the risk score and the spend to a log, and judging them out of time: histories, commands, the report.

Public: `read_history` (history_reader.py), `Report` (backtest_report.py), `fit`, `backtest` (cli.py). The mathematics is in
`models.fitting`.
"""
