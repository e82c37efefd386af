"""What is done with a log and a policy without a worker: replay, fit, backtest."""
