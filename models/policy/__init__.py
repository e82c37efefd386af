"""A policy, its TOML file, its editions and the census: how a customer's value becomes a tier and their silence a risk.

Public: `Policy`, which the fold uses; `load`, `parse` and `PolicyError` (file.py, problems.py), which say what is wrong
with a file; editions (editions.py), the numbered periods during which a policy, with its parameters and thresholds, is
in force. It knows nothing of the fold, and reads no file but a policy's and its parameters'.
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
