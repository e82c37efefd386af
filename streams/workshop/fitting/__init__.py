"""Fitting the score to a log, and judging it out of time: histories, the commands, the report."""
