"""Processes beside a command: they are ended in order, whatever happens, and a failure names its process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from streams.local.children import SIGNALS, ChildError, Children, Stopped, free_port, is_taken
from tests.integration.harness import wait_until

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True)); {SLEEPER}"
RECORDER = """
import signal, sys, time
def end(*_):
    with open(sys.argv[1], "a") as file:
        print(sys.argv[2], file=file)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(600)
"""
PARENT = (
    f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]).pid, flush=True); {SLEEPER}"
)


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def is_up(log: Path) -> bool:
    return "up" in log.read_text()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The signals' handlers are afterwards as they were before."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_the_last_one_started_is_ended_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    with Children(tmp_path) as children:
        for name in ("store", "worker", "console"):
            child = children.start(name, python(RECORDER, str(order), name))
            children.wait_for(child, lambda log=child.log: is_up(log), 60)  # type: ignore[misc]
    assert order.read_text().split() == ["console", "worker", "store"]


def test_a_process_that_ends_is_named_with_its_status_and_the_end_of_its_log(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        sleeper = children.start("a sleeper", python(SLEEPER))
        children.start("the worker", python("print('2026 INFO all is well'); raise SystemExit('no more disk')"))
        with pytest.raises(ChildError) as failed:
            children.rest(60)
        assert str(failed.value) == "the worker ended with status 1; the end of its log:\nno more disk"
        assert sleeper.process.poll() is None
    assert sleeper.process.poll() is not None


def test_a_process_that_is_killed_is_named_with_the_signal(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("the worker", python(SLEEPER))
        children.wait_for(child, lambda: is_up(child.log), 60)
        child.process.kill()
        with pytest.raises(ChildError, match="the worker was ended by SIGKILL; the end of its log:\nup"):
            children.rest(60)


def test_a_process_that_is_not_ready_in_time_is_named(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("the console", python(SLEEPER))
        with pytest.raises(ChildError, match="the console was not ready within 0 s"):
            children.wait_for(child, lambda: False, 0.01)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_whatever_waits_and_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(Stopped), Children(tmp_path) as children:
        child = children.start("a sleeper", python(SLEEPER))
        os.kill(os.getpid(), number)
        children.wait_for(child, lambda: False, 60)
    assert child.process.returncode == -signal.SIGTERM


def test_a_signal_ends_a_tool_that_runs(tmp_path: Path) -> None:
    with pytest.raises(Stopped), Children(tmp_path) as children:
        os.kill(os.getpid(), signal.SIGTERM)
        children.run("a tool", python(SLEEPER), seconds=60)


def test_a_tool_that_fails_says_what_it_printed(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        assert children.run("a tool", python("print(input())"), seconds=60, typed="yes\n") == "yes\n"
        with pytest.raises(ChildError, match="a tool failed with status 1; the end of its log:\nno network"):
            children.run("a tool", python("raise SystemExit('no network')"), seconds=60)


def test_a_further_signal_kills_what_does_not_end(tmp_path: Path) -> None:
    def hurry() -> None:
        wait_until(lambda: "no" in child.log.read_text(), 60, "it was asked to end")
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped), Children(tmp_path) as children:
        child = children.start("a stubborn one", python(STUBBORN))
        children.wait_for(child, lambda: is_up(child.log), 60)
        Thread(target=hurry, daemon=True).start()
        os.kill(os.getpid(), signal.SIGINT)
        children.rest(60)
    assert child.process.returncode == -signal.SIGKILL


def test_what_a_process_has_started_ends_with_it(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("a parent", python(PARENT))
        children.wait_for(child, lambda: is_up(child.log), 60)
        grandchild = int(child.log.read_text().split()[0])
        assert is_alive(grandchild)
    wait_until(lambda: not is_alive(grandchild), 60, "the grandchild is gone")


def test_sigint_counts_where_a_shell_has_it_ignored_and_sighup_stays_ignored_under_nohup(tmp_path: Path) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        with Children(tmp_path) as children:
            os.kill(os.getpid(), signal.SIGHUP)
            children.check()
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(Stopped):
                children.check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_wanted_port_is_given_only_if_it_is_free() -> None:
    free = free_port()
    assert not is_taken(free)
    assert free_port(free) == free
    with socket.create_server(("127.0.0.1", free)):
        assert is_taken(free)
        assert free_port(free) != free
