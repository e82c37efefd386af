"""Making and reading policies: questions, thresholds from a log, a policy in words."""
