"""Fits a policy's parameters to a log, offline: when customers buy and leave (purchase_process), what they spend
(spend), and the weights of the risk score (score_card). It is vectorised with numpy, and no code that handles events
imports it.
"""
