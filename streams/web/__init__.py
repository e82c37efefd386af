"""What people and other programs read over HTTP: look-ups of customers and alerts, and the console. It needs Redis, not Kafka, to read."""
