"""Draw what the course measures: arrays in, matplotlib Axes out.

Every function draws on the Axes that it is given and returns them. Lines are labelled at their ends
instead of in a legend.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from muon_lab.polynomials import Triple, evaluate, fixed_points
from muon_lab.runs.record import Run

# Colour-blind readers can tell these apart (after Okabe and Ito 2008). The contrast with the page
# is at least 4.4 : 1, so that text can have the colour of its line.
PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "text": "#1f1f1f", "faint": "#757575", "blue": "#0072b2", "orange": "#c15a00",
        "green": "#00795a", "purple": "#a8558a", "brown": "#8c6d1f",
    },
    "dark": {
        "text": "#e8e8e8", "faint": "#8f8f8f", "blue": "#6cc0f5", "orange": "#f5a83d",
        "green": "#3fd0a4", "purple": "#e79bc6", "brown": "#d9c07a",
    },
}  # fmt: skip
BLACK, GREY, BLUE, ORANGE, GREEN, PURPLE, BROWN = PALETTES["light"].values()
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY, BROWN, BLACK)  # of a figure's lines, in this order
# The name and colour of an optimizer are the same in every figure.
OPTIMIZERS = {"adamw": ("AdamW", ORANGE), "muon": ("Muon", BLUE), "muonclip": ("MuonClip", GREEN)}
LINE_STYLES = {"momentum": "--", "update": "-"}


def draw_contours(problem, ax: Axes, levels: int = 12) -> Axes:
    """Draw the contour lines of a `problems.Problem` in the plane, and a star at its minimum.

    The levels are evenly spaced in the fourth root of the height above the minimum, so that both a
    narrow valley and its steep walls show. Raises ValueError for a problem without a window.
    """
    if problem.window is None:
        raise ValueError(f"expected a problem in the plane; {problem.name} has no window")
    x, y = (np.linspace(*side, 201) for side in problem.window)
    height = problem.value(np.array(np.meshgrid(x, y))) - problem.value(problem.minimum)  # (y, x)
    root = np.maximum(height, 0) ** 0.25
    heights = np.linspace(0, root.max(), levels + 1)[1:]
    ax.contour(x, y, root, heights, linewidths=0.8, colors="#999999")
    ax.plot(*problem.minimum, "*", color=BLACK, markersize=12, zorder=3)
    ax.set(xlim=problem.window[0], ylim=problem.window[1], xlabel="x", ylabel="y")
    return ax


def draw_path(points: np.ndarray, ax: Axes, label: str = "", color: str = BLUE) -> Axes:
    """Draw a path of shape (steps + 1, 2): one dot per step, a ring at the start.

    The limits stay, points outside are not shown, and the label is at the last point inside.
    """
    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    ax.plot(*points.T, ".-", color=color, linewidth=1.4, markersize=5)
    ax.plot(*points[0], "o", color=color, fillstyle="none", markersize=10)
    ax.set(xlim=limits[0], ylim=limits[1])
    inside = points[((limits[:, 0] < points) & (points < limits[:, 1])).all(axis=1)]
    if label and len(inside):
        halo = [withStroke(linewidth=3, foreground="white")]
        style = {"textcoords": "offset points", "color": color, "weight": "bold"}
        ax.annotate(label, inside[-1], (6, 6), path_effects=halo, **style)
    return ax


def draw_curves(
    x: np.ndarray,
    curves: Mapping[str, np.ndarray],
    ax: Axes,
    xlabel: str,
    ylabel: str,
    log: str = "",
) -> Axes:
    """Draw labelled curves over a common ``x``; ``log`` is "", "x", "y" or "xy".

    Values that are not finite leave a gap.
    """
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    for (label, values), color in zip(curves.items(), cycle(COLOURS), strict=False):
        ax.plot(x, values, color=color, linewidth=1.8, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return name_lines(_tidy(ax))


def draw_losses(
    losses: Mapping[str, np.ndarray], ax: Axes, ylabel: str = "loss", log: str = "y"
) -> Axes:
    """Draw labelled losses over the steps, from the loss before the first step on."""
    longest = max(len(values) for values in losses.values())
    padded = {
        label: np.pad(np.asarray(values, float), (0, longest - len(values)), constant_values=np.nan)
        for label, values in losses.items()
    }
    return draw_curves(np.arange(longest), padded, ax, "step", ylabel, log)


def name_lines(ax: Axes, gap: float = 0.07) -> Axes:
    """Write each label beside the last point of its line, at least ``gap`` of the height apart.

    A label that several lines share is written once, beside the last of them. Set the limits first.
    The labels are to the right of the Axes: create the figure with ``layout="constrained"`` to make
    room for them.
    """
    ax.autoscale_view()
    lines = {line.get_label(): line for line in ax.get_lines()}
    lines = {label: line for label, line in lines.items() if not label.startswith("_")}
    heights = spread([_end_height(line, ax) for line in lines.values()], gap)
    for (label, line), height in zip(lines.items(), heights, strict=True):
        style = {"color": line.get_color(), "va": "center", "transform": ax.transAxes}
        ax.text(1.01, height, label, **style)
    return ax


def spread(
    heights: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0
) -> list[float]:
    """Move heights apart until they differ by ``gap`` or more, all between ``low`` and ``high``.

    Their order stays. Where there is no room for all, the gap shrinks to what fits.

    >>> spread([0.5, 0.5, 0.98], gap=0.25)
    [0.5, 0.75, 1.0]
    """
    order = np.argsort(heights, kind="stable")
    steps = np.arange(len(heights)) * min(gap, (high - low) / max(1, len(heights) - 1))
    raised = np.maximum(np.asarray(heights, float)[order], low) - steps
    raised = np.maximum.accumulate(raised) + steps
    placed = np.empty(len(heights))
    placed[order] = np.minimum(raised, high - steps[::-1])
    return placed.tolist()


def _end_height(line, ax):
    """Return the height of a line's last visible point, from 0 at the bottom of the Axes to 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        points = ax.transLimits.transform(ax.transScale.transform(line.get_xydata()))
    finite = points[np.isfinite(points).all(axis=1)]
    return float(np.clip(finite[-1, 1], 0, 1)) if len(finite) else 0.0


def _tidy(ax: Axes) -> Axes:
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


# Training runs.


def _name_and_colour(run: Run) -> tuple[str, str]:
    """Return what a run's optimizer has in every figure; one of your own is called as its class."""
    own = run.optimizer.rpartition(":")[2]
    return OPTIMIZERS.get(run.optimizer, (own, (PURPLE, BROWN)[sum(own.encode()) % 2]))


def draw_runs(runs: Sequence[Run], ax: Axes, along: str = "bytes") -> Axes:
    """Draw validation losses over the text read or, with ``along="seconds"``, over training time.

    One line per run. The loss before the first step, which all share, is left out.
    """
    scale, xlabel = {"bytes": (1e-3, "text read (kB)"), "seconds": (1, "training time (s)")}[along]
    for run in runs:
        name, color = _name_and_colour(run)
        x, y = scale * run.curves[f"valid_{along}"][1:], run.curves["valid_loss"][1:]
        ax.plot(x, y, ".-", color=color, linewidth=1.4, label=name)
    ax.set(xlabel=xlabel, ylabel="validation loss (nats per byte)")
    return name_lines(_tidy(ax))


def draw_sweep(runs: Sequence[Run], ax: Axes) -> Axes:
    """Draw final validation losses over the learning rate: one dot per run, a line through means.

    One line per weight decay, dashed for decay 0.
    """
    decays = {run.config["weight_decay"] for run in runs}
    losses: dict[tuple[str, str, float], dict[float, list[float]]] = {}
    for run in runs:
        line = losses.setdefault((*_name_and_colour(run), run.config["weight_decay"]), {})
        line.setdefault(run.config["lr"], []).append(run.final_loss)
    for (name, color, decay), by_rate in losses.items():
        label = f"{name}, decay {decay:g}" if len(decays) > 1 else name
        rates = sorted(by_rate)
        for rate in rates:
            ax.plot([rate] * len(by_rate[rate]), by_rate[rate], "o", color=color, markersize=5)
        means = [np.mean(by_rate[rate]) for rate in rates]
        ax.plot(rates, means, "-" if decay else "--", color=color, label=label)
    ax.set(xlabel="learning rate", ylabel="final validation loss (nats per byte)", xscale="log")
    return name_lines(_tidy(ax))


def draw_spectra(run: Run, ax: Axes, matrix: int = 0, at: int = -1) -> Axes:
    """Draw the singular values of one matrix's momentum (dashed) and of the update made from it.

    Each is divided by its own largest, which comes first. ``matrix`` is an index into
    ``provenance["spectra"]["matrices"]``, ``at`` one into ``spectrum_step``.
    """
    share_larger = 1 - np.array(run.provenance["spectra"]["quantiles"])
    name, color = _name_and_colour(run)
    for kind, style in LINE_STYLES.items():
        values = run.curves[f"{kind}_spectrum"][at, matrix]  # (quantiles,), the smallest first
        label = f"{name}'s {kind}"
        ax.plot(share_larger[::-1], values[::-1], style, color=color, linewidth=1.8, label=label)
    ax.set(xlabel="share of singular values that are larger", ylabel="singular value / largest")
    ax.set(yscale="log")
    return name_lines(_tidy(ax))


def draw_rare_shares(runs: Sequence[Run], ax: Axes) -> Axes:
    """Draw the share of momentum (dashed) and update that lies in the momentum's rare half.

    One line per run: the mean over its matrices, at each ``spectrum_step``.
    """
    for run in runs:
        name, color = _name_and_colour(run)
        for kind, style in LINE_STYLES.items():
            curve = run.curves["rare_share_momentum" if kind == "momentum" else "rare_share"]
            line = {"color": color, "linewidth": 1.4, "label": f"{name}'s {kind}"}
            ax.plot(run.curves["spectrum_step"], 100 * curve.mean(axis=1), style, **line)
    ax.set(xlabel="step", ylabel="energy in the rare half (%)", ylim=(0, 60))
    return name_lines(_tidy(ax))


def draw_memory(sizes: Mapping[str, Mapping[str, float]], ax: Axes) -> Axes:
    """Draw one bar per name, made of its kinds of memory in bytes, each labelled in megabytes."""
    fills = (BLUE, 0.5), (GREY, 0.4), (ORANGE, 0.6)  # colour and opacity
    for row, kinds in enumerate(sizes.values()):
        left = 0.0
        for (kind, size), fill in zip(kinds.items(), cycle(fills), strict=False):
            megabytes = size / 1e6
            ax.barh(row, megabytes, left=left, color=fill, edgecolor="white")
            text = f"{kind}\n{megabytes:.1f}"
            ax.text(left + megabytes / 2, row, text, ha="center", va="center", fontsize=8)
            left += megabytes
    ax.set(yticks=range(len(sizes)), yticklabels=list(sizes), xlabel="megabytes")
    ax.invert_yaxis()
    return _tidy(ax)


def draw_logits(run: Run, ax: Axes) -> Axes:
    """Draw the largest attention logit of each head at each step, and the largest of all in bold.

    Logits below zero are drawn at the lower edge. Under MuonClip τ is the dashed line.
    """
    name, color = _name_and_colour(run)
    heads = np.maximum(run.curves["max_logit"].reshape(len(run.curves["max_logit"]), -1), 0.1)
    steps = np.arange(1, len(heads) + 1)
    ax.plot(steps, heads, color=color, linewidth=0.6, alpha=0.4)  # (steps, layers · heads)
    ax.plot(steps, heads.max(axis=1), color=color, linewidth=1.8, label=name)
    if run.config["optimizer"] == "muonclip":
        ax.axhline(run.config["tau"], color=BLACK, linestyle="--", linewidth=1, label="τ")
    ax.set(xlabel="step", ylabel="largest logit of each head", yscale="log")
    return name_lines(_tidy(ax))


# Polynomials.


def draw_polynomial(
    triple: Triple, ax: Axes, start: float | None = None, steps: int = 20, reach: float = 1.3
) -> Axes:
    """Draw p(σ) = a·σ + b·σ³ + c·σ⁵ on [0, reach], the line y = σ, and the points where they meet.

    A filled point attracts (|p'| < 1), a ring repels. With ``start``, also draw where repeating p
    takes that value: up to the curve, across to the diagonal, and again, until it leaves the Axes.
    """
    x = np.linspace(0, reach, 400)
    ax.plot(x, evaluate(x, triple), color=BLUE, linewidth=1.8, label="p(σ)")
    ax.plot(x, x, color=GREY, linewidth=1, label="σ")
    if start is not None:
        ax.plot(*_staircase(triple, start, steps, reach), color=ORANGE, linewidth=0.9)
    for point, slope in fixed_points(triple):
        if point <= reach:
            fill = "full" if abs(slope) < 1 else "none"
            ax.plot(point, point, "o", color=BLACK, fillstyle=fill, markersize=7, zorder=4)
    ax.set(xlim=(0, reach), ylim=(0, reach), xlabel="σ before", ylabel="σ after one step")
    return name_lines(_tidy(ax))


def _staircase(triple, start, steps, reach):
    """Return the corners of the path between curve and diagonal, shape (2, corners)."""
    corners = [(start, 0.0)]
    for _ in range(steps):
        value = corners[-1][0]
        if not 0 <= value <= reach:
            break
        image = evaluate(value, triple)
        corners += [(value, image), (image, image)]
    return np.array(corners).T


def draw_alternation(triple: Triple, points: np.ndarray, ax: Axes) -> Axes:
    """Draw the error p - 1 between the first and last of ``points``, and a dot at each of them.

    Dashed lines show the largest error in either direction: the dots of the best polynomial lie on
    them in turn.
    """
    x = np.linspace(points[0], points[-1], 600)
    error = evaluate(x, triple) - 1
    ax.plot(x, error, color=BLUE, linewidth=1.8)
    ax.plot(points, evaluate(points, triple) - 1, "o", color=ORANGE, markersize=7)
    for sign in (-1, 1):
        ax.axhline(sign * np.abs(error).max(), color=GREY, linestyle="--", linewidth=1)
    ax.set(xlabel="σ", ylabel="p(σ) - 1")
    return _tidy(ax)
