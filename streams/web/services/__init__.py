"""What pages and look-ups share: reading Redis and the table, sending commands, the audit trail, guards.

Public: `services`, `Services` (container.py), which gives a handler all of them. It knows no page.
"""
