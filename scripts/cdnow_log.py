"""Write the CDNOW sample as an event log: purchases.jsonl (real), complaints.jsonl and feedback.jsonl (made up).

The purchases are the 6,919 of 2,357 real customers in scripts/data/CDNOW_sample.txt, in the order of their days; the
data has days and no hours, so every purchase has the time midnight UTC. Complaints, feedback and three unusable records
are made up by a seeded generator; their event ids begin with "made-up-". With --master: the 69,659 purchases of all
23,570 customers, and nothing else.

Example: scripts/cdnow-log /tmp/cdnow && ls /tmp/cdnow
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "CDNOW_sample.txt"
SEED = 1998
START = datetime(1997, 1, 1, tzinfo=UTC)
END = datetime(1998, 7, 1, tzinfo=UTC)
"""The day after the last day of the data."""
CATEGORIES = ("delivery", "quality", "price", "service", "wrong item")
REGIONS = ("north", "east", "south", "west")

Event = dict[str, Any]
Line = tuple[str, str, str, datetime]
"""Topic, key, text and time."""


def purchases(path: Path = DATA) -> list[Event]:
    """The real part: one purchase per line of the data, ordered by day."""
    events = []
    for line_number, line in enumerate(path.read_text("ascii").splitlines(), 1):
        customer_id, day, _, amount = line.split()[-4:]
        if not day.isdigit():
            continue  # the heading of the master file
        events.append(
            {
                "event_id": f"cdnow-{line_number:04}",
                "customer_id": customer_id,
                "kind": "purchase",
                "order_id": f"order-{line_number:04}",
                "amount": amount,
                "currency": "USD",
                "occurred_at": f"{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00Z",
            }
        )
    return sorted(events, key=lambda event: event["occurred_at"])


def made_up(bought: list[Event], seed: int = SEED) -> tuple[list[Event], list[Event]]:
    """Plausible complaints and feedback: one customer in twelve complains, one in four answers a survey."""
    chance = random.Random(seed)
    complaints: list[Event] = []
    feedback: list[Event] = []
    for purchase in bought:
        at = datetime.fromisoformat(purchase["occurred_at"])
        number = purchase["event_id"].removeprefix("cdnow-")
        if chance.random() < 0.03:
            complaints.extend(_complaint(chance, purchase["customer_id"], number, at))
        if chance.random() < 0.12:
            answered = at + timedelta(days=chance.randint(2, 9), seconds=chance.randrange(86_400))
            feedback.append(
                {
                    "event_id": f"made-up-feedback-{number}",
                    "customer_id": purchase["customer_id"],
                    "kind": "csat",
                    "score": min(100, max(0, round(chance.gauss(78, 14)))),
                    "occurred_at": _rfc3339(answered),
                }
            )
    before_end = lambda events: sorted(  # noqa: E731
        (event for event in events if event["occurred_at"] < _rfc3339(END)), key=lambda event: event["occurred_at"]
    )
    return before_end(complaints), before_end(feedback)


def _complaint(chance: random.Random, customer_id: str, number: str, bought: datetime) -> Iterator[Event]:
    at = bought + timedelta(days=chance.randint(1, 12), seconds=chance.randrange(86_400))
    severity = chance.choices(("low", "medium", "high", "critical"), (4, 4, 2, 1))[0]
    category = chance.choice(CATEGORIES)
    steps = ["opened"]
    if chance.random() < 0.2:
        steps.append("escalated")
    if chance.random() < 0.75:
        steps.append("resolved")
    for step, status in enumerate(steps):
        yield {
            "event_id": f"made-up-complaint-{number}-{step}",
            "customer_id": customer_id,
            "complaint_id": f"made-up-{number}",
            "status": status,
            "severity": severity,
            "category": category,
            "region": REGIONS[int(customer_id) % len(REGIONS)],
            "occurred_at": _rfc3339(at),
        }
        at += timedelta(days=chance.randint(1, 14), seconds=chance.randrange(86_400))


def unusable() -> list[str]:
    """Three records that become dead letters."""
    good = {
        "event_id": "made-up-bad-1", "customer_id": "0001", "kind": "purchase", "order_id": "made-up",
        "amount": "12.345", "currency": "USD", "occurred_at": "1997-06-01T00:00:00Z",
    }  # fmt: skip
    return [json.dumps(good), json.dumps(good | {"amount": "12.34", "currency": "DM"}), '{"event_id": "made-up-bad-3"']


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def in_order() -> list[Line]:
    """The whole log in the order of time; the unusable lines are last, with the key of a real customer."""
    bought = purchases()
    complaints, feedback = made_up(bought)
    log = [
        (topic, event["customer_id"], json.dumps(event), datetime.fromisoformat(event["occurred_at"]))
        for topic, events in (("purchases", bought), ("complaints", complaints), ("feedback", feedback))
        for event in events
    ]
    log.sort(key=lambda line: line[3])
    return log + [("purchases", "0001", text, END) for text in unusable()]


def write(folder: Path) -> dict[str, list[str]]:
    """Write the three files; returns their lines by topic."""
    lines: dict[str, list[str]] = {"purchases": [], "complaints": [], "feedback": []}
    for topic, _, text, _ in in_order():
        lines[topic].append(text)
    folder.mkdir(parents=True, exist_ok=True)
    for topic, texts in lines.items():
        (folder / f"{topic}.jsonl").write_text("\n".join(texts) + "\n", "utf-8")
    return lines


def write_master(folder: Path) -> dict[str, list[str]]:
    """Write the purchases of all customers, from a file of the package lifetimes."""
    with resources.as_file(resources.files("lifetimes") / "datasets" / "CDNOW_master.txt") as path:
        texts = [json.dumps(event) for event in purchases(path)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "purchases.jsonl").write_text("\n".join(texts) + "\n", "utf-8")
    return {"purchases": texts}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the files")
    parser.add_argument("--master", action="store_true", help="all customers, purchases only")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    for topic, texts in (write_master(folder) if arguments.master else write(folder)).items():
        print(f"{len(texts):6,} lines  {folder / topic}.jsonl")


if __name__ == "__main__":
    main()
