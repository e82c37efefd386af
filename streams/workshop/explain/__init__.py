"""One customer's story, and what further events would do: from a log, the journal, the worker's table or the view.

Public: `story_from_log`, `Story`, `ExplainError` (story.py), `what_if` (what_if.py), `explain` (cli.py). It writes
nothing anywhere.
"""
