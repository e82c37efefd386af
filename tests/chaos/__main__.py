"""The chaos proof from the command line."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.driver import run
from tests.chaos.faults import FAULTS

EXAMPLE = f"""example:
  python -m tests.chaos --minutes 20 --seed 7 --json chaos.json
  python -m tests.chaos --minutes 3 --faults kill_at,zombie --keep
faults: {", ".join(FAULTS)}
exit status: 0 nothing lost, no mismatch and no unexpected exit; 1 otherwise; 2 wrong use"""


def main() -> int:
    """Run the proof with the options of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Have workers fold a random log while faults are injected, then verify that no fault had an effect.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=5, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the log and the faults; default: %(default)s")
    parser.add_argument("--workers", type=int, default=3, choices=[1, 2, 3, 4], help="default: %(default)s")
    parser.add_argument("--delivery", default="exactly-once", choices=["exactly-once", "at-least-once"])
    parser.add_argument("--faults", metavar="NAME,...", help="only these; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary into this file, too")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and Kafka's data")
    args = parser.parse_args()
    only = set(args.faults.split(",")) if args.faults else None
    if only and only - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(only - set(FAULTS)))}")
    # On SIGTERM its workers, brokers and Redis end with it, as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="tierstream-chaos-"))
    is_fine = False
    try:
        summary = run(args.minutes, args.seed, folder, args.workers, args.delivery, only=only, say=_say)
        is_fine = summary["lost"] == 0 and summary["mismatches"] == 0 and not summary["unexpected_exits"]
    finally:
        if is_fine and not args.keep:
            shutil.rmtree(folder)
        else:
            _say(f"logs and data are in {folder}")
    rows = list(_rows(summary))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        _say(f"{name:{width}}  {value}")
    if args.json:
        args.json.write_text(json.dumps(summary, indent=2, default=str) + "\n")
    return 0 if is_fine else 1


def _rows(summary: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """One row for each plain value; the names of a dict's values begin with the dict's name."""
    for name, value in summary.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", len(value)
            for number, one in enumerate(value):
                shown = {key: part for key, part in one.items() if key != "said"} if isinstance(one, dict) else one
                yield f"{prefix}{name}[{number}]", shown
        else:
            yield f"{prefix}{name}", f"{value:,}" if isinstance(value, int) else value


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
