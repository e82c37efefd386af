"""The command line that all contenders share; `kafka-streams` has the same in Java."""

import argparse
from pathlib import Path


def parser(description: str, program: str) -> argparse.ArgumentParser:
    """A parser of the common options. `program` is the file's name, for the example."""
    made = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {program} --broker 127.0.0.1:9092 --source purchases --name try1\n"
        "It reads the source from its beginning and runs until SIGTERM.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--broker", required=True, metavar="HOST:PORT")
    made.add_argument("--source", required=True, metavar="TOPIC", help="purchases as JSON, keyed by customer_id")
    made.add_argument(
        "--name", required=True, help="consumer group, application id, and what its topics' names have in them"
    )
    return made


def state_option(made: argparse.ArgumentParser) -> None:
    """The option of those engines that keep files."""
    made.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where the engine keeps its files; default: a new folder, removed at the end",
    )
