"""Tierstream's shell: Kafka, Faust, Redis and the command line around the pure core in `models`.

Each folder is a room with one concern. It imports only from rooms of lower layers; docs/architecture.md has the layers.
"""
