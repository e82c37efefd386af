"""The images that the tests run. An engine that somebody runs has, or fetches, those that the project's files name. The tests'
own engine can reach no registry: stand-ins for them are made of Debian's packages, once, and say so in a label.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from streams.local.children import Children
from streams.local.kafka import fetch_jars
from tests.builders import ROOT
from tests.containers.engine import CACHE, Engine, lock

RECIPES = Path(__file__).with_name("stand_ins")
LABEL = "tierstream.stand-in"
"""Of a stand-in, the fingerprint of the recipe that it was made by."""
PYTHON, REDIS, KAFKA = (f"tierstream-stand-in/{name}" for name in ("python", "redis", "kafka"))
IMAGE = "tierstream:local"
DEBIAN = "bookworm"
PACKAGES = "ca-certificates,python3-dev,python3-pip,python3-venv"
IN_PATH = 'ln -s python3 "$1/usr/bin/python"'
BUILD_SECONDS = 1200


def make_stand_ins(engine: Engine) -> None:
    """Make what the engine lacks: Python's image, Redis's and Kafka's."""
    recipe = fingerprint()
    with lock(CACHE / "stand-ins.lock"):
        if all(label_of(engine, image) == recipe for image in (PYTHON, REDIS, KAFKA)):
            return
        import_debian(engine, recipe)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            for path in RECIPES.iterdir():
                shutil.copy(path, folder)
            shutil.copytree(kafka_jars(), Path(folder, "jars"), copy_function=os.link)
            for image in (REDIS, KAFKA):
                build = [
                    "build",
                    "--network",
                    "host",
                    "--build-arg",
                    f"DEBIAN={PYTHON}",
                    "--label",
                    f"{LABEL}={recipe}",
                ]
                target = image.rpartition("/")[2]
                engine.docker(*build, "--target", target, "--tag", image, folder, seconds=BUILD_SECONDS)


def fingerprint() -> str:
    """What the stand-ins are made by: other recipes give another text."""
    parts = [path.read_bytes() for path in sorted(RECIPES.iterdir())]
    parts += [f"{DEBIAN} {PACKAGES} {IN_PATH} {kafka_jars().name}".encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def label_of(engine: Engine, image: str) -> str | None:
    """The label of a stand-in; None if the engine does not have the image."""
    said = engine.docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image, check=False)
    return said.strip() if "No such image" not in said else None


def import_debian(engine: Engine, recipe: str) -> None:
    """Make an image of Debian with Python, which stands in for Python's own image and which the others build on."""
    changes = [f"LABEL {LABEL}={recipe}", "ENV LANG=C.UTF-8 PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        packed = Path(folder, "debian.tar")
        make = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={PACKAGES}"]
        # What is lost if this machine stops is made again.
        engine.run(
            *make, "--dpkgopt=force-unsafe-io", f"--customize-hook={IN_PATH}", DEBIAN, packed, seconds=BUILD_SECONDS
        )
        options = [word for change in changes for word in ("--change", change)]
        engine.docker("import", *options, packed, PYTHON, seconds=BUILD_SECONDS)


def kafka_jars() -> Path:
    """The folder with the jars of the Kafka that scripts/kafka runs."""
    with tempfile.TemporaryDirectory() as logs, Children(Path(logs)) as children:
        return fetch_jars(children, print)


def build_image(engine: Engine, revision: str) -> str:
    """Build Tierstream's image as anybody would, through this machine's package index and certificates; returns what the
    engine said.
    """
    command = ["build", "--progress", "plain", "--build-arg", f"REVISION={revision}", "--tag", IMAGE]
    if engine.tools:
        command += ["--network", "host", "--build-arg", f"PYTHON_IMAGE={PYTHON}"]
    with tempfile.TemporaryDirectory() as folder, lock(CACHE / "image.lock"):
        pip = Path(folder, "pip.conf")
        pip.write_text(index_settings(), "utf-8")
        secrets = {"pip": str(pip), "ca": os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile}
        for name, path in secrets.items():
            if path and Path(path).exists():
                command += ["--secret", f"id={name},src={path}"]
        return engine.docker(*command, ROOT, seconds=BUILD_SECONDS)


def index_settings() -> str:
    """The package index that this machine's pip is set to, as a configuration file of pip."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list", "--quiet"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    wanted = [line.partition("=") for line in listed.splitlines() if line.partition("=")[0].endswith("index-url")]
    return "\n".join(
        ["[global]", *(f"{name.rpartition('.')[2]} = {value.strip(chr(39))}" for name, _, value in wanted), ""]
    )


def inspected(engine: Engine, image: str) -> dict[str, object]:
    """What the engine knows of an image."""
    (found,) = json.loads(engine.docker("image", "inspect", image))
    return dict(found)
