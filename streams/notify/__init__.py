"""Notifications for people: alerts to a webhook, within a daily budget if one is wanted, and the digest of a day.

Public: `Sender`, `run` (push.py), `Webhook`, `verify` (webhook.py), `DailyBudget` (daily_budget.py), `Digest`
(digest.py). It reads topics and the serving view, and does not know the worker.
"""
