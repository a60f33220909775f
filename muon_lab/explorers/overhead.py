"""The overhead explorer: what share of a training step Muon takes, for a model of one's own."""

from typing import ClassVar

import numpy as np
from traitlets import Dict, List, TraitError, Unicode

from muon_lab.explorers.base.controls import Count, Slider
from muon_lab.explorers.base.explorer import Explorer, script
from muon_lab.explorers.base.marks import dots, label, line
from muon_lab.explorers.base.sentences import either

WIDTHS, BATCHES = (64, 16_384), (256, 2**24)
SHARES, FLOPS = (1e-4, 1e5), (1e6, 1e21)  # percent; per training step

MARKS = [
    line(0, "batches", "over_batches.bound", color="blue", dash="dashed"),
    line(0, "batches", "over_batches.counted", color="blue", width=2.2),
    line(0, "batches", "over_batches.here", color="orange", width=2.2, dash="dotted"),
    dots(0, "batch", "bound", color="blue", hollow=True, size=9),
    dots(0, "batch", "counted", color="blue", size=8),
    dots(0, "batch", "here", color="orange", size=8),
    label(0, 1.3e7, 3e4, "- - -  T·m/B", color="blue", align="right"),
    label(0, 1.3e7, 9e3, "——  counted", color="blue", align="right"),
    label(0, 1.3e7, 2.7e3, "· · · ·  time", color="orange", align="right"),
    line(1, "widths", "over_widths.model", color="green", width=2.2),
    line(1, "widths", "over_widths.muon", color="blue", width=2.2),
    dots(1, "width", "model", color="green", size=8),
    dots(1, "width", "muon", color="blue", size=8),
    label(1, 80, 2e20, "forward and backward", color="green", align="left"),
    label(1, 80, 2e19, "Muon", color="blue", align="left"),
]
SENTENCES = {
    "share": "T·m/B = {bound:.4g} %. Counted, it is {counted:.3g} %: {muon:.3g} FLOPs per step "
    "for Muon, {model:.3g} for forward and backward.",
    "enough": "From {enough:.0f} tokens per batch on, Muon takes at most 1 % of the FLOPs.",
    "time": either(
        "measured",
        yes="At the rates that were measured it takes {here:.3g} % of the time.",
        no="The time is drawn as if Muon and the model ran equally fast.",
    ),
}


def overhead(width, depth, batch, steps, pace=1.0) -> dict:
    """Return FLOPs per training step of a transformer and of Muon, and Muon's share in percent.

    A layer has four (w, w) matrices and two (w, 4w), 12w² numbers, each with 6 FLOPs per token
    forward and backward; the embedding, the head and the attention itself are left out.
    Orthogonalizing it takes 60w³ FLOPs per step of the iteration. ``bound`` is T·m/B; ``here`` is
    the share of time if the model runs at ``pace`` times Muon's FLOPs per second.

    >>> found = overhead(width=768, depth=12, batch=524_288, steps=5)
    >>> [round(found[name], 2) for name in ("bound", "counted")], f"{found['muon']:.3g}"
    ([0.73, 0.61], '1.63e+12')
    """
    model = 6 * 12 * width**2 * depth * batch
    muon = 60 * width**3 * depth * steps
    counted = 100 * muon / model
    bound = 100 * steps * width / batch
    return {
        "model": model, "muon": muon, "bound": bound, "counted": counted, "here": pace * counted
    }  # fmt: skip


class OverheadExplorer(Explorer):
    """Move width, depth, batch and steps; see what share of a training step Muon takes.

    ``pace`` is how many times as many FLOPs per second the model does as Muon, measured on a
    machine. ``result`` is a dict: model and muon (FLOPs per step), bound, counted and here
    (percent), enough (tokens per batch for 1 %); see :func:`overhead`.

    >>> explorer = OverheadExplorer(width=768, batch=524_288, pace=0.5)
    >>> explorer.result["here"] == explorer.result["counted"] / 2
    True
    """

    _esm = script("overhead.js")
    moving: ClassVar = ("width", "depth", "batch", "steps")

    title = Unicode("What Muon costs your model").tag(sync=True)
    marks = List(MARKS).tag(sync=True)
    sentences = Dict(SENTENCES).tag(sync=True)

    width = Slider(128, low=WIDTHS[0], high=WIDTHS[1], log=True, label="width m")
    depth = Count(4, low=1, high=128, label="layers")
    batch = Slider(2048, low=BATCHES[0], high=BATCHES[1], log=True, label="tokens B")
    steps = Count(5, low=1, high=10, label="steps T")

    def __init__(self, pace: float | None = None, **values):
        if pace is not None and not 0 < pace < np.inf:
            raise TraitError(f"pace must be a positive number, for example 0.5; got {pace!r}")
        self._pace = pace
        super().__init__(**values)

    def supply(self, everything: bool = False) -> None:
        """Send what was measured."""
        if not self.data:
            self.data = {"pace": self._pace or 1.0, "measured": self._pace is not None}

    def draw_axes(self, figure, palette, view):
        """Draw the shares' axes over the batch on the left, FLOPs over the width on the right."""
        left, right = figure.subplots(1, 2)
        left.set(xlim=BATCHES, ylim=SHARES, xscale="log", yscale="log", title="Muon's share")
        left.set(xlabel="tokens per batch", ylabel="percent of forward and backward")
        left.axhline(1.0, color=palette["faint"], linewidth=0.8)
        right.set(xlim=WIDTHS, ylim=FLOPS, xscale="log", yscale="log", title="FLOPs per step")
        right.set(xlabel="width")
        return [left, right]

    def compute(self) -> dict:
        """Count at the present setting, over all batches, and over all widths."""
        pace = self.data["pace"]
        batches, widths = np.geomspace(*BATCHES, 2), np.geomspace(*WIDTHS, 2)  # straight lines
        now = overhead(self.width, self.depth, self.batch, self.steps, pace)
        shares = overhead(self.width, self.depth, batches, self.steps, pace)
        flops = overhead(widths, self.depth, self.batch, self.steps)
        return {
            **now,
            "enough": self.batch * now["counted"],
            "measured": self.data["measured"],
            "batches": batches,
            "widths": widths,
            "over_batches": {name: shares[name] for name in ("bound", "counted", "here")},
            "over_widths": {name: flops[name] for name in ("model", "muon")},
        }
