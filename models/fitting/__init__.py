"""Parameters fitted to a log, offline, by maximum likelihood: of when customers buy and leave (purchase_process) and of
what they spend (spend). Vectorised: it imports numpy, and nothing that handles events imports it.
"""
