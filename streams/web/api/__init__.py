"""The look-ups for programs, under /v1.

Public: `lookups` (lookups.py), the router; `FastLookup` (fast_lookup.py), which answers the most frequent look-up
without routing. It does not know pages and people.
"""
