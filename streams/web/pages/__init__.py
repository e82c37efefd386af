"""The console's pages for people, with their templates and static files.

Public: `console_pages` (console_pages.py), the routes. It does not know how services reach Redis and Kafka.
"""
