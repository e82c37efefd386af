"""Records that could not be used: listing, repairing, sending again, and the outcome of each.

Public: `Ledger`, `Letter`, `DeadLettersError` (ledger.py), `DeadLetters`, `Sending` (on_broker.py). It reads and writes
topics, and does not know the worker that refused the records.
"""
