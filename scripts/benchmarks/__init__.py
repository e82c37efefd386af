"""How fast the worker is, next to its peers, on a real Kafka; driven and timed from outside."""
