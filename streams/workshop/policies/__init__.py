"""Making and reading policies: questions, round thresholds from a log, a policy in words.

Public: `sections` (words.py), `read_spend` (spend_log.py). It proposes; what a policy means is in `models`.
"""
