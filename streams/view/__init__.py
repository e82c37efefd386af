"""The serving view in Redis: customers, the queue of churn alerts, and the policies in force.

Public: `RedisView` (customers.py), `AlertQueue` (queue.py), `PolicyReader` (policies_in_force.py), `update_of`
(updates.py). It does not know the worker that feeds it, nor Kafka.
"""
