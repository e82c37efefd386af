"""The command line that all contenders in Python share; `kafka-streams` has the same one in Java."""

import argparse
from pathlib import Path


def parser(description: str, program: str) -> argparse.ArgumentParser:
    """A parser of the common options. `program` is the file's name, for the example."""
    created = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {program} --broker 127.0.0.1:9092 --source purchases --name try1\n"
        "It reads the source from its beginning and runs until SIGTERM.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    created.add_argument("--broker", required=True, metavar="HOST:PORT")
    created.add_argument("--source", required=True, metavar="TOPIC", help="purchases as JSON, keyed by customer_id")
    created.add_argument(
        "--name", required=True, help="the consumer group, the application id, and a part of the topics' names"
    )
    return created


def state_option(arguments: argparse.ArgumentParser) -> None:
    """Add the option of engines that keep files."""
    arguments.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where the engine keeps its files; default: a new folder, removed at the end",
    )
