"""What pages and look-ups share: Redis, the audit trail, commands on their way out, guards."""
