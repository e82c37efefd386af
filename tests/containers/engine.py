"""A Docker engine for the tests: the one that DOCKER_HOST names or that answers, or else one of their own.

Their own is made of Debian's packages, in a folder of its own: nothing is installed, and it listens on a socket that only the
tests know. It leaves this machine's network and its rules alone: containers of a network reach each other, and this machine
reaches their published ports, but they reach nothing outside. What is built takes this machine's network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.builders import ROOT

CACHE = ROOT / ".cache" / "containers"
PACKAGES = (
    "docker.io", "containerd", "runc", "tini", "mmdebstrap",
    # Within each container, the engine sends questions for names to itself by iptables.
    "iptables", "libip4tc2", "libip6tc2", "libxtables12", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11", "libmnl0",
)  # fmt: skip


class NoEngine(Exception):
    """No engine can be had. Its text says why, in a sentence."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers."""

    environment: dict[str, str]
    """What a command needs beside the machine's environment in order to reach it."""
    tools: Path | None = None
    """Of the tests' own engine, the folder with its programs; it has no images but those that the tests make."""

    def run(self, *command: str | Path, check: bool = True, seconds: float = 120, **more: str) -> str:
        """What a command prints, `docker` first of all. Fails with all that it printed, unless `check` is off."""
        environment = os.environ | self.environment | more
        done = subprocess.run(
            command, env=environment, timeout=seconds, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}"
        return done.stdout

    def docker(self, *arguments: str | Path, check: bool = True, seconds: float = 120) -> str:
        """What `docker` with these arguments prints."""
        return self.run("docker", *arguments, check=check, seconds=seconds)


@contextmanager
def running_engine() -> Iterator[Engine]:
    """An engine, for the block; the tests' own ends with the last block of all processes that use it.

    Raises NoEngine.
    """
    if answers({}):
        yield Engine({})
        return
    if given := os.environ.get("DOCKER_HOST"):
        raise NoEngine(f"no Docker engine answers at {given}, which DOCKER_HOST names")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoEngine("there is no Docker engine, and only root on Debian can start one of its own")
    tools = fetch_tools()
    # A socket's path has at most 107 characters, so it is not within the checkout.
    folder = Path(tempfile.gettempdir(), f"tierstream-engine-{hashlib.sha256(bytes(CACHE)).hexdigest()[:12]}")
    environment = {
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_BUILDKIT": "1",
        "PATH": f"{tools / 'usr/bin'}:{tools / 'usr/sbin'}:{os.environ['PATH']}",
    }
    with (CACHE / "users.lock").open("w") as users:
        with lock(CACHE / "start.lock"):
            # Whoever holds the users' file uses the engine.
            fcntl.flock(users, fcntl.LOCK_SH)
            if not answers(environment):
                folder.mkdir(exist_ok=True)
                start(tools, folder, environment)
        try:
            yield Engine(environment, tools)
        finally:
            with lock(CACHE / "start.lock"):
                if is_last(users):
                    stop(folder)


def is_last(users: object) -> bool:
    """Whether no other process holds the file."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        return False
    return True


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Wait until no other process has the lock of this file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def answers(environment: dict[str, str]) -> bool:
    """Whether an engine answers there."""
    try:
        done = subprocess.run(
            ["docker", "version"], env=os.environ | environment, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def fetch_tools() -> Path:
    """The folder with the engine's programs; they are fetched once."""
    tools = CACHE / f"tools-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:8]}"
    with lock(CACHE / "tools.lock"):
        if tools.exists():
            return tools
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            # Who downloads as root has to say that no other user needs to read what comes.
            fetch = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *PACKAGES]
            if subprocess.run(fetch, cwd=folder, capture_output=True, timeout=300, check=False).returncode:
                subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True, timeout=300)
                subprocess.run(fetch, cwd=folder, check=True, capture_output=True, timeout=300)
            target = Path(folder, "tools")
            for package in Path(folder).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, target], check=True, timeout=120)
            (target / "usr/sbin/iptables").symlink_to("iptables-legacy")
            target.rename(tools)
    return tools


def start(tools: Path, folder: Path, environment: dict[str, str]) -> None:
    """Start the engine, and wait until it answers."""
    command = [
        "dockerd", "--host", environment["DOCKER_HOST"], "--data-root", CACHE / "data", "--exec-root", folder / "exec",
        "--pidfile", folder / "docker.pid", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
        "--userland-proxy-path", tools / "usr/sbin/docker-proxy", "--default-ulimit", "nofile=20000:20000",
        # A network of this machine's for all engines would be left behind, or taken from another one.
        "--bridge=none",
    ]  # fmt: skip
    (libraries,) = tools.glob("usr/lib/*-linux-gnu")
    own = {"LD_LIBRARY_PATH": str(libraries), "XTABLES_LIBDIR": str(libraries / "xtables")}
    log = folder / "dockerd.log"
    # A shell that ends at once: the engine is nobody's child, since another process of the tests may be the one to stop it.
    begin = ["sh", "-c", '"$@" >"$0" 2>&1 </dev/null & echo $!', log, *command]
    begun = subprocess.run(
        begin, env=os.environ | environment | own, check=True, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    pid = int(begun.stdout)
    deadline = time.monotonic() + 60
    while not answers(environment):
        if not is_running(pid) or time.monotonic() > deadline:
            said = log.read_text("utf-8", "replace")[-2000:]
            raise NoEngine(f"Docker's engine does not start on this machine: {said}")
        time.sleep(0.1)
    # A run of the tests that was killed may have left some, which come back with the engine.
    engine = Engine(environment, tools)
    if left := engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", *left)


def stop(folder: Path) -> None:
    """Stop the engine with all its containers, and leave nothing of it but what is cached."""
    pid = int((folder / "docker.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline, f"the engine (pid {pid}) does not end"
        time.sleep(0.05)
    unmount(folder)
    unmount(CACHE / "data")
    shutil.rmtree(folder)


def is_running(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def unmount(folder: Path) -> None:
    """Unmount all that is mounted within the folder."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted(mounted, reverse=True):
        if Path(path).is_relative_to(folder):
            subprocess.run(["umount", path], check=True, timeout=30)
