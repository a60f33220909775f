"""Texts that move: a name at a line's end, and the numbers under an axis of steps."""

import math
from collections.abc import Sequence

from muon_lab.explorers.base.marks import label

Limits = tuple[float, float]
GAP = 0.07  # between two names, as a share of the axes' height


def height_of(value: float, limits: Limits, log: bool) -> float:
    """Return where a value lies in the height of its axes, 0 at the bottom and 1 at the top."""
    low, high = limits
    kept = high if math.isnan(value) else min(max(value, low), high)
    return math.log(kept / low) / math.log(high / low) if log else (kept - low) / (high - low)


def at_height(height: float, limits: Limits, log: bool) -> float:
    """Return the value at a height of the axes; the inverse of `height_of`.

    >>> at_height(0.5, (1, 100), log=True)
    10.0
    """
    low, high = limits
    return low * (high / low) ** height if log else low + (high - low) * height


def end_labels(
    axes: int, ends: Sequence[tuple[str, float, str]], limits: Limits, log: bool
) -> list[dict]:
    """Name lines where they end, at x = 1: each end is (name, value, ink); names do not overlap."""
    found = sorted((height_of(value, limits, log), i) for i, (_, value, _) in enumerate(ends))
    heights, floor = {}, 0.03
    for height, i in found:
        heights[i] = floor = max(height, floor)
        floor += GAP
    over = max(0.0, floor - GAP - 0.97)
    return [
        label(axes, 1.02, at_height(heights[i] - over, limits, log), name, ink=ink)
        for i, (name, _, ink) in enumerate(ends)
    ]


def step_labels(axes: int, steps: int, limits: Limits, log: bool) -> list[dict]:
    """Number the steps under axes whose x goes from 0 to 1 over all of them."""
    y = at_height(-0.055, limits, log)
    stride = _round_up(steps / (10 if steps <= 20 else 5))
    shown = range(0, steps + 1, stride)
    return [label(axes, k / steps, y, str(k), align="center") for k in shown]


def _round_up(stride: float) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50, ..."""
    power = 10 ** math.floor(math.log10(max(stride, 1)))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= stride)
