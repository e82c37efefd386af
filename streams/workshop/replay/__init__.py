"""Folding logs into output files: in one process or several, from a checkpoint or a worker's table."""
