"""The worker: Faust's group and agents around one engine a partition. Nothing outside this room imports Faust.

Public: `create_app` (app.py), `Flow` (flow.py), which shows a batch from its records to its commit, `PartitionWorker`
(partition.py), `PartitionContext` (context.py), which is all that a partition knows of the application around it.
"""
