"""The console without its short way: every look-up goes through Litestar. `python -m
scripts.benchmarks.lookups_by_litestar PORT`.
"""

from __future__ import annotations

import sys

from streams.settings import load_settings
from streams.web.app import create_app
from streams.web.serve import run
from streams.web.settings import load_console_settings

if __name__ == "__main__":
    settings, console = load_settings(), load_console_settings(port=int(sys.argv[1]))
    sys.exit(run(create_app(settings, console), console))
