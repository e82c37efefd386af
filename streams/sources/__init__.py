"""Where events are read from: files in several forms, and Kafka's topics."""
