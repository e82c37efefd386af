"""Tools over logs, without a worker: replays, comparisons, stories, policies and their cases, fitting.

Each folder is a tool; `replay` is below the others, `policies` above them. They read logs and write files, and never a topic.
"""
