"""Signing in: people and programs, passwords, OpenID Connect, API keys, sessions, throttling.

Public: `Users`, `Person` (people.py), `Keys` (keys.py), `Sessions` (sessions.py), `OpenIdConnect` (oidc.py), `Throttle`
(throttle.py). It knows no page and no customer.
"""
