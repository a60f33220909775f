"""The scaling explorer: what a step costs on many machines, and what binds."""

import math
from typing import ClassVar

import numpy as np
from traitlets import Dict, List, Unicode, observe

from muon_lab.explorers.base.controls import Choice, Count, Slider
from muon_lab.explorers.base.explorer import Explorer, script
from muon_lab.explorers.base.marks import dots, line, names
from muon_lab.explorers.base.sentences import either

BYTES = {"float32": 4, "bfloat16": 2}  # of one number on the wires; what is held is in float32
ALL, SHARED, OWNED, FSDP, BLOCKS = WAYS = (
    "each rank does all",
    "shared out",
    "shared out, momentum too",
    "FSDP",
    "FSDP, block-periodic",
)
SETTINGS = ("width", "depth", "experts", "ranks", "tokens", "teraflops", "memory", "wires")
OWN = "your own"
# Those of the last are about Kimi K2's (arXiv 2507.20534). The speeds are round guesses at what a
# chip and its links keep up, not measurements.
MACHINES = {
    name: dict(zip(SETTINGS, map(float, numbers), strict=True))
    for name, numbers in {
        "this laptop": (128, 4, 1, 2, 2048, 0.1, 8, 2),
        "GPT-2 small on 8 GPUs": (768, 12, 1, 8, 2**19, 400, 80, 300),
        "6 billion on 64 GPUs": (4096, 32, 1, 64, 2**22, 400, 80, 50),
        "64 billion on 1,024 GPUs": (8192, 80, 1, 1024, 2**24, 400, 80, 50),
        "a trillion on 2,048 GPUs": (7168, 61, 384, 2048, 2**26, 400, 80, 50),
    }.items()
}
MOST_RANKS = 8192
DOUBLE = math.log10(2)  # what an arrow key does to a slider
WORDS, SIZES = ("thousand", "million", "billion", "trillion"), ("kB", "MB", "GB", "TB")
SECONDS, GIGABYTES = (1e-5, 1e5), (1e-3, 1e5)  # what the axes show
TIMES = {
    "model_seconds": ("blue", "solid", "model"),
    "muon_seconds": ("orange", "dashed", "Newton–Schulz"),
    "wire_seconds": ("green", "dotted", "wires"),
}
HELD = {
    "adamw": ("orange", "dashed", "AdamW"),
    "muon": ("blue", "solid", "Muon"),
    "owned": ("green", "dotted", "momentum too"),
    "fsdp": ("purple", "dashed", "FSDP"),
}

MARKS = [line(1, [0, 1], ["memory", "memory"], color="text", width=1.2, dash="dotted")]
for _axes, _curves in enumerate((TIMES, HELD)):
    for _name, (_color, _dash, _) in _curves.items():
        _style = {"color": _color, "dash": _dash, "width": 2.2}
        MARKS.append(line(_axes, f"places.{_name}", f"over_ranks.{_name}", **_style))
    _ends = [(text, f"over_ranks.{name}", color) for name, (color, _, text) in _curves.items()]
    MARKS.append(names(_axes, _ends + [("available", "memory", "text")] * _axes))
MARKS += [dots(0, "place", f"dot.{name}", color=TIMES[name][0], size=9) for name in TIMES]
MARKS.append(dots(1, "place", "held", color="text", size=9))
SENTENCES = {
    "model": "{numbers:.4g} {numbers_unit} numbers in hidden matrices, {active:.4g} {active_unit} "
    "at work for each token; {rank_count} × {teraflops:.4g} TFLOP/s.",
    "arithmetic": "Arithmetic: {model_seconds:.3g} s for forward and backward, "
    "{muon_seconds:.3g} s for Newton–Schulz ({muon_percent:.3g} % more).",
    "wires": "Wires: each rank sends {sent_size:.4g} {sent_unit} per step, which takes "
    "{wire_seconds:.3g} s.",
    "memory": "Memory: each rank holds {held_size:.4g} {held_unit} of weights, gradients and "
    "state; {memory:.4g} GB are available.",
    "binds": either(
        "binds",
        memory="Memory binds: this does not fit.",
        wires="The wires bind: they take longer than the arithmetic.",
        arithmetic="Arithmetic binds: it takes longer than the wires.",
    ),
}


def matrices(width: int, depth: int, experts: int) -> list[tuple[int, int, int]]:
    """Return the hidden matrices of a transformer as (count, rows, columns).

    Each block has four of (width, width) in its attention. Each expert has two of
    (width, 4 · width / k), where k = min(experts, 8) of them read a token: as much work per token
    as one feed-forward layer of the usual size. One expert is a dense model.

    >>> matrices(128, 4, 1)
    [(16, 128, 128), (8, 512.0, 128)]
    """
    inner = 4 * width / min(experts, 8)
    return [(4 * depth, width, width), (2 * depth * experts, inner, width)]


def iteration_flops(rows: float, columns: float, steps: int = 5) -> float:
    """Return the FLOPs of so many steps of Newton–Schulz: each 4 m² n + 2 m³, m the smaller side.

    >>> iteration_flops(128, 512, steps=1) == 4 * 128**2 * 512 + 2 * 128**3
    True
    """
    small, large = min(rows, columns), max(rows, columns)
    return steps * (4 * small**2 * large + 2 * small**3)


def numbers_sent(count: float, ranks: float, way: str, period: float = 1) -> float:
    """Return how many numbers each rank sends per step, on average, for ``count`` parameters.

    All-reduce sends each gradient twice but for the rank's own share; a broadcast update is sent
    once. FSDP gathers weights for forward and for backward, and reduces gradients to their shards;
    then Muon's shards go to the matrix's owner and back, which block-periodic Muon does in one step
    out of ``period``.

    >>> [numbers_sent(1200, 3, way) for way in WAYS[:4]]
    [1600.0, 2400.0, 2400.0, 2933.3...]
    """
    once = count * (ranks - 1) / ranks
    if way in (FSDP, BLOCKS):
        return 3 * once + 2 * once / ranks / (period if way == BLOCKS else 1)
    return 2 * once + (once if way != ALL else 0)


def muon_flops(shapes: list[tuple], ranks: float, way: str, period: float = 1) -> float:
    """Return the FLOPs of Newton–Schulz on the busiest rank, for `matrices`.

    Shared out evenly, but no matrix is cut: the busiest rank has at least the largest one.
    """
    every = sum(count * iteration_flops(*sides) for count, *sides in shapes)
    largest = max(iteration_flops(*sides) for _, *sides in shapes)
    shared = max(every / ranks, largest)
    if way == BLOCKS:
        blocks = sum(n * iteration_flops(max(1, rows / ranks), cols) for n, rows, cols in shapes)
        return shared / period + blocks * (1 - 1 / period)
    return every if way == ALL else shared


def step_costs(
    *, width, depth, experts, ranks, tokens, teraflops, wires, way=SHARED, period=1, sent_as=4
) -> dict:
    """Return what one training step takes of each rank: seconds of arithmetic, of wires, GB held.

    ``tokens`` are those of the whole batch, ``teraflops`` and ``wires`` (GB/s) what one rank keeps
    up. Forward and backward take 6 FLOPs per number at work and token (arXiv 2001.08361).
    Activations, embeddings and what a step holds in passing are left out.
    """
    shapes = matrices(width, depth, experts)
    count = sum(number * rows * columns for number, rows, columns in shapes)
    active = 12 * depth * width**2
    model, muon = 6 * active * tokens / ranks, muon_flops(shapes, ranks, way, period)
    sent = sent_as * numbers_sent(count, ranks, way, period) / 1e9
    held = held_gigabytes(count, ranks)
    kind = {OWNED: "owned", FSDP: "fsdp", BLOCKS: "fsdp"}.get(way, "muon")
    return {
        "count": count,
        "active_count": active,
        "model_seconds": model / teraflops / 1e12,
        "muon_seconds": muon / teraflops / 1e12,
        "muon_percent": 100 * muon / model,
        "sent": sent,
        "wire_seconds": sent / wires,
        "held": held[kind],
        **held,
    }


def held_gigabytes(count: float, ranks: float) -> dict[str, float]:
    """Return the GB of weights, gradients and state on each rank, all in float32.

    >>> held_gigabytes(1e9, 4)
    {'adamw': 16.0, 'muon': 12.0, 'owned': 9.0, 'fsdp': 3.0}
    """
    each = 4 * count / 1e9
    return {"adamw": 4 * each, "muon": 3 * each, "owned": (2 + 1 / ranks) * each} | {
        "fsdp": 3 * each / ranks
    }


def in_units(name: str, number: float, words: tuple[str, ...]) -> dict:
    """Return a number in thousands, millions, billions or trillions, and the word for that.

    >>> in_units("size", 1.5e12, SIZES)
    {'size': 1.5, 'size_unit': 'TB'}
    """
    power = next((power for power in (4, 3, 2) if number >= 1000**power), 1)
    return {name: number / 1000**power, name.split("_")[0] + "_unit": words[power - 1]}


def whole(number: float) -> int:
    """Round to a whole number, a half upwards, as JavaScript does."""
    return int(np.floor(number + 0.5))


class ScalingExplorer(Explorer):
    """Set a model and its machines; see what binds: arithmetic, memory or wires.

    ``machine`` starts from an example, whose settings a slider changes; ``way`` says how the work
    is divided. ``result`` is a dict, see :func:`step_costs`, with ``binds``: "memory" where a rank
    holds more than it has, else "arithmetic" or "wires", whichever takes longer.

    >>> explorer = ScalingExplorer(machine="a trillion on 2,048 GPUs")
    >>> explorer.result["binds"]
    'memory'
    >>> explorer.way = "FSDP"
    >>> explorer.result["binds"]
    'wires'
    """

    _esm = script("scaling.js")
    moving: ClassVar = ("machine", "way", *SETTINGS, "period", "sent_as")
    size: ClassVar = (8.6, 3.4)

    title = Unicode("What a step costs on many machines").tag(sync=True)
    marks = List(MARKS).tag(sync=True)
    sentences = Dict(SENTENCES).tag(sync=True)

    machine = Choice("this laptop", label="case")
    way = Choice(SHARED, label="Muon")
    width = Slider(128.0, low=64, high=32768, step=DOUBLE, log=True, label="width")
    depth = Slider(4.0, low=1, high=256, step=DOUBLE, log=True, label="blocks")
    experts = Slider(1.0, low=1, high=1024, step=DOUBLE, log=True, label="experts")
    ranks = Slider(2.0, low=1, high=MOST_RANKS, step=DOUBLE, log=True, label="ranks")
    tokens = Slider(2048.0, low=1024, high=2**27, step=DOUBLE, log=True, label="tokens")
    teraflops = Slider(0.1, low=0.01, high=10_000, log=True, label="TFLOP/s")
    memory = Slider(8.0, low=1, high=1000, log=True, label="memory, GB")
    wires = Slider(2.0, low=0.01, high=10_000, log=True, label="wires, GB/s")
    sent_as = Choice("float32", label="sent as")
    period = Count(5, low=1, high=50, label="period")

    def __init__(self, **values):
        if not set(values) & set(SETTINGS):
            values = MACHINES.get(values.get("machine"), {}) | values
        elif "machine" in values:
            values = MACHINES.get(values["machine"], {}) | values | {"machine": OWN}
        else:
            values = values | {"machine": OWN}
        super().__init__(**values)

    def options(self, name: str, view=None) -> list[str]:
        """List the examples, the ways to divide the work, or the dtypes."""
        return [*{"machine": [*MACHINES, OWN], "way": WAYS, "sent_as": BYTES}[name]]

    def supply(self, everything: bool = False) -> None:
        """Send the examples."""
        if not self.data:
            self.data = {"machines": MACHINES}

    @observe("machine")
    def _take_machine(self, _):
        with self.hold_trait_notifications():
            for name, value in MACHINES.get(self.machine, {}).items():
                setattr(self, name, value)

    @observe(*SETTINGS)
    def _leave_machine(self, _):
        known = MACHINES.get(self.machine)
        if known and known != {name: getattr(self, name) for name in SETTINGS}:
            self.machine = OWN

    def draw_axes(self, figure, palette, view):
        """Draw the axes of seconds on the left, those of memory on the right, over the ranks."""
        left, right = figure.subplots(1, 2)
        left.set(ylim=SECONDS, ylabel="seconds per step", title="time")
        right.set(ylim=GIGABYTES, ylabel="GB per rank", title="weights, gradients, state")
        shown = (1, 8, 64, 512, 4096)
        for axes in (left, right):
            axes.set(xlim=(0, 1.42), yscale="log", xlabel="ranks")
            axes.minorticks_off()
            axes.set_xticks([place_of(ranks) for ranks in shown], map(str, shown))
        return [left, right]

    def compute(self) -> dict:
        """Count at the present number of ranks, and over all."""
        settings = {name: getattr(self, name) for name in SETTINGS if name != "memory"}
        settings |= {name: whole(settings[name]) for name in SETTINGS[:4]}
        settings |= {"way": self.way, "period": self.period, "sent_as": BYTES[self.sent_as]}
        now = step_costs(**settings)
        slower = "wires" if now["wire_seconds"] > now["model_seconds"] + now["muon_seconds"] else ""
        return {
            **now,
            **curves(settings),
            **in_units("numbers", now["count"], WORDS),
            **in_units("active", now["active_count"], WORDS),
            **in_units("sent_size", 1e9 * now["sent"], SIZES),
            **in_units("held_size", 1e9 * now["held"], SIZES),
            "rank_count": settings["ranks"],
            "place": place_of(settings["ranks"]),
            "dot": {name: max(now[name], 1e-12) for name in TIMES},
            "binds": "memory" if now["held"] > self.memory else slower or "arithmetic",
            "idle": [] if self.way == BLOCKS else ["period"],
        }


def place_of(ranks: float) -> float:
    """Return where a number of ranks stands on the axes: 0 for one, 1 for the most."""
    return np.log(ranks) / np.log(MOST_RANKS)


def curves(settings: dict) -> dict:
    """Compute times and memory over the ranks; the wires begin with the second rank."""
    every = [2**power for power in range(14)]
    costs = [step_costs(**settings | {"ranks": ranks}) for ranks in every]
    start = {name: int(name == "wire_seconds") for name in (*TIMES, *HELD)}
    return {
        "places": {name: [place_of(ranks) for ranks in every[i:]] for name, i in start.items()},
        "over_ranks": {name: [each[name] for each in costs[i:]] for name, i in start.items()},
    }
