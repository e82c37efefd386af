"""Clients of Kafka: librdkafka for commands and the console, aiokafka for the worker, and an embedded broker for the demo."""
