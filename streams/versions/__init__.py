"""Changing what runs: activating a policy, and app versions built, compared, forked and switched to beside the present one."""
