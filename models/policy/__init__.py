"""A policy: how a customer's value becomes a tier and their silence a risk, and everything about its file.

`Policy` is what the fold uses; `load` makes one from a TOML file and says what is wrong with the file. Editions are the
numbered periods during which a policy, with its parameters and thresholds, is in force (models.policy.editions).
"""

from models import _compiled

__path__[:0] = _compiled.find("models.policy")

# ruff: noqa: E402
from models.policy.file import SHIPPED, load, parse, parse_with, with_parameters
from models.policy.policy import Action, Policy, RelativeRules, Segment
from models.policy.problems import PolicyError, Problem

__all__ = [
    "SHIPPED",
    "Action",
    "Policy",
    "PolicyError",
    "Problem",
    "RelativeRules",
    "Segment",
    "load",
    "parse",
    "parse_with",
    "with_parameters",
]
