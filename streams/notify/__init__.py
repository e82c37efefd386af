"""What leaves by itself for people: alerts to a webhook within a daily budget, the digest of a day."""
