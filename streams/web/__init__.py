"""The web console for people and the look-ups for programs, over HTTP. Reading needs Redis, not Kafka.

Public: `create_app` (app.py), `serve` (serve.py), `console_app` (cli.py). It does not know the worker: it reads the
serving view, and sends commands.
"""
