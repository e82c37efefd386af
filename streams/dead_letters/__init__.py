"""Dead letters, the records that could not be used: listing, repairing, sending again and dismissing them.

Public: `DeadLetters`, `Sending` (topic.py), `Ledger`, `DeadLetter`, `DeadLettersError` (ledger.py), `repaired`
(repair.py). It reads and writes topics, and does not know the worker that refused the records.
"""
