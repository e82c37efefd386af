"""Who may come in: people and programs, passwords, OpenID Connect, sessions, throttling."""
