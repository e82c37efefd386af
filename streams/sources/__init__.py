"""Where events are read from: files in several forms, through mappings, sorted where needed, and Kafka's topics.

Public: `open_logs` (named_logs.py), `Log`, `LogError` (logs.py), `KafkaLog` (kafka_log.py), `Mapping` (mapping.py),
`SortedLog` (sorting.py). It yields records; it does not fold them, and knows no policy.
"""
