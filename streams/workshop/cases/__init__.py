"""Customers worked out by hand, run against a policy like unit tests."""
