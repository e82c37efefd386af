"""A flame graph of the samples of py-spy: the width of a frame is its share of the samples, and its callees are above
it.

py-spy record --pid PID --native --format raw --duration 12 --output worker.folded scripts/bench plots worker.folded
--out docs/images
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

MOST_FRAMES = 14
LEAST_SHARE = 0.004
CHARACTERS_ACROSS = 210
"""How many characters of a label fit across the picture."""
LEAST_CHARACTERS = 5
COLOURS = (
    (
        "reading and writing",
        "#7FCDB3",
        (
            "partition",
            "attach.",
            "flow",
            "plan",
            "schedule",
            "merge.",
            "delivery",
            "transport",
            "table",
            "envelope",
            "fetch",
        ),
    ),
    ("decoding and encoding", "#8CC9EE", ("msgspec", "orjson", "decode", "encode", "json")),
    ("announcing", "#DFA9C6", ("explain", "outputs", "profile", "value", "announce")),
    ("the fold", "#F2C063", ("fold", "facts", "tiers", "risk", "mbg_nbd", "customer", "buckets", "policy")),
)
"""Okabe and Ito's palette, lightened so that labels can be read."""
OTHER = "#D5D5D5"
NOISE = re.compile(
    r"^(0x[0-9a-f]+|Py_DECREF|_?start|_?_libc|CPyPy_|PyObject_|_PyEval|Py_Run|pymain|cfunction|method_|gen_)"
)
COMPILED = re.compile(r"CPyDef_(\w+?)___(\w+)")


def read(path: Path) -> Counter[tuple[str, ...]]:
    """The stacks, outermost frame first, with their samples; only those of the thread that folds, while it was busy."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in path.read_text("utf-8").splitlines():
        frames, _, count = line.rpartition(" ")
        names = [_name(frame) for frame in frames.split(";")]
        kept = [name for name in names if name and not NOISE.match(name)]
        ours = _from_ours(kept)
        if ours:
            stacks[ours] += int(count)
    return stacks


def draw(axes: Axes, stacks: Counter[tuple[str, ...]]) -> None:
    """Draw the flame graph."""
    whole = sum(stacks.values())
    _level(axes, stacks, 0, 0.0, whole)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, MOST_FRAMES)
    axes.axis("off")
    axes.set_title("Where the worker's time goes while it catches up", loc="left")
    kinds = [(name, colour) for name, colour, _ in COLOURS] + [("Python and libraries", OTHER)]
    patches = [Rectangle((0, 0), 1, 1, facecolor=colour, label=name) for name, colour in kinds]
    axes.legend(handles=patches, loc="upper right", bbox_to_anchor=(0.8, 1.0), fontsize=7)


def _level(axes: Axes, stacks: Counter[tuple[str, ...]], depth: int, left: float, whole: int) -> None:
    callees: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for stack, count in stacks.items():
        if stack:
            callees[stack[0]][stack[1:]] += count
    for name, rest in sorted(callees.items(), key=lambda item: -sum(item[1].values())):
        width = sum(rest.values()) / whole
        if width >= LEAST_SHARE and depth < MOST_FRAMES:
            axes.add_patch(
                Rectangle((left, depth), width, 0.96, facecolor=_colour(name), edgecolor="white", linewidth=0.4)
            )
            fits = int(width * CHARACTERS_ACROSS)
            if fits >= LEAST_CHARACTERS:
                label = f"{width:.0%} {name}"
                label = label if len(label) <= fits else f"{label[: fits - 1]}…"
                axes.text(left + 0.002, depth + 0.48, label, va="center", fontsize=5.5)
            _level(axes, rest, depth + 1, left, whole)
        left += width


def _name(frame: str) -> str:
    """The name of a frame: `models.fold._Step.settle` for `CPyDef_fold____Step___settle (…)`; Python functions keep
    theirs.
    """
    frame = re.sub(r" \(.*", "", frame)
    compiled = COMPILED.match(frame)
    if compiled:
        return f"{compiled[1]}.{compiled[2].removesuffix('_gen_____mypyc_generator_helper__').replace('___', '.').strip('_')}"
    return frame


def _from_ours(names: list[str]) -> tuple[str, ...]:
    """The frames from the first function of ours on, without the event loop; nothing for other threads."""
    ours = next(
        (place for place, name in enumerate(names) if name.startswith(("PartitionWorker", "Flow", "attach."))),
        len(names),
    )
    return tuple(
        name for place, name in enumerate(names) if place >= ours and (place == ours or name != names[place - 1])
    )


def _colour(name: str) -> str:
    lower = name.lower()
    return next((colour for _, colour, words in COLOURS if any(word in lower for word in words)), OTHER)
