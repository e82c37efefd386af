"""The worker: Faust's group and agents around one engine a partition. Nothing outside this room imports Faust."""
