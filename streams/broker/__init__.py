"""Clients of Kafka: librdkafka for commands and the console, aiokafka for the worker, and an embedded broker for the demo.

Public: `connection`, `reading`, `writing` (librdkafka.py), `Reader` (group_reader.py), `create_topics`
(topic_creation.py), `partition_of` (partitioner.py), `Offsets` (offsets.py), `install` (aiokafka_patches.py). It knows
neither Faust nor what a record means.
"""
