"""Clients of Kafka: librdkafka for commands and the console, aiokafka for the worker; an embedded broker for the demo.

Public: `connection_options`, `reader_options`, `producer_options`, `read_records` (librdkafka.py), `Reader`
(group_reader.py), `create_topics` (topic_creation.py), `OffsetTracker`
(offset_tracker.py), `install` (aiokafka_patches.py). It knows neither Faust nor what a record means.
"""
