"""Making and reading policies: questions, round thresholds from a log, a policy in words.

Public: `sections` (sentences.py), `read_spend` (spend_history.py). It proposes; what a policy means is in `models`.
"""
