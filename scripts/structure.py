"""Counts files, rooms and imports of streams/: loose files, floors, imports between rooms, circles.

    ./scripts/structure              # of this checkout
    ./scripts/structure --root DIR   # of another, for a comparison

The imports are found by grimp; those for type checking count. A room is a module or a folder directly below `streams`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

Edges = dict[str, set[str]]


def rooms_of(graph: grimp.ImportGraph, package: str) -> tuple[Edges, int]:
    """Which rooms each room imports, and how many module-to-module imports cross from one room to another."""
    edges: Edges = {child.removeprefix(f"{package}."): set() for child in graph.find_children(package)}
    crossing = 0
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            rooms = [name.removeprefix(f"{package}.").partition(".")[0] for name in (importer, imported)]
            if rooms[0] != rooms[1] and set(rooms) <= edges.keys():
                edges[rooms[0]].add(rooms[1])
                crossing += 1
    return edges, crossing


def circles(edges: Edges) -> list[set[str]]:
    """The sets of rooms that import each other, directly or by way of others (strongly connected, more than one)."""
    reached = {room: set(_reachable(edges, room)) for room in edges}
    found = {frozenset(other for other in edges if other in reached[room] and room in reached[other]) for room in edges}
    return [set(one) for one in found if len(one) > 1]


def _reachable(edges: Edges, room: str) -> Iterator[str]:
    seen, waiting = set[str](), [room]
    while waiting:
        for other in edges[waiting.pop()]:
            if other not in seen:
                seen.add(other)
                waiting.append(other)
                yield other


def floors(edges: Edges) -> int:
    """The longest chain of imports between rooms; rooms of a circle count as one."""
    within = {room: frozenset(circle) for circle in circles(edges) for room in circle}
    together: dict[frozenset[str], set[frozenset[str]]] = {}
    for room, others in edges.items():
        here = within.get(room, frozenset([room]))
        together.setdefault(here, set()).update(within.get(one, frozenset([one])) for one in others)
    heights: dict[frozenset[str], int] = {}

    def height(here: frozenset[str]) -> int:
        if here not in heights:
            heights[here] = 1 + max((height(other) for other in together[here] if other != here), default=0)
        return heights[here]

    return max(map(height, together))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent, help="the checkout to look at")
    root = parser.parse_args().root
    sys.path.insert(0, str(root))
    graph = grimp.build_graph("streams", exclude_type_checking_imports=False, cache_dir=None)
    edges, crossing = rooms_of(graph, "streams")
    loose = [path for path in (root / "streams").glob("*.py") if path.name != "__init__.py"]
    found = circles(edges)
    rows = {
        "files loose at the top of streams/": len(loose),
        "rooms (loose files are rooms, too)": len(edges),
        "floors: the longest chain of imports between rooms": floors(edges),
        "pairs of rooms of which one imports the other": sum(map(len, edges.values())),
        "imports between modules of different rooms": crossing,
        "circles of rooms": len(found),
        "the largest circle, in rooms": max(map(len, found), default=0),
    }
    for name, value in rows.items():
        print(f"{name:52} {value:>5}")


if __name__ == "__main__":
    main()
