"""A flame picture of what py-spy saw: each frame as wide as its share of the samples, its callees on top of it.

py-spy record --pid PID --native --format raw --duration 12 --output worker.folded
scripts/bench plots worker.folded --out docs/images
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

MOST_FRAMES = 14
LEAST_SHARE = 0.004
LETTERS_ACROSS = 210
"""How many letters of the labels' size fit across the picture."""
LEAST_LETTERS = 5
COLOURS = (
    (
        "the way in and out",
        "#7FCDB3",
        ("partition", "attach.", "folding.", "merge.", "delivery", "transport", "table", "envelope", "fetch"),
    ),
    ("decoding and encoding", "#8CC9EE", ("msgspec", "orjson", "decode", "encode", "json")),
    ("announcing", "#DFA9C6", ("explain", "outputs", "profile", "value", "announce")),
    ("the fold", "#F2C063", ("fold", "facts", "tiers", "risk", "mbg_nbd", "customer", "buckets", "policy")),
)
"""Of Okabe and Ito's palette, lighter, so that labels can be read."""
OTHER = "#D5D5D5"
NOISE = re.compile(
    r"^(0x[0-9a-f]+|Py_DECREF|_?start|_?_libc|CPyPy_|PyObject_|_PyEval|Py_Run|pymain|cfunction|method_|gen_)"
)
COMPILED = re.compile(r"CPyDef_(\w+?)___(\w+)")


def read(path: Path) -> Counter[tuple[str, ...]]:
    """The stacks, outermost first, with their samples; only those of the thread that folds, while it was at work."""
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
    """The picture."""
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
            fits = int(width * LETTERS_ACROSS)
            if fits >= LEAST_LETTERS:
                label = f"{width:.0%} {name}"
                label = label if len(label) <= fits else f"{label[: fits - 1]}…"
                axes.text(left + 0.002, depth + 0.48, label, va="center", fontsize=5.5)
            _level(axes, rest, depth + 1, left, whole)
        left += width


def _name(frame: str) -> str:
    """`models.fold._Step.settle` of `CPyDef_fold____Step___settle (…)`, and a Python function as it is."""
    frame = re.sub(r" \(.*", "", frame)
    compiled = COMPILED.match(frame)
    if compiled:
        return f"{compiled[1]}.{compiled[2].removesuffix('_gen_____mypyc_generator_helper__').replace('___', '.').strip('_')}"
    return frame


def _from_ours(names: list[str]) -> tuple[str, ...]:
    """From the first function on that is ours; what leads there is the event loop. Nothing of other threads."""
    ours = next(
        (place for place, name in enumerate(names) if name.startswith(("PartitionWorker", "attach."))), len(names)
    )
    return tuple(
        name for place, name in enumerate(names) if place >= ours and (place == ours or name != names[place - 1])
    )


def _colour(name: str) -> str:
    lower = name.lower()
    return next((colour for _, colour, words in COLOURS if any(word in lower for word in words)), OTHER)
