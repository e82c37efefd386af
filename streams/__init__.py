"""Tierstream's shell: Kafka, Faust, Redis and the command line around the pure core in `models`."""
