"""For notebooks and scripts: fold events under a policy, here and now, and get the results as objects or tables.

    from streams.library import compare, replay

    result = replay("purchases.jsonl", "annual-spend", until="1998-07-01")
    result.tier_changes[0].after.tier
    result.to_pandas("profiles")

It is the same fold as everywhere: the bytes are those of `tierstream replay`. Public is what `__all__` names. Nothing here
needs a broker, or imports a client of one; tables need the packages of the extra `notebook`, and only when one is asked
for. docs/tutorial.ipynb is an example.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streams.library.dataframes import MissingPackageError
from streams.library.replay_result import DeadLetter, Records, Replayed, Story, replay

if TYPE_CHECKING:
    from streams.library.comparison_result import Compared, compare

__all__ = ["Compared", "DeadLetter", "MissingPackageError", "Records", "Replayed", "Story", "compare", "replay"]


def __getattr__(name: str) -> Any:
    """The comparison is imported when it is asked for: it needs NumPy and SciPy, which a replay does not."""
    if name in ("Compared", "compare"):
        return getattr(import_module("streams.library.comparison_result"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
