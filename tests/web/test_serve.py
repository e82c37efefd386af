"""What the console says when it starts, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from streams.web.signin.people import set_user
from tests.builders import ROOT
from tests.integration.harness import free_port, wait_until
from tests.web.people import PASSWORD


def log_of_a_start(folder: Path, **settings: str) -> list[str]:
    """The sentences that a console logs until it listens, and after that until it has ended."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIERSTREAM_")}
    own = {
        "TIERSTREAM_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "TIERSTREAM_CONSOLE_PORT": str(free_port()),
        "TIERSTREAM_CONSOLE_USERS_FILE": str(folder / "users.toml"),
        "PYTHONPATH": str(ROOT),
    }
    log = folder / "log"
    with log.open("wb") as sink:
        console = subprocess.Popen(
            [sys.executable, "-m", "streams", "console"],
            env=inherited | own | settings,
            stdout=sink,
            stderr=sink,
            cwd=folder,
        )
    try:
        wait_until(lambda: "the console is at" in log.read_text("utf-8"), 60, lambda: log.read_text("utf-8"))
    finally:
        console.send_signal(signal.SIGTERM)
        assert console.wait(20) == 0, log.read_text("utf-8")
    return [line.partition(": ")[2] for line in log.read_text("utf-8").splitlines()]


def test_the_console_says_where_it_is_and_how_people_come_in_while_nobody_can(tmp_path: Path) -> None:
    url = "http://console.example.com"
    where, how = f"the console is at {url}", "nobody can sign in yet: tierstream console users add lin --role manager"
    assert log_of_a_start(tmp_path, TIERSTREAM_CONSOLE_URL=url) == [where, how]
    set_user(tmp_path / "users.toml", "lin", "manager", PASSWORD)
    assert log_of_a_start(tmp_path, TIERSTREAM_CONSOLE_URL=url) == [where]
