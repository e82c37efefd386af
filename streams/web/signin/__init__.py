"""Signing in: API keys of programs; passwords, OpenID Connect and sessions of people; throttling of failed attempts.

Public: `Users`, `Person` (people.py), `Keys` (keys.py), `Sessions` (sessions.py), `OpenIdConnect` (oidc.py), `Throttle`
(throttle.py). It knows no page and no customer.
"""
