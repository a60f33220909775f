"""The matrix explorer: rotate, stretch, rotate; and what three optimizers make of a spectrum."""

from typing import ClassVar

import numpy as np
from traitlets import Dict, List, TraitError, Unicode

from muon_lab.explorers.base.controls import Choice, Slider
from muon_lab.explorers.base.explorer import Explorer, script
from muon_lab.explorers.base.marks import dots, inside, line, names
from muon_lab.explorers.base.matrices import MATRICES, OWN, as_matrix, as_real
from muon_lab.explorers.base.sentences import either
from muon_lab.orthogonalize import newton_schulz, polar_factor

LIMIT = 1.5  # of an entry of the 2 × 2 matrix; no stretch is then above 3
REACH = 3.1  # the axes' half-width
CIRCLE = np.array([np.cos(angles := np.linspace(0, 2 * np.pi, 121)), np.sin(angles)])  # (2, 121)
STAGES = ("unit circle", "rotate: Vᵀ", "stretch: Σ", "rotate: U")
UPDATES = {
    "SGD": ("blue", "solid", lambda gradient: gradient),
    "sign (Adam)": ("orange", "dashed", np.sign),
    "Muon": ("green", "dotted", newton_schulz),
}


def _axis(number: int, end: int, color: str, dash: str) -> list[dict]:
    x, y = f"axes.0.{end}", f"axes.1.{end}"
    style = {"color": color, "dash": dash}
    return [line(number, [0, x], [0, y], width=2.4, **style), dots(number, x, y, color=color)]


def _stage_marks(number: int) -> list[dict]:
    circle = line(number, "circle.0", "circle.1", width=2.0)
    axes = _axis(number, 0, "orange", "solid") + _axis(number, 1, "green", "dashed")
    return inside(f"stages.{number}", [circle, *axes])


MARKS = [
    *(mark for number in range(4) for mark in _stage_marks(number)),
    *(
        line(4, "share", f"spectra.{name}", color=color, dash=dash, width=2.2)
        for name, (color, dash, _) in UPDATES.items()
    ),
    names(4, [(name, f"spectra.{name}", color) for name, (color, _, _) in UPDATES.items()]),
]
RANKS = ", ".join(f"{name} {{ranks.{number}:.1f}}" for number, name in enumerate(UPDATES))
SENTENCES = {
    "parts": [
        "The matrix is: rotate by {first_angle:.0f}°, stretch by {stretches.0:.3g} and "
        "{stretches.1:.3g}, rotate by {last_angle:.0f}°",
        either("mirrors", yes=" and mirror.", no="."),
    ],
    "now": [
        "At {towards:.2f} of the way the stretches are {blend_stretches.0:.3g} and "
        "{blend_stretches.1:.3g}. ",
        either(
            "flat",
            no="Its polar factor keeps the rotations and stretches by 1 and 1.",
            yes="A stretch of 0 leaves its direction undetermined: the polar factor drops it.",
        ),
    ],
    "ranks": either(
        "count",
        none="Python has not sent this matrix yet.",
        other=f"Stable rank of each step, of {{count}} directions: {RANKS}.",
    ),
}


def rotate_stretch_rotate(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U, the stretches, and Vᵀ of a 2 × 2 matrix; Vᵀ is a rotation by at most a right angle.

    A matrix that mirrors (a negative determinant) has its mirror in U; a flat one never mirrors.
    The sum and the difference of the two angles have closed forms, so that the picture does not
    jump where the stretches are equal and an SVD could choose any axes.

    >>> U, stretches, Vh = rotate_stretch_rotate(np.diag([0.5, -2.0]))
    >>> stretches.tolist(), bool(np.linalg.det(Vh) > 0)
    ([2.0, 0.5], True)
    """
    (a, b), (c, d) = matrix
    turned, mirrored = np.array([a + d, c - b]) / 2, np.array([a - d, c + b]) / 2
    large, small = (np.sqrt(x * x + y * y) for x, y in (turned, mirrored))
    both, difference = (np.arctan2(y, x) for x, y in (turned, mirrored))
    first, last = (both - difference) / 2, (both + difference) / 2
    if abs(first) > np.pi / 2:
        first, last = first - np.sign(first) * np.pi, last - np.sign(first) * np.pi
    stretches = np.array([large + small, abs(large - small)])
    if stretches[1] < 1e-15 * stretches[0]:  # rounding error
        stretches[1] = 0.0
    mirror = -1.0 if large < small and stretches[1] else 1.0
    return rotation(last) * [1.0, mirror], stretches, rotation(first)


def rotation(angle: float) -> np.ndarray:
    """Return the (2, 2) rotation by an angle in radians, counter-clockwise."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def angle_of(matrix: np.ndarray) -> float:
    """Return by how many degrees a matrix turns the first axis, counter-clockwise."""
    return float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))


def describe(matrix: np.ndarray, towards: float) -> dict:
    """Take a 2 × 2 matrix apart; ``towards`` says how far it has gone to its polar factor."""
    U, stretches, Vh = rotate_stretch_rotate(matrix)
    factor = polar_factor(matrix)
    blend = (1 - towards) * matrix + towards * factor
    stretched = np.diag(U.T @ blend @ Vh.T).round(15) + 0.0
    stages = [np.eye(2), Vh, stretched[:, None] * Vh, U @ (stretched[:, None] * Vh)]
    return {
        "matrix": matrix,
        "polar_factor": factor,
        "blend": blend,
        "U": U,
        "Vh": Vh,
        "stretches": stretches,
        "blend_stretches": stretched,
        "first_angle": angle_of(Vh),
        "last_angle": angle_of(U),
        "mirrors": bool(np.linalg.det(U) < 0),
        "flat": not np.allclose(factor @ factor.T, np.eye(2)),
        "stages": [{"circle": stage @ CIRCLE, "axes": stage @ Vh.T} for stage in stages],
    }


def spectra_of_updates(gradient: np.ndarray) -> dict[str, np.ndarray]:
    """Return the singular values of each optimizer's step, divided by the largest."""
    gradient = gradient / np.abs(gradient).max()  # its scale does not matter, and may overflow
    found = {}
    for name, (_, _, update) in UPDATES.items():
        values = np.linalg.svd(update(gradient), compute_uv=False)
        found[name] = values / values[0]
    return found


def stable_rank(values: np.ndarray) -> float:
    """Return ‖·‖²_F / σ²_max: how many directions share the weight.

    >>> stable_rank(np.array([2.0, 2.0, 0.0]))
    2.0
    """
    return float(np.sum(values**2) / values.max() ** 2)


class MatrixExplorer(Explorer):
    """See a 2 × 2 matrix as rotate, stretch, rotate, and go from it to its polar factor.

    ``matrix`` sets the four entries; ``large`` is an array whose spectrum stands below, instead of
    one of those offered. ``result`` is a dict: matrix, polar_factor, blend (where the slider
    stands), stretches, blend_stretches, first_angle and last_angle (degrees), mirrors, and
    ``spectra`` with the normalised singular values of each optimizer's step.

    >>> explorer = MatrixExplorer([[1.0, 1.0], [0.0, 1.0]], towards=1.0)
    >>> explorer.result["blend_stretches"].round(6).tolist()
    [1.0, 1.0]
    """

    _esm = script("matrix.js")
    moving: ClassVar = ("m11", "m12", "towards", "m21", "m22", "spectrum")
    size: ClassVar = (7.6, 4.6)

    title = Unicode("Rotate, stretch, rotate").tag(sync=True)
    marks = List(MARKS).tag(sync=True)
    sentences = Dict(SENTENCES).tag(sync=True)

    m11 = Slider(1.0, low=-LIMIT, high=LIMIT, step=0.05, label="m₁₁")
    m12 = Slider(0.8, low=-LIMIT, high=LIMIT, step=0.05, label="m₁₂")
    m21 = Slider(0.2, low=-LIMIT, high=LIMIT, step=0.05, label="m₂₁")
    m22 = Slider(0.9, low=-LIMIT, high=LIMIT, step=0.05, label="m₂₂")
    towards = Slider(0.0, low=0, high=1, step=0.01, label="towards polar factor")
    spectrum = Choice("gaussian", label="gradient")

    def __init__(self, matrix=None, *, large=None, **values):
        self._large = None if large is None else as_matrix(large)
        if matrix is not None:
            values = entries_of(matrix) | values
        if large is not None:
            values = {"spectrum": OWN} | values
        super().__init__(**values)

    def options(self, name: str, view=None) -> list[str]:
        """List the large matrices."""
        return [*MATRICES] if self._large is None else [*MATRICES, OWN]

    def supply(self, everything: bool = False) -> None:
        """Send the spectra of the chosen matrix."""
        wanted = self.options("spectrum") if everything else [self.spectrum]
        new = {}
        for name in wanted:
            if name not in self.data:
                spectra = spectra_of_updates(self._large if name == OWN else MATRICES[name]())
                new[name] = {rule: values.tolist() for rule, values in spectra.items()}
        if new:
            self.data = {**self.data, **new}

    def draw_axes(self, figure, palette, view):
        """Draw four planes above, the axes of the spectra below."""
        rows = figure.add_gridspec(2, 1, height_ratios=(1.0, 1.05))
        planes = rows[0].subgridspec(1, 4).subplots()
        for axes, name in zip(planes, STAGES, strict=True):
            axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", title=name)
            axes.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2) if axes is planes[0] else ())
            axes.plot(*CIRCLE, color=palette["faint"], linewidth=0.8, linestyle=(0, (2, 2)))
        middle = rows[1].subgridspec(1, 3, width_ratios=(1, 4, 1))[1]  # legible on a phone, too
        below = figure.add_subplot(middle)
        below.set(xlim=(0, 1.34), ylim=(1e-4, 2.0), yscale="log", xticks=(0, 0.5, 1))
        below.set(xlabel="share of the directions, largest first", ylabel="stretch / largest")
        below.set(title="spectra of three optimizers' steps")
        return [*planes, below]

    def compute(self) -> dict:
        """Take the matrix apart, and count the directions of each optimizer's step."""
        found = describe(np.array([[self.m11, self.m12], [self.m21, self.m22]]), self.towards)
        spectra = {name: np.array(values) for name, values in self.data[self.spectrum].items()}
        values = [*spectra.values()]
        return {
            **found,
            "spectra": spectra,
            "count": len(values[0]),
            "share": np.arange(len(values[0])) / max(len(values[0]) - 1, 1),
            "ranks": [stable_rank(each) for each in values],
        }


def entries_of(matrix) -> dict[str, float]:
    """Return the traits of a 2 × 2 matrix; raise TraitError for another shape."""
    array = as_real(matrix)
    if array.shape != (2, 2):
        raise TraitError(
            f"matrix must be 2 × 2, got shape {array.shape}; pass a larger one as large="
        )
    return {f"m{i + 1}{j + 1}": float(array[i, j]) for i in range(2) for j in range(2)}
