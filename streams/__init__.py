"""Tierstream's shell: Kafka, Faust, Redis and the command line around the pure core in `models`."""

from models import _compiled

__path__[:0] = _compiled.find("streams")
