"""The logit explorer: what the scale of a query's logits makes of its softmax."""

from typing import ClassVar

import numpy as np
from traitlets import TraitError

from muon_lab.explorers.base.controls import Choice, Count, Slider
from muon_lab.explorers.base.explorer import Explorer, Scene, script
from muon_lab.explorers.base.labels import Limits, at_height, height_of
from muon_lab.explorers.base.marks import dots, label, line
from muon_lab.explorers.spectra import as_real

OWN = "your own"
SCALES = (0.05, 100.0)
SHARE_LIMITS = (-0.03, 1.06)
CURVES = {"spread": ("blue", "solid", "entropy / ln n"), "answers": ("orange", "dashed", "1 − Σp²")}


def gaussian(keys: int) -> np.ndarray:
    """Draw logits of unit variance, as a new layer's queries and keys give them."""
    return np.random.default_rng(4).standard_normal(keys)


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


def weight_marks(found: dict) -> list[dict]:
    """Draw a bar a key, and the name of the weight of the largest."""
    count = len(found["weights"])
    places = (np.arange(count) + 0.5) / count
    x = np.repeat(places, 3)
    y = np.stack([np.zeros(count), found["weights"], np.full(count, np.nan)], axis=1)
    top = int(found["weights"].argmax())
    above = min(found["weights"][top] + 0.045, 1.02)
    name = f"{found['weights'][top]:.3f}"
    return [
        line(0, x, y, width=max(2.0, 200 / count)),
        label(0, min(max(places[top], 0.06), 0.94), above, name, align="center"),
    ]


def scale_marks(pattern: np.ndarray, scale: float) -> list[dict]:
    """Draw entropy and answer over all scales, with a dot at the present one."""
    scales = np.geomspace(*SCALES, 120)
    curves = [attend(each * pattern) for each in scales]
    here = attend(scale * pattern)
    marks = [line(1, [scale, scale], SHARE_LIMITS, ink="faint", width=1.0, dash="dotted")]
    for name, (ink, dash, _) in CURVES.items():
        values = np.array([curve[name] for curve in curves])
        marks.append(line(1, scales, values, ink=ink, dash=dash, width=2.2))
        marks.append(dots(1, [scale], [here[name]], ink=ink, size=9))
    return marks


def _name_curves(limits: Limits = SHARE_LIMITS) -> list[dict]:
    """Name the two curves in the empty corner at the upper right, where neither goes."""
    top = height_of(0.98, limits, False)
    return [
        label(1, 90.0, at_height(top - 0.08 * row, limits, False), text, ink=ink, align="right")
        for row, (ink, _, text) in enumerate(CURVES.values())
    ]


def sentences(found: dict, scale: float) -> dict[str, str]:
    """Say what the picture shows."""
    count, largest = len(found["weights"]), found["logits"].max()
    return {
        "looks": f"Logits × {scale:.3g}: the largest is {largest:.3g}, its weight "
        f"{found['weights'].max():.3f}. The head looks at {found['effective']:.1f} of {count} "
        f"keys (entropy {found['entropy']:.2f} of at most {np.log(count):.2f} nats).",
        "answers": f"1 − Σp² = {found['answers']:.3f}: "
        + (
            "the weights hardly answer to the logits any more, and hardly any gradient "
            "reaches the queries and keys."
            if found["answers"] < 0.02
            else "so strongly do the weights still answer to a nudge of the logits."
        ),
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

    _esm = script("kernel.js")
    moving: ClassVar = ("pattern", "count", "scale")

    pattern = Choice("gaussian", label="logits")
    count = Count(16, low=2, high=64, label="keys")
    scale = Slider(1.0, low=SCALES[0], high=SCALES[1], step=0.01, label="scale", log=True)

    def __init__(self, logits=None, **values):
        self._own = None if logits is None else _as_logits(logits)
        if logits is not None:
            values = {"pattern": OWN} | values
        super().__init__(title="What the logits' scale makes of attention", **values)

    def options(self, name: str) -> list[str]:
        """List the patterns of logits."""
        return [*PATTERNS] if self._own is None else [*PATTERNS, OWN]

    def draw_axes(self, figure, palette):
        """Draw the weights' axes on the left, those over the scale on the right."""
        left, right = figure.subplots(1, 2)
        left.set(xlim=(0, 1), ylim=SHARE_LIMITS, xticks=[], title="weight of each key")
        left.set(xlabel="the keys this query may look at", ylabel="softmax weight")
        right.set(xlim=SCALES, ylim=SHARE_LIMITS, xscale="log", title="over all scales")
        right.set(xlabel="scale of the logits", ylabel="from 0 to 1")
        return [left, right]

    def compute(self) -> Scene:
        """Scale the logits and attend."""
        own = self.pattern == OWN
        pattern = self._own if own else PATTERNS[self.pattern](self.count)
        found = attend(self.scale * pattern)
        marks = weight_marks(found) + scale_marks(pattern, self.scale) + _name_curves()
        return Scene(marks, sentences(found, self.scale), found, ("count",) if own else ())


def _as_logits(logits) -> np.ndarray:
    array = as_real(logits, "logits")
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise TraitError(
            "logits must be one finite row of at least 2 (the keys one query may look at, "
            f"without the future's −∞); got shape {array.shape}"
        )
    return array
