"""What a process says of itself: counters, spans, log lines that name no customer. Whoever runs without them pays nothing."""
