"""The logit explorer: what the scale of a query's logits makes of its softmax."""

from typing import ClassVar

import numpy as np
from traitlets import Dict, List, TraitError, Unicode

from muon_lab.explorers.base.controls import Choice, Count, Slider
from muon_lab.explorers.base.explorer import Explorer, script
from muon_lab.explorers.base.marks import dots, label, line, stems
from muon_lab.explorers.base.matrices import OWN, as_real
from muon_lab.explorers.base.sentences import either

SCALES = (0.05, 100.0)
SHARE_LIMITS = (-0.03, 1.06)
MOST_KEYS = 64
CURVES = {"spread": ("blue", "solid", "entropy / ln n"), "answers": ("orange", "dashed", "1 − Σp²")}
NAME_HEIGHTS = {"spread": 1.04, "answers": 0.95}  # in the empty corner at the upper right

MARKS = [
    stems(0, "places", "zeros", "weights", width="bar_width"),
    label(0, "name_x", "name_y", "{largest_weight:.3f}"),
    line(1, ["scale", "scale"], SHARE_LIMITS, color="faint", width=1.0, dash="dotted"),
]
for _name, (_color, _dash, _text) in CURVES.items():
    MARKS += [
        line(1, "scales", f"over_scales.{_name}", color=_color, dash=_dash, width=2.2),
        dots(1, "scale", _name, color=_color, size=9),
        label(1, 90.0, NAME_HEIGHTS[_name], _text, color=_color, align="right"),
    ]
SENTENCES = {
    "looks": "Logits × {scale:.3g}: the largest is {largest:.3g}, its weight {largest_weight:.3f}. "
    "The head looks at {effective:.1f} of {keys} keys (entropy {entropy:.2f} of at most "
    "{most_entropy:.2f} nats).",
    "answers": [
        "1 − Σp² = {answers:.3f}: ",
        either(
            "saturated",
            yes="the weights hardly answer to the logits any more, and hardly any gradient "
            "reaches the queries and keys.",
            no="this is how strongly the weights still answer to a nudge of the logits.",
        ),
    ],
}


def gaussian(keys: int) -> np.ndarray:
    """Draw logits of unit variance, as a new layer's queries and keys give them."""
    return np.random.default_rng(4).standard_normal(MOST_KEYS)[:keys]


def near_tie(keys: int) -> np.ndarray:
    """Put two keys almost level at the top, the rest evenly below."""
    return np.concatenate([[1.0, 0.97], np.linspace(0.5, -1.0, keys - 2)])


def one_ahead(keys: int) -> np.ndarray:
    """Put one key one unit above all the others."""
    return np.eye(1, keys)[0]


PATTERNS = {"gaussian": gaussian, "near tie": near_tie, "one ahead": one_ahead}


def attend(logits: np.ndarray) -> dict:
    """Return the softmax of logits (keys,) and how widely it looks.

    ``entropy`` is in nats, ``effective`` e to that (how many keys it looks at), ``spread`` the
    entropy's share of its largest value ln(keys). ``answers`` is 1 − Σp², the sum of the weights'
    slopes ∂p_i/∂z_i: how strongly they still answer to a nudge of the logits.

    >>> attend(np.zeros(4))["effective"].round(6), attend(np.array([800.0, 0.0]))["answers"]
    (np.float64(4.0), np.float64(0.0))
    """
    shifted = np.exp(logits - logits.max())
    weights = shifted / shifted.sum()
    entropy = np.log(shifted.sum()) - np.sum(weights * (logits - logits.max()))
    return {
        "logits": logits,
        "weights": weights,
        "entropy": entropy,
        "effective": np.exp(entropy),
        "spread": entropy / np.log(len(logits)),
        "answers": 1 - np.sum(weights**2),
    }


def bars(weights: np.ndarray) -> dict:
    """Place a bar for each weight, and the name of the largest above its bar."""
    count, top = len(weights), int(weights.argmax())
    places = (np.arange(count) + 0.5) / count
    return {
        "places": places,
        "zeros": np.zeros(count),
        "bar_width": max(2.0, 200 / count),
        "name_x": min(max(places[top], 0.06), 0.94),
        "name_y": min(weights[top] + 0.045, 1.02),
        "largest_weight": weights[top],
    }


class LogitExplorer(Explorer):
    """Scale a query's logits; see its softmax weights, their entropy, and what still learns.

    ``logits`` is an array (keys,) of your own to scale, instead of the patterns offered; ``count``
    then has no effect. ``result`` is a dict: logits (scaled), weights, entropy (nats), effective,
    spread, answers; see :func:`attend`.

    >>> explorer = LogitExplorer(pattern="one ahead", count=10, scale=20.0)
    >>> explorer.result["weights"].max().round(4)
    np.float64(1.0)
    """

    _esm = script("logits.js")
    moving: ClassVar = ("pattern", "count", "scale")

    title = Unicode("What the logits' scale makes of attention").tag(sync=True)
    marks = List(MARKS).tag(sync=True)
    sentences = Dict(SENTENCES).tag(sync=True)

    pattern = Choice("gaussian", label="logits")
    count = Count(16, low=2, high=MOST_KEYS, label="keys")
    scale = Slider(1.0, low=SCALES[0], high=SCALES[1], log=True, label="scale")

    def __init__(self, logits=None, **values):
        self._own = None if logits is None else _as_logits(logits)
        if logits is not None:
            values = {"pattern": OWN} | values
        super().__init__(**values)

    def options(self, name: str, view=None) -> list[str]:
        """List the patterns of logits."""
        return [*PATTERNS] if self._own is None else [*PATTERNS, OWN]

    def supply(self, everything: bool = False) -> None:
        """Send the patterns that have no formula."""
        if not self.data:
            own = {} if self._own is None else {OWN: self._own.tolist()}
            self.data = {"gaussian": gaussian(MOST_KEYS).tolist(), **own}

    def draw_axes(self, figure, palette, view):
        """Draw the weights' axes on the left, those over the scale on the right."""
        left, right = figure.subplots(1, 2)
        left.set(xlim=(0, 1), ylim=SHARE_LIMITS, xticks=[], title="weight of each key")
        left.set(xlabel="the keys this query may look at", ylabel="softmax weight")
        right.set(xlim=SCALES, ylim=SHARE_LIMITS, xscale="log", title="over all scales")
        right.set(xlabel="scale of the logits", ylabel="from 0 to 1")
        return [left, right]

    def compute(self) -> dict:
        """Scale the logits and attend, at the present scale and at all."""
        own = self.pattern == OWN
        pattern = self._own if own else PATTERNS[self.pattern](self.count)
        found = attend(self.scale * pattern)
        scales = np.geomspace(*SCALES, 120)
        curves = [attend(scale * pattern) for scale in scales]
        return {
            **found,
            **bars(found["weights"]),
            "largest": found["logits"].max(),
            "keys": len(pattern),
            "most_entropy": np.log(len(pattern)),
            "saturated": bool(found["answers"] < 0.02),
            "scales": scales,
            "over_scales": {name: np.array([each[name] for each in curves]) for name in CURVES},
            "idle": ["count"] if own else [],
        }


def _as_logits(logits) -> np.ndarray:
    array = as_real(logits, "logits")
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise TraitError(
            "logits must be one finite row of at least 2 (the keys one query may look at, "
            f"without the future's −∞); got shape {array.shape}"
        )
    return array
