"""Pictures as data: marks that matplotlib and the browser's canvas draw alike.

A mark is a dict of plain values and arrays. ``axes`` is the number of the axes it lies in, ``x``
and ``y`` are in those axes' own units, ``ink`` names a colour of the palette of either theme.
"""

import base64
import io
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOTS_PER_INCH = 100  # one inch of figure is this many CSS pixels

# Okabe and Ito's colours, told apart by colour-blind readers, lightened where the page is dark.
PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "text": "#1f1f1f",
        "faint": "#8a8a8a",
        "blue": "#0072b2",
        "orange": "#c15a00",
        "green": "#00795a",
        "purple": "#a8558a",
    },
    "dark": {
        "text": "#e8e8e8",
        "faint": "#8f8f8f",
        "blue": "#6cc0f5",
        "orange": "#f5a83d",
        "green": "#3fd0a4",
        "purple": "#e79bc6",
    },
}
DASHES = {"solid": [], "dashed": [6, 4], "dotted": [1.5, 3]}


def line(axes: int, x, y, *, ink="blue", width=1.8, dash="solid", alpha=1.0) -> dict:
    """Make a line through (x, y); NaN in y breaks it, so one mark can hold many lines."""
    style = {"ink": ink, "width": width, "dash": DASHES[dash], "alpha": alpha}
    return {"kind": "line", "axes": axes, "x": _array(x), "y": _array(y), **style}


def dots(axes: int, x, y, *, ink="blue", size=7.0, hollow=False, alpha=1.0) -> dict:
    """Make round dots of ``size`` pixels across at (x, y); hollow ones are rings."""
    style = {"ink": ink, "size": size, "hollow": hollow, "alpha": alpha}
    return {"kind": "dots", "axes": axes, "x": _array(x), "y": _array(y), **style}


def band(axes: int, low: float, high: float, *, ink="green", alpha=0.15) -> dict:
    """Make a shaded band across the axes, from y = low to y = high."""
    return {"kind": "band", "axes": axes, "low": low, "high": high, "ink": ink, "alpha": alpha}


def label(axes: int, x: float, y: float, text: str, *, ink="text", align="left") -> dict:
    """Make a short text that ends, starts or is centred at (x, y)."""
    return {"kind": "label", "axes": axes, "x": x, "y": y, "text": text, "ink": ink, "align": align}


def _array(values) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=float).ravel()


def pack(scene: dict) -> dict:
    """Put all arrays of a scene end to end into one buffer of bytes, as a widget sends it fastest.

    An array's place is then [first, count], in numbers of float64.
    """
    arrays, first = [], 0

    def place(value):
        nonlocal first
        if not isinstance(value, np.ndarray):
            return value
        arrays.append(value)
        first += value.size
        return [first - value.size, value.size]

    marks = [{key: place(value) for key, value in mark.items()} for mark in scene.get("marks", [])]
    numbers = np.concatenate(arrays) if arrays else np.empty(0)
    return {**scene, "marks": marks, "numbers": memoryview(numbers).cast("B")}


def draw_marks(all_axes: Sequence[Axes], marks: Sequence[dict], palette: dict[str, str]) -> None:
    """Draw marks with matplotlib, as the browser would."""
    for mark in marks:
        axes, colour = all_axes[mark["axes"]], palette[mark["ink"]]
        _DRAW[mark["kind"]](axes, mark, colour)


def _draw_line(axes: Axes, mark: dict, colour: str) -> None:
    dash = (0, [length / mark["width"] for length in mark["dash"]]) if mark["dash"] else "-"
    style = {"linewidth": 0.72 * mark["width"], "linestyle": dash, "alpha": mark["alpha"]}
    axes.plot(mark["x"], mark["y"], color=colour, scalex=False, scaley=False, **style)


def _draw_dots(axes: Axes, mark: dict, colour: str) -> None:
    face = "none" if mark["hollow"] else colour
    area = (0.72 * mark["size"]) ** 2
    style = {"facecolors": face, "edgecolors": colour, "alpha": mark["alpha"], "zorder": 3}
    limits = axes.get_xlim(), axes.get_ylim()
    axes.scatter(mark["x"], mark["y"], s=area, **style)
    axes.set(xlim=limits[0], ylim=limits[1])


def _draw_band(axes: Axes, mark: dict, colour: str) -> None:
    axes.axhspan(mark["low"], mark["high"], color=colour, alpha=mark["alpha"], linewidth=0)


def _draw_label(axes: Axes, mark: dict, colour: str) -> None:
    place = {"ha": mark["align"], "va": "center", "clip_on": False, "fontsize": 9}
    axes.text(mark["x"], mark["y"], mark["text"], color=colour, **place)


_DRAW = {"line": _draw_line, "dots": _draw_dots, "band": _draw_band, "label": _draw_label}


def picture(
    draw_axes: Callable[[Figure, dict], Sequence[Axes]],
    size: tuple[float, float],
    *,
    marks: Sequence[dict] = (),
    caption: str = "",
    theme: str = "light",
    sharpness: float = 2.0,
) -> tuple[bytes, Figure, Sequence[Axes]]:
    """Draw axes, then marks over them, as a PNG; return it with the figure and its axes.

    ``size`` is in inches of 100 CSS pixels; ``sharpness`` is device pixels a CSS pixel.
    """
    palette = PALETTES[theme]
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(1.0 if marks else 0.0)
    all_axes = draw_axes(figure, palette)
    for axes in all_axes:
        _colour_axes(axes, palette)
    draw_marks(all_axes, marks, palette)
    if caption:
        lines = "\n".join(textwrap.fill(sentence, 112) for sentence in caption.splitlines())
        figure.text(0.01, -0.02, lines, va="top", fontsize=9, color=palette["text"])
    sheet = io.BytesIO()
    tight = {"bbox_inches": "tight", "pad_inches": 0.1} if caption else {}
    figure.savefig(sheet, format="png", dpi=sharpness * DOTS_PER_INCH, **tight)
    return sheet.getvalue(), figure, all_axes


def _colour_axes(axes: Axes, palette: dict[str, str]) -> None:
    axes.patch.set_alpha(0.0)
    axes.tick_params(colors=palette["text"], which="both")
    for part in (axes.xaxis.label, axes.yaxis.label, axes.title):
        part.set_color(palette["text"])
    for side, spine in axes.spines.items():
        spine.set_color(palette["faint"])
        spine.set_visible(side in ("left", "bottom"))


def backdrop(draw_axes: Callable, size: tuple[float, float]) -> dict:
    """Draw what stands still once for each theme, and say where the axes lie in it.

    A box is (left, top, width, height) in fractions of the picture; an axes' ``panel`` has its
    labels in it too, so that a narrow page can show the panels one below the other.
    """
    sheets = {}
    for theme, palette in PALETTES.items():
        png, _, all_axes = picture(draw_axes, size, theme=theme)
        address = "data:image/png;base64," + base64.b64encode(png).decode()
        sheets[theme] = {"picture": address, "inks": palette}
    return {
        "width": size[0] * DOTS_PER_INCH,
        "height": size[1] * DOTS_PER_INCH,
        "axes": [_describe(axes) for axes in all_axes],
        **sheets,
    }


def _describe(axes: Axes) -> dict:
    figure, place = axes.figure, axes.get_position()
    around = axes.get_tightbbox(figure.canvas.get_renderer())  # with ticks, labels and title
    around = around.padded(0.02 * figure.dpi).transformed(figure.transFigure.inverted())
    left, right = max(around.x0, 0.0), min(around.x1, 1.0)
    top, bottom = max(1 - around.y1, 0.0), min(1 - around.y0, 1.0)
    return {
        "box": [place.x0, 1 - place.y1, place.width, place.height],
        "panel": [left, top, right - left, bottom - top],
        "x": [*map(float, axes.get_xlim())],
        "y": [*map(float, axes.get_ylim())],
        "logs": [axes.get_xscale() == "log", axes.get_yscale() == "log"],
    }
