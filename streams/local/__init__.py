"""A whole installation on this machine, for development: `tierstream up`.

Public: `Children`, `ChildError`, `Stopped` (children.py), `Broker`, `KafkaError`, `find_kafka`, `from_maven`,
`fetch_jars` (kafka.py), `start_redis` (redis_server.py), `start_worker`, `start_console`, `answers` (installation.py).
children.py and kafka.py need nothing but Python, as scripts/kafka does.
"""
