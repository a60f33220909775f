"""Marks: what an explorer's picture shows, as data that matplotlib and the browser draw alike.

A mark is a dict. ``axes`` is the number of its axes; positions are in the units of those axes. A
position is a number, the name of a number or an array that the explorer computes, or a list of
these (see `sentences.lookup`). A mark of a name that is missing is not drawn. ``color`` is a name
of `plots.PALETTES`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from muon_lab.explorers.base.sentences import lookup, opened, say
from muon_lab.plots import spread

DASHES = {"solid": [], "dashed": [6, 4], "dotted": [1.5, 3]}  # pixels
NAME_GAP = 0.07  # between two names, as a share of the axes' height


def line(axes: int, x, y, *, color="blue", width=1.8, dash="solid", alpha=1.0) -> dict:
    """Make a line through (x, y); where y has rows, one line for each of them."""
    style = {"color": color, "width": width, "dash": DASHES[dash], "alpha": alpha}
    return {"kind": "line", "axes": axes, "x": x, "y": y, **style}


def stems(axes: int, x, low, high, *, color="blue", width: float | str = 1.8) -> dict:
    """Make a vertical line at each x, from ``low`` to ``high``."""
    style = {"color": color, "width": width}
    return {"kind": "stems", "axes": axes, "x": x, "low": low, "high": high, **style}


def dots(axes: int, x, y, *, color="blue", size=7.0, hollow=False, pick="all") -> dict:
    """Make round dots of ``size`` pixels at (x, y), or at the first or the last point alone."""
    style = {"color": color, "size": size, "hollow": hollow, "pick": pick}
    return {"kind": "dots", "axes": axes, "x": x, "y": y, **style}


def band(axes: int, low, high, *, color="green", alpha=0.15) -> dict:
    """Make a shaded band across the axes, from y = low to y = high."""
    style = {"color": color, "alpha": alpha}
    return {"kind": "band", "axes": axes, "low": low, "high": high, **style}


def label(axes: int, x, y, text, *, color="text", align="center") -> dict:
    """Write a text, a template of `sentences.say`, at (x, y)."""
    style = {"color": color, "align": align}
    return {"kind": "label", "axes": axes, "x": x, "y": y, "text": text, **style}


def names(axes: int, lines: Sequence[tuple]) -> dict:
    """Name lines where they end, at x = 1: each is (text, y, color). The names do not overlap."""
    return {"kind": "names", "axes": axes, "lines": [list(each) for each in lines]}


def ticks(axes: int, steps) -> dict:
    """Number the steps under axes whose x goes from 0 to 1 over all of them."""
    return {"kind": "ticks", "axes": axes, "steps": steps}


def inside(group: str, marks: Sequence[dict]) -> list[dict]:
    """Let names of marks be those of a group of numbers; without that group nothing is drawn."""
    return [{**mark, "within": group} for mark in marks]


def draw_marks(
    all_axes: Sequence[Axes], marks: Sequence[Mapping], numbers: Mapping, palette: Mapping
) -> None:
    """Draw marks with matplotlib, as the browser does."""
    for mark in marks:
        axes = all_axes[mark["axes"]]
        keys = [key for key in ("x", "y", "low", "high", "width", "steps") if key in mark]
        group = opened(numbers, mark.get("within"))
        found = {key: lookup(group or {}, mark[key]) for key in keys}
        if any(value is None for value in found.values()):
            continue
        limits = axes.get_xlim(), axes.get_ylim()
        _DRAW[mark["kind"]](axes, {**mark, **found}, numbers, palette)
        axes.set(xlim=limits[0], ylim=limits[1])


def _draw_line(axes, mark, _, palette):
    width = 0.72 * mark["width"]
    dash = (0, [length / mark["width"] for length in mark["dash"]]) if mark["dash"] else "-"
    style = {"color": palette[mark["color"]], "linestyle": dash, "alpha": mark["alpha"]}
    axes.plot(mark["x"], np.transpose(mark["y"]), linewidth=width, **style)


def _draw_stems(axes, mark, _, palette):
    style = {"colors": palette[mark["color"]], "linewidth": 0.72 * mark["width"]}
    axes.vlines(mark["x"], mark["low"], mark["high"], **style)


def _draw_dots(axes, mark, _, palette):
    picked = {"all": slice(None), "first": slice(1), "last": slice(-1, None)}[mark["pick"]]
    color = palette[mark["color"]]
    face = "none" if mark["hollow"] else color
    style = {"facecolors": face, "edgecolors": color, "zorder": 3}
    points = np.atleast_1d(mark["x"])[picked], np.atleast_1d(mark["y"])[picked]
    axes.scatter(*points, s=(0.72 * mark["size"]) ** 2, **style)


def _draw_band(axes, mark, _, palette):
    style = {"color": palette[mark["color"]], "alpha": mark["alpha"], "linewidth": 0}
    axes.axhspan(mark["low"], mark["high"], **style)


def _draw_label(axes, mark, numbers, palette):
    style = {"ha": mark["align"], "va": "center", "fontsize": 9, "color": palette[mark["color"]]}
    axes.text(mark["x"], mark["y"], say(mark["text"], numbers), **style)


def _draw_names(axes, mark, numbers, palette):
    ends = [(text, lookup(numbers, y), color) for text, y, color in mark["lines"]]
    ends = [(text, np.atleast_1d(y)[-1], color) for text, y, color in ends if y is not None]
    heights = spread([_height(axes, y) for _, y, _ in ends], NAME_GAP, 0.03, 0.97)
    for (text, _, color), height in zip(ends, heights, strict=True):
        style = {"va": "center", "fontsize": 9, "color": palette[color]}
        axes.text(1.02, height, say(text, numbers), transform=axes.get_xaxis_transform(), **style)


def _height(axes: Axes, y: float) -> float:
    """Return the height of a value in its axes, 0 at the bottom and 1 at the top."""
    low, high = axes.get_ylim()
    inside = high if np.isnan(y) else min(max(y, low), high)
    return axes.transLimits.transform(axes.transScale.transform((1, inside)))[1]


def _draw_ticks(axes, mark, _, palette):
    shown = range(0, mark["steps"] + 1, tick_distance(mark["steps"]))
    axes.set_xticks([k / mark["steps"] for k in shown], [str(k) for k in shown])


def tick_distance(steps: int) -> int:
    """Return how many steps lie between two ticks: 1, 2, 5, 10, 20, ...

    >>> [tick_distance(steps) for steps in (5, 20, 25, 500)]
    [1, 2, 5, 100]
    """
    least = steps / (10 if steps <= 20 else 5)
    return next(k * 10**p for p in range(9) for k in (1, 2, 5) if k * 10**p >= least)


_DRAW = {
    "line": _draw_line,
    "stems": _draw_stems,
    "dots": _draw_dots,
    "band": _draw_band,
    "label": _draw_label,
    "names": _draw_names,
    "ticks": _draw_ticks,
}
