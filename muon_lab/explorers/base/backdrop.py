"""What stands still in a picture: matplotlib draws it once, and the browser lays it below."""

import io
import textwrap
from collections.abc import Callable, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from muon_lab.plots import PALETTES

DOTS_PER_INCH = 100  # one inch of a figure is this many CSS pixels
SHARPNESS = 1.5  # of a still picture, in its pixels per CSS pixel

DrawAxes = Callable[[Figure, dict[str, str]], Sequence[Axes]]


def _new_figure(draw_axes: DrawAxes, size: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    palette = PALETTES["light"]
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = draw_axes(figure, palette)
    for axes in all_axes:
        axes.patch.set_alpha(0.0)
        axes.tick_params(colors=palette["text"], which="both")
        for part in (axes.xaxis.label, axes.yaxis.label, axes.title):
            part.set_color(palette["text"])
        for side, spine in axes.spines.items():
            spine.set_color(palette["faint"])
            spine.set_visible(side in ("left", "bottom"))
    return figure, all_axes


def backdrop(draw_axes: DrawAxes, size: tuple[float, float]) -> dict:
    """Draw the axes as an SVG in the light palette's colors, and say where they lie in it.

    The browser swaps the colors where the page is dark. A ``box`` is (left, top, width, height) in
    fractions of the picture; a ``panel`` is the same with ticks, labels and title, so that a narrow
    page can show the panels one below the other.
    """
    figure, all_axes = _new_figure(draw_axes, size)
    figure.patch.set_alpha(0.0)
    drawn = io.StringIO()
    with rc_context({"svg.hashsalt": "muon_lab"}):  # the same picture is the same text
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    svg = drawn.getvalue()
    return {
        "width": size[0] * DOTS_PER_INCH,
        "height": size[1] * DOTS_PER_INCH,
        "axes": [_describe(axes) for axes in all_axes],
        "svg": svg[svg.index("<svg") :],
    }


def _describe(axes: Axes) -> dict:
    figure, place = axes.figure, axes.get_position()
    around = axes.get_tightbbox(figure.canvas.get_renderer())
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


def still_picture(
    draw_axes: DrawAxes,
    size: tuple[float, float],
    draw: Callable[[Sequence[Axes], dict[str, str]], None],
    caption: Sequence[str],
) -> bytes:
    """Draw the axes, what ``draw(axes, palette)`` adds, and sentences below them, as a PNG."""
    figure, all_axes = _new_figure(draw_axes, size)
    draw(all_axes, PALETTES["light"])
    lines = "\n".join(textwrap.fill(sentence, 112) for sentence in caption)
    figure.text(0.01, -0.02, lines, va="top", fontsize=9, color=PALETTES["light"]["text"])
    sheet = io.BytesIO()
    tight = {"bbox_inches": "tight", "pad_inches": 0.1}
    figure.savefig(sheet, format="png", dpi=SHARPNESS * DOTS_PER_INCH, **tight)
    return sheet.getvalue()
