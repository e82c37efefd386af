"""The serving view in Redis, as readers see it: customers, alerts in a queue, the policies that they were judged under."""
