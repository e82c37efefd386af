"""Two policies over the same log in one pass: which customers would move, as figures, a table and a page.

Public: `compare` (comparison.py), `Report` (report.py), `page` (page.py), `diff` (cli.py). It folds without bodies:
states and changes only.
"""
