"""Look-ups for programs: /v1, and the one look-up that comes thousands of times a second."""
