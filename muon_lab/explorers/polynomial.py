"""The polynomial explorer: what (a, b, c) and the number of steps make of singular values.

The browser computes the picture by itself (polynomial.js). Python computes the same for ``result``,
for the still picture, and wherever no browser is attached.
"""

from typing import ClassVar

import numpy as np
from traitlets import Any, Dict, Float, TraitError, observe, validate

from muon_lab.explorers.base.controls import Choice, Count, Slider, Toggle
from muon_lab.explorers.base.explorer import Explorer, Scene, script
from muon_lab.explorers.polynomial_scene import (
    SIGMA_LIMITS,
    curve_marks,
    explore,
    sentences,
    value_marks,
)
from muon_lab.explorers.spectra import OWN, SPECTRA, as_matrix, singular_values
from muon_lab.polynomials import SCHEDULES

CUSTOM = "custom"


class PolynomialExplorer(Explorer):
    """Move a, b, c and the number of steps; see p on the left, singular values on the right.

    ``schedule`` starts from a published one; setting a, b or c leaves it for "custom". ``matrix``
    is an array or tensor of your own, of shape (m, n); None takes it away. ``tolerance`` is half
    the width of the target round 1.
    ``result`` is a dict: ``after`` (the singular values after the steps, largest start first),
    ``starts``, ``landed`` (how many are in the target), ``low`` and ``high`` (where σ from 0.01 to
    1 lands), ``slope`` (at zero), ``reaches_half``, ``long_run`` with ``settles_at``,
    ``diverges_beyond``, ``triples`` and ``last``, the one that is repeated past their end.

    >>> explorer = PolynomialExplorer(schedule="you")
    >>> round(explorer.result["low"], 3), round(explorer.result["high"], 3)
    (0.978, 1.032)
    >>> explorer.a = 2.5
    >>> explorer.schedule
    'custom'
    """

    _esm = script("polynomial.js")
    moving: ClassVar = ("schedule", "spectrum", "a", "b", "c", "steps", "log")
    redraws: ClassVar = ("log",)
    same_axes: ClassVar = True

    schedule = Choice("jordan", label="schedule")
    spectrum = Choice("gaussian", label="matrix")
    a = Slider(3.4445, low=0, high=9, step=0.01, label="a")
    b = Slider(-4.775, low=-26, high=6, step=0.01, label="b")
    c = Slider(2.0315, low=-6, high=20, step=0.01, label="c")
    steps = Count(5, low=1, high=20, label="steps")
    log = Toggle(False, label="log axes")
    tolerance = Float(0.3).tag(sync=True)
    matrix = Any(None, allow_none=True)

    scene = Dict()  # not sent: the browser has its own
    schedules = Dict().tag(sync=True)
    spectra = Dict().tag(sync=True, to_json=lambda value, _: as_bytes(value))

    def __init__(self, **values):
        if values.get("matrix") is not None:
            values.setdefault("spectrum", OWN)
        self._has_own = values.get("matrix") is not None
        known = SCHEDULES.get(values.get("schedule"))
        if known and {"a", "b", "c"} & set(values):
            a, b, c = known.coefficients[-1]
            values = {"a": a, "b": b, "c": c} | values | {"schedule": CUSTOM}
        super().__init__(title="What a polynomial does to singular values", **values)
        self.schedules = {
            name: {"table": schedule.coefficients, "norm_factor": schedule.norm_factor}
            for name, schedule in SCHEDULES.items()
        }

    def options(self, name: str) -> list[str]:
        """List the schedules, or the matrices."""
        if name == "schedule":
            return [*SCHEDULES, CUSTOM]
        return [*SPECTRA, OWN] if self._has_own else [*SPECTRA]

    @validate("matrix")
    def _check_matrix(self, proposal):
        if proposal["value"] is None:
            return None
        try:
            return as_matrix(proposal["value"])
        except ValueError as wrong:
            raise TraitError(str(wrong)) from None

    @validate("tolerance")
    def _check_tolerance(self, proposal):
        if not 0 < proposal["value"] < 1:
            raise TraitError(f"tolerance lies between 0 and 1, got {proposal['value']}")
        return proposal["value"]

    @observe("matrix")
    def _take_matrix(self, _):
        if not self.backdrop:  # the constructor is still at work
            return
        self._has_own = self.matrix is not None
        self.spectra = {name: found for name, found in self.spectra.items() if name != OWN}
        self.controls = self.all_controls()
        self.spectrum = OWN if self._has_own else "gaussian"
        if self.starting["spectrum"] not in self.options("spectrum"):
            self.starting = self.starting | {"spectrum": self.spectrum}
        self._recompute()

    @observe("tolerance")
    def _take_tolerance(self, _):
        if self.backdrop:
            self._recompute()

    @observe("schedule")
    def _take_schedule(self, _):
        if self.schedule != CUSTOM:
            with self.hold_trait_notifications():
                self.a, self.b, self.c = SCHEDULES[self.schedule].coefficients[-1]

    @observe("a", "b", "c")
    def _leave_schedule(self, _):
        known = SCHEDULES.get(self.schedule)
        if known and (self.a, self.b, self.c) != known.coefficients[-1]:
            self.schedule = CUSTOM

    def draw_axes(self, figure, palette):
        """Draw the composed polynomial's axes on the left, the singular values' on the right."""
        left, right = figure.subplots(1, 2)
        start = 1e-4 if self.log else 0.0
        limits = SIGMA_LIMITS[self.log]
        left.set(xlim=(start, 1.3), ylim=limits, title="all steps together")
        left.set(xlabel="singular value σ before", ylabel="after all steps")
        right.set(xlim=(-0.03, 1.26), ylim=limits, title="a matrix's singular values")
        right.set(xlabel="\nstep", ylabel="σ", xticks=[])
        if self.log:
            left.set(xscale="log", yscale="log")
            right.set(yscale="log")
        diagonal = np.linspace(max(start, 1e-4), 1.3, 2)
        left.plot(diagonal, diagonal, color=palette["faint"], linewidth=0.8)
        note = "● fixed point that attracts\n○ one that repels"
        style = {"ha": "right", "va": "bottom", "fontsize": 8, "color": palette["orange"]}
        left.text(0.98, 0.03, note, transform=left.transAxes, **style)
        for axes in (left, right):
            axes.axhline(1.0, color=palette["faint"], linewidth=0.8, linestyle=(0, (2, 2)))
        return [left, right]

    def compute(self) -> Scene:
        """Compute what polynomial.js computes."""
        if self.spectrum not in self.spectra:
            matrix = self.matrix if self.spectrum == OWN else SPECTRA[self.spectrum]()
            self.spectra = {**self.spectra, self.spectrum: singular_values(matrix)}
        named = self.schedule != CUSTOM
        schedule = SCHEDULES[self.schedule] if named else (self.a, self.b, self.c)
        values = self.spectra[self.spectrum]
        found = explore(values, schedule, self.steps, self.tolerance)
        settings = found, self.tolerance, self.log
        marks = curve_marks(*settings) + value_marks(*settings)
        return Scene(marks, sentences(found, self.schedule, self.tolerance), found)


def as_bytes(spectra: dict[str, np.ndarray]) -> dict[str, memoryview]:
    """Give the browser each array as it lies in memory."""
    return {name: memoryview(values).cast("B") for name, values in spectra.items()}
