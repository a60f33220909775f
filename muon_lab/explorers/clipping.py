"""The clip explorer: on recorded maxima, what τ and each head's γ do at any step."""

from typing import ClassVar

import numpy as np
from traitlets import TraitError

from muon_lab.explorers.base.controls import Choice, Count, Slider
from muon_lab.explorers.base.explorer import Explorer, Scene, script
from muon_lab.explorers.base.marks import dots, line
from muon_lab.explorers.spectra import as_real

FLOOR = 0.1  # where a head is drawn whose largest logit is less, or negative
ALONE, PAIRS, LAYER = "each head its own γ", "pairs of heads share one", "a layer shares one"
PARTS = {
    "mha": lambda g: f"its query and its key rows × {g**0.5:.3g}",
    "gqa": lambda g: f"its query rows × {g:.3g}, the key it shares × 1",
    "mla": lambda g: f"q_C and k_C × {g**0.5:.3g}, q_R × {g:.3g}, the shared k_R × 1",
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


def head_marks(found: dict, tau: float) -> list[dict]:
    """Draw each head's maximum before (ring) and after (dot), joined where they differ."""
    before, after = (_visible(found[name]).ravel() for name in ("before", "after"))
    places = np.arange(len(before))
    joined = np.stack([before, after, np.full(len(before), np.nan)], axis=1)
    quiet = found["gamma"].ravel() == 1
    return [
        line(1, [-1, len(before)], [tau, tau], ink="text", width=1.4, dash="dashed"),
        line(1, np.repeat(places, 3), joined, ink="orange", width=1.4),
        dots(1, places[~quiet], before[~quiet], ink="orange", size=8, hollow=True),
        dots(1, places[~quiet], after[~quiet], ink="green", size=8),
        dots(1, places[quiet], after[quiet], ink="blue", size=8),
    ]


def step_marks(largest: np.ndarray, step: int, tau: float, limits: tuple) -> list[dict]:
    """Draw τ across the recorded maxima, and mark the step and its heads."""
    values = _visible(largest).ravel()
    return [
        line(0, [-1e6, 1e6], [tau, tau], ink="text", width=1.4, dash="dashed"),
        line(0, [step, step], limits, ink="faint", width=1.2, dash="dotted"),
        dots(0, np.full(len(values), step), values, ink="blue", size=5),
    ]


def _visible(maxima: np.ndarray) -> np.ndarray:
    return np.maximum(maxima, FLOOR)


def sentences(found: dict, attention: str, step: int, tau: float) -> dict[str, str]:
    """Say how many heads clip, and what the hardest clip multiplies."""
    gamma = found["gamma"]
    layer, head = np.unravel_index(found["before"].argmax(), gamma.shape)
    said = f"Step {step}, τ = {tau:.4g}: {found['clipped']} of {gamma.size} heads are scaled"
    if found["over_clipped"]:
        said += f", {found['over_clipped']} of them though they are at or below τ"
    hardest = (
        f"The smallest γ is {gamma.min():.3g}: layer {layer}, head {head}, from "
        f"{found['before'][layer, head]:.4g} to {found['after'][layer, head]:.4g}: "
        f"{PARTS[attention](gamma.min())}."
    )
    return {"count": f"{said}.", "hardest": hardest if found["clipped"] else "Every γ is 1."}


class ClipExplorer(Explorer):
    """Move τ over a run's recorded maxima; see which heads clip at a step, and by how much.

    ``max_logits`` is an array (steps, layers, heads), as ``run.curves["max_logit"]``. It shows
    what *one* clip would make of that step's maxima; it does not replay the run. ``result`` is a
    dict: gamma, before and after (layers, heads), clipped and over_clipped (counts).

    >>> explorer = ClipExplorer(np.array([[[20.0, 400.0]]]), tau=100.0)
    >>> explorer.result["gamma"].tolist()
    [[1.0, 0.25]]
    """

    _esm = script("kernel.js")
    moving: ClassVar = ("tau", "step", "sharing", "attention")

    tau = Slider(100.0, low=1, high=10_000, step=1, label="τ", log=True)
    step = Count(1, low=1, high=1, label="step")
    sharing = Choice(ALONE, label="γ")
    attention = Choice("mha", label="attention")

    def __init__(self, max_logits, **values):
        self._maxima = _as_maxima(max_logits)
        values = {"step": len(self._maxima)} | values
        super().__init__(title="What the clip does to each head", **values)

    def limits(self, name: str) -> tuple[float, float] | None:
        """Let the step run over those recorded."""
        return (1, len(self._maxima)) if name == "step" else None

    def options(self, name: str) -> list[str]:
        """List the kinds of attention, or the ways to share a γ that these heads allow."""
        if name == "attention":
            return [*PARTS]
        return [ALONE, PAIRS, LAYER] if self._maxima.shape[2] % 2 == 0 else [ALONE, LAYER]

    def draw_axes(self, figure, palette):
        """Draw all recorded maxima on the left, the axes of one step's heads on the right."""
        steps, layers, heads = self._maxima.shape
        left, right = figure.subplots(1, 2)
        every = _visible(self._maxima).reshape(steps, -1)
        left.plot(np.arange(1, steps + 1), every, color=palette["blue"], linewidth=0.7, alpha=0.5)
        pad = 0.02 * steps
        left.set(xlim=(1 - pad, steps + pad), ylim=self._height(), yscale="log")
        right.set(ylim=self._height(), yscale="log")  # its own numbers: it may stand alone
        left.set(xlabel="step", ylabel="largest logit", title="every head, as recorded")
        right.set(xlim=(-0.8, layers * heads - 0.2), title="one step: ○ before, ● after")
        middles = np.arange(layers) * heads + (heads - 1) / 2
        right.set_xticks(middles, [f"layer {layer}" for layer in range(layers)])
        for edge in range(1, layers):
            right.axvline(edge * heads - 0.5, color=palette["faint"], linewidth=0.8)
        right.set(xlabel="the heads of each layer")
        return [left, right]

    def _height(self) -> tuple[float, float]:
        seen = _visible(self._maxima)
        return max(FLOOR, seen.min() / 2), max(seen.max() * 2, 10.0)

    def compute(self) -> Scene:
        """Clip the step's maxima once."""
        largest = self._maxima[self.step - 1]
        group = {ALONE: 1, PAIRS: 2, LAYER: largest.shape[1]}[self.sharing]
        found = clip_maxima(largest, self.tau, group)
        marks = step_marks(largest, self.step, self.tau, self._height())
        said = sentences(found, self.attention, self.step, self.tau)
        return Scene(marks + head_marks(found, self.tau), said, found)


def _as_maxima(max_logits) -> np.ndarray:
    array = as_real(max_logits, "max_logits")
    if array.ndim != 3 or array.size == 0 or not np.isfinite(array).all():
        raise TraitError(
            "max_logits must be finite and have shape (steps, layers, heads), as "
            f"run.curves['max_logit'] has; got shape {array.shape}"
        )
    return array
