"""Tools over logs, without a worker: replay, compare, explain, policies and their cases, fitting."""
