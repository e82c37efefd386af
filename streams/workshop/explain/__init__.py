"""One customer's story, and what one more event would do: from a log, the worker's table, or the serving view."""
