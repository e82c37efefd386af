"""Examines an installation: broker, topics, Redis, clock, policy. Says what is wrong and what to do; changes nothing."""
