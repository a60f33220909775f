"""The clip explorer: on recorded maxima, what τ and each head's γ do at any step."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from traitlets import Dict, List, TraitError, Unicode, observe

from muon_lab.explorers.base.controls import Choice, Count, Slider
from muon_lab.explorers.base.explorer import Explorer, script
from muon_lab.explorers.base.marks import dots, line, stems
from muon_lab.explorers.base.matrices import as_real
from muon_lab.explorers.base.sentences import either

FLOOR = 0.1  # where a head is drawn whose largest logit is less, or negative
ALONE, PAIRS, LAYER = "each head its own γ", "pairs of heads share one", "a layer shares one"
KINDS = ("mha", "gqa", "mla")

MARKS = [
    line(0, [-1e6, 1e6], ["tau", "tau"], color="text", width=1.4, dash="dashed"),
    line(0, ["step", "step"], [FLOOR / 10, 1e9], color="faint", width=1.2, dash="dotted"),
    dots(0, "steps_now", "recorded", size=5),
    line(1, [-1, 1e6], ["tau", "tau"], color="text", width=1.4, dash="dashed"),
    stems(1, "clipped_x", "clipped_after", "clipped_before", color="orange", width=1.4),
    dots(1, "clipped_x", "clipped_before", color="orange", size=8, hollow=True),
    dots(1, "clipped_x", "clipped_after", color="green", size=8),
    dots(1, "quiet_x", "quiet_after", size=8),
]
SENTENCES = {
    "count": [
        "Step {step}, τ = {tau:.4g}: {clipped} of {heads} heads are scaled",
        either(
            "over_clipped",
            zero=".",
            other=", {over_clipped} of them though they are at or below τ.",
        ),
    ],
    "hardest": either(
        "clipped",
        zero="Every γ is 1.",
        other=[
            "The smallest γ is {smallest:.3g}: layer {layer}, head {head}, from "
            "{loudest:.4g} to {loudest_after:.4g}: ",
            either(
                "attention",
                mha="its query and its key rows × {root:.3g}.",
                gqa="its query rows × {smallest:.3g}, the key it shares × 1.",
                mla="q_C and k_C × {root:.3g}, q_R × {smallest:.3g}, the shared k_R × 1.",
            ),
        ],
    ),
}


def clip_maxima(largest: np.ndarray, tau: float, group: int = 1) -> dict:
    """Return what one clip makes of largest logits (layers, heads): γ, the maxima after, counts.

    ``group`` neighbouring heads share the smallest γ among them. ``over_clipped`` counts the heads
    at or below τ that are scaled nonetheless.

    >>> found = clip_maxima(np.array([[50.0, 200.0]]), tau=100.0, group=2)
    >>> found["gamma"].tolist(), found["after"].tolist(), found["over_clipped"]
    ([[0.5, 0.5]], [[25.0, 100.0]], 1)
    """
    own = tau / np.maximum(largest, tau)  # 1 for a head at or below τ
    shared = own.reshape(len(own), -1, group).min(axis=2)
    gamma = np.repeat(shared, group, axis=1)
    return {
        "gamma": gamma,
        "before": largest,
        "after": largest * gamma,
        "clipped": int((gamma < 1).sum()),
        "over_clipped": int(((gamma < 1) & (own == 1)).sum()),
    }


def drawn(found: dict, step: int) -> dict:
    """Return the heads' places and heights in the picture, and the head that is loudest."""
    gamma, before, after = (found[name].ravel() for name in ("gamma", "before", "after"))
    low, high = np.maximum(after, FLOOR), np.maximum(before, FLOOR)
    clipped = np.flatnonzero(gamma < 1)
    quiet = np.flatnonzero(gamma == 1)
    loudest, smallest = int(before.argmax()), float(gamma.min())
    return {
        "clipped_x": clipped,
        "clipped_before": high[clipped],
        "clipped_after": low[clipped],
        "quiet_x": quiet,
        "quiet_after": low[quiet],
        "steps_now": np.full(len(gamma), step),
        "recorded": high,
        "heads": len(gamma),
        "layer": loudest // found["gamma"].shape[1],
        "head": loudest % found["gamma"].shape[1],
        "loudest": before[loudest],
        "loudest_after": after[loudest],
        "smallest": smallest,
        "root": smallest**0.5,
    }


class ClipExplorer(Explorer):
    """Move τ over a run's recorded maxima; see which heads clip at a step, and by how much.

    ``max_logits`` is an array (steps, layers, heads), as ``run.curves["max_logit"]``, or a dict of
    such arrays, one for each kind of attention ("mha", "gqa", "mla"), which ``attention`` chooses
    from. It shows what *one* clip would make of that step's maxima; it does not replay the run.
    ``result`` is a dict: gamma, before and after (layers, heads); clipped and over_clipped count.

    >>> explorer = ClipExplorer(np.array([[[20.0, 400.0]]]), tau=100.0)
    >>> explorer.result["gamma"].tolist()
    [[1.0, 0.25]]
    """

    _esm = script("clipping.js")
    moving: ClassVar = ("attention", "tau", "step", "sharing")

    title = Unicode("What the clip does to each head").tag(sync=True)
    marks = List(MARKS).tag(sync=True)
    sentences = Dict(SENTENCES).tag(sync=True)
    view_by = Unicode("attention").tag(sync=True)

    tau = Slider(100.0, low=1, high=10_000, log=True, label="τ")
    step = Count(1, low=1, high=1, label="step")
    sharing = Choice(ALONE, label="γ")
    attention = Choice("mha", label="attention")

    def __init__(self, max_logits, *, attention: str | None = None, **values):
        if not isinstance(max_logits, Mapping):
            max_logits = {attention or "mha": max_logits}
        self._maxima = {kind: _as_maxima(each) for kind, each in max_logits.items()}
        if not self._maxima or set(self._maxima) - set(KINDS):
            raise TraitError(f"max_logits must be for {', '.join(KINDS)}; got {[*self._maxima]}")
        attention = attention or next(iter(self._maxima))
        steps = len(self._maxima.get(attention, ()))
        super().__init__(**{"attention": attention, "step": steps} | values)

    def limits(self, name: str, view=None) -> tuple[float, float] | None:
        """Let the step run over those recorded."""
        return (1, len(self._maxima[view or self.attention])) if name == "step" else None

    def options(self, name: str, view=None) -> list[str]:
        """List the kinds of attention, or the ways to share a γ that these heads allow."""
        if name == "attention":
            return [*self._maxima]
        even = self._maxima[view or self.attention].shape[2] % 2 == 0
        return [ALONE, PAIRS, LAYER] if even else [ALONE, LAYER]

    def controls_of(self, view) -> list[str]:
        """Offer a choice of attention where there is one."""
        return [name for name in self.moving if name != "attention" or len(self._maxima) > 1]

    def views_are_shared(self, view) -> bool:
        """Draw each explorer's own maxima."""
        return False

    def supply(self, everything: bool = False) -> None:
        """Send the maxima."""
        if not self.data:
            self.data = {kind: maxima.tolist() for kind, maxima in self._maxima.items()}

    @observe("attention")
    def _take_attention(self, _):
        self.step = min(self.step, self.limits("step")[1])
        if self.sharing not in self.options("sharing"):
            self.sharing = ALONE

    def draw_axes(self, figure, palette, view):
        """Draw all recorded maxima on the left, the axes of one step's heads on the right."""
        seen = np.maximum(self._maxima[view], FLOOR)
        steps, layers, heads = seen.shape
        limits = max(FLOOR, seen.min() / 2), max(seen.max() * 2, 10.0)
        left, right = figure.subplots(1, 2)
        every = seen.reshape(steps, -1)
        left.plot(np.arange(1, steps + 1), every, color=palette["blue"], linewidth=0.7, alpha=0.5)
        pad = 0.02 * steps
        left.set(xlim=(1 - pad, steps + pad), ylim=limits, yscale="log")
        right.set(ylim=limits, yscale="log")  # its own numbers: it may stand alone
        left.set(xlabel="step", ylabel="largest logit", title=f"every head, as recorded: {view}")
        right.set(xlim=(-0.8, layers * heads - 0.2), title="one step: ○ before, ● after")
        middles = np.arange(layers) * heads + (heads - 1) / 2
        right.set_xticks(middles, [f"layer {layer}" for layer in range(layers)])
        for edge in range(1, layers):
            right.axvline(edge * heads - 0.5, color=palette["faint"], linewidth=0.8)
        right.set(xlabel="the heads of each layer")
        return [left, right]

    def compute(self) -> dict:
        """Clip the step's maxima once."""
        largest = self._maxima[self.attention][self.step - 1]
        group = {ALONE: 1, PAIRS: 2, LAYER: largest.shape[1]}[self.sharing]
        found = clip_maxima(largest, self.tau, group)
        return found | drawn(found, self.step)


def _as_maxima(max_logits) -> np.ndarray:
    array = as_real(max_logits, "max_logits")
    if array.ndim != 3 or array.size == 0 or not np.isfinite(array).all():
        raise TraitError(
            "max_logits must be finite and have shape (steps, layers, heads), as "
            f"run.curves['max_logit'] has; got shape {array.shape}"
        )
    return array
