"""Two policies over the same log in one pass: who would move, as figures, a table and a page."""
