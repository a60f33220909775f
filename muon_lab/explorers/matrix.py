"""The matrix explorer: rotate, stretch, rotate; and what three optimizers make of a spectrum."""

from typing import ClassVar

import numpy as np
from traitlets import TraitError

from muon_lab.explorers.base.controls import Choice, Slider
from muon_lab.explorers.base.explorer import Explorer, Scene, script
from muon_lab.explorers.base.labels import end_labels
from muon_lab.explorers.base.marks import dots, line
from muon_lab.explorers.spectra import OWN, SPECTRA, as_matrix, as_real
from muon_lab.orthogonalize import newton_schulz, polar_factor

LIMIT = 1.5  # of an entry of the 2 × 2 matrix; no stretch is then above 3
REACH = 3.1  # the axes' half-width
SPECTRUM_LIMITS = (1e-4, 2.0)
CIRCLE = np.array([np.cos(angles := np.linspace(0, 2 * np.pi, 121)), np.sin(angles)])  # (2, 121)
UPDATES = {
    "SGD": ("blue", "solid", lambda gradient: gradient),
    "sign (Adam)": ("orange", "dashed", np.sign),
    "Muon": ("green", "dotted", newton_schulz),
}


def rotate_stretch_rotate(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U, the stretches, and Vᵀ of a 2 × 2 matrix; Vᵀ is a rotation by at most a right angle.

    A matrix that mirrors (a negative determinant) has its mirror in U; a flat one never mirrors.

    >>> U, stretches, Vh = rotate_stretch_rotate(np.diag([0.5, -2.0]))
    >>> stretches.tolist(), bool(np.linalg.det(Vh) > 0)
    ([2.0, 0.5], True)
    """
    U, stretches, Vh = np.linalg.svd(matrix)
    if Vh[0, 0] < 0:  # the first axis points to the right, so that the picture does not jump
        U[:, 0], Vh[0] = -U[:, 0], -Vh[0]
    if np.linalg.det(Vh) < 0:
        U[:, 1], Vh[1] = -U[:, 1], -Vh[1]
    if stretches[1] < 1e-15 * stretches[0]:  # what rounding made; its direction is free
        stretches[1] = 0.0
        U[:, 1] *= np.sign(np.linalg.det(U))
    return U, stretches, Vh


def angle_of(rotation: np.ndarray) -> float:
    """Return by how many degrees a rotation turns the first axis, counter-clockwise."""
    return float(np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])))


def describe(matrix: np.ndarray, towards: float) -> dict:
    """Take a 2 × 2 matrix apart; ``towards`` says how far it has gone to its polar factor."""
    U, stretches, Vh = rotate_stretch_rotate(matrix)
    factor = polar_factor(matrix)
    blend = (1 - towards) * matrix + towards * factor
    return {
        "matrix": matrix,
        "polar_factor": factor,
        "blend": blend,
        "U": U,
        "Vh": Vh,
        "stretches": stretches,
        "blend_stretches": np.diag(U.T @ blend @ Vh.T).round(15) + 0.0,
        "first_angle": angle_of(Vh),
        "last_angle": angle_of(U),
        "mirrors": bool(np.linalg.det(U) < 0),
    }


def circle_marks(found: dict) -> list[dict]:
    """Draw the circle and the matrix's two axes in it, before and after each of the three parts."""
    stretch = np.diag(found["blend_stretches"])
    stages = [np.eye(2), found["Vh"], stretch @ found["Vh"], found["U"] @ stretch @ found["Vh"]]
    axes_before = found["Vh"].T  # (2, 2): a column each
    marks = []
    for number, stage in enumerate(stages):
        first, second = (stage @ axes_before).T
        marks += [
            line(number, *(stage @ CIRCLE), width=2.0),
            line(number, [0, first[0]], [0, first[1]], ink="orange", width=2.4),
            line(number, [0, second[0]], [0, second[1]], ink="green", width=2.4, dash="dashed"),
            dots(number, [first[0]], [first[1]], ink="orange", size=7),
            dots(number, [second[0]], [second[1]], ink="green", size=7),
        ]
    return marks


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


def spectrum_marks(spectra: dict[str, np.ndarray]) -> list[dict]:
    """Draw each spectrum over the share of directions, largest first."""
    marks, ends = [], []
    for name, values in spectra.items():
        ink, dash, _ = UPDATES[name]
        share = np.linspace(0, 1, len(values)) if len(values) > 1 else np.zeros(1)
        shown = np.maximum(values, 1e-12)
        marks.append(line(4, share, shown, ink=ink, dash=dash, width=2.2))
        ends.append((name, float(shown[-1]), ink))
    return marks + end_labels(4, ends, SPECTRUM_LIMITS, log=True)


def sentences(found: dict, towards: float, spectra: dict[str, np.ndarray]) -> dict[str, str]:
    """Say what the picture shows."""
    first, second = found["stretches"]
    mirror = " and mirror" if found["mirrors"] else ""
    parts = (
        f"The matrix is: rotate by {_degrees(found['first_angle'])}, stretch by {first:.3g} and "
        f"{second:.3g}, rotate by {_degrees(found['last_angle'])}{mirror}."
    )
    now = " and ".join(f"{stretch:.3g}" for stretch in found["blend_stretches"])
    flat = found["polar_factor"]
    goal = "Its polar factor keeps the rotations and stretches by 1 and 1."
    if not np.allclose(flat @ flat.T, np.eye(2)):
        goal = "A stretch of 0 leaves its direction undetermined: the polar factor drops it."
    count = len(next(iter(spectra.values())))
    ranks = ", ".join(f"{name} {stable_rank(values):.1f}" for name, values in spectra.items())
    return {
        "parts": parts,
        "now": f"At {towards:.2f} of the way the stretches are {now}. {goal}",
        "ranks": f"Stable rank of each step, of {count} directions: {ranks}.",
    }


def _degrees(angle: float) -> str:
    return f"{angle:.0f}°".replace("-", "−")


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

    _esm = script("kernel.js")
    moving: ClassVar = ("m11", "m12", "towards", "m21", "m22", "spectrum")
    size: ClassVar = (7.6, 4.6)
    same_axes: ClassVar = True

    m11 = Slider(1.0, low=-LIMIT, high=LIMIT, step=0.05, label="m₁₁")
    m12 = Slider(0.8, low=-LIMIT, high=LIMIT, step=0.05, label="m₁₂")
    m21 = Slider(0.2, low=-LIMIT, high=LIMIT, step=0.05, label="m₂₁")
    m22 = Slider(0.9, low=-LIMIT, high=LIMIT, step=0.05, label="m₂₂")
    towards = Slider(0.0, low=0, high=1, step=0.01, label="towards polar factor")
    spectrum = Choice("gaussian", label="gradient")

    def __init__(self, matrix=None, *, large=None, **values):
        self._large = {}
        if matrix is not None:
            values = entries_of(matrix) | values
        if large is not None:
            self._large[OWN] = spectra_of_updates(as_matrix(large))
            values = {"spectrum": OWN} | values
        super().__init__(title="Rotate, stretch, rotate", **values)

    def options(self, name: str) -> list[str]:
        """List the large matrices."""
        return [*SPECTRA, OWN] if OWN in self._large else [*SPECTRA]

    def draw_axes(self, figure, palette):
        """Draw four planes above, the axes of the spectra below."""
        names = "unit circle", "rotate: Vᵀ", "stretch: Σ", "rotate: U"
        grid = figure.add_gridspec(2, 4, height_ratios=(1.0, 1.05))
        planes = [figure.add_subplot(grid[0, k]) for k in range(4)]
        for axes, name in zip(planes, names, strict=True):
            axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", title=name)
            axes.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2) if axes is planes[0] else ())
            axes.plot(*CIRCLE, color=palette["faint"], linewidth=0.8, linestyle=(0, (2, 2)))
        below = figure.add_subplot(grid[1, :])
        below.set(xlim=(0, 1.24), ylim=SPECTRUM_LIMITS, yscale="log", xticks=(0, 0.5, 1))
        below.set(xlabel="share of the directions, largest first", ylabel="stretch / largest")
        below.set(title="what three optimizers' steps do to a large gradient's spectrum")
        return [*planes, below]

    def compute(self) -> Scene:
        """Take the matrix apart, and draw all."""
        entries = np.array([[self.m11, self.m12], [self.m21, self.m22]])
        found = describe(entries, self.towards)
        if self.spectrum not in self._large:
            self._large[self.spectrum] = spectra_of_updates(SPECTRA[self.spectrum]())
        spectra = self._large[self.spectrum]
        marks = circle_marks(found) + spectrum_marks(spectra)
        return Scene(marks, sentences(found, self.towards, spectra), found | {"spectra": spectra})


def entries_of(matrix) -> dict[str, float]:
    """Return the traits of a 2 × 2 matrix; raise TraitError for another shape."""
    array = as_real(matrix)
    if array.shape != (2, 2):
        raise TraitError(
            f"matrix must be 2 × 2, got shape {array.shape}; pass a larger one as large="
        )
    return {f"m{i + 1}{j + 1}": float(array[i, j]) for i in range(2) for j in range(2)}
