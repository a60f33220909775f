"""The polynomial explorer: what (a, b, c) and the number of steps make of singular values."""

from typing import ClassVar

import numpy as np
from traitlets import Any, Dict, Float, List, TraitError, Unicode, observe, validate

from muon_lab.explorers.base.controls import Choice, Count, Slider, Toggle
from muon_lab.explorers.base.explorer import Explorer, script
from muon_lab.explorers.base.marks import band as shade
from muon_lab.explorers.base.marks import dots, line, names, ticks
from muon_lab.explorers.base.matrices import MATRICES, OWN, as_matrix, singular_values
from muon_lab.explorers.base.sentences import either
from muon_lab.polynomials import (
    SCHEDULES,
    AnySchedule,
    apply_schedule,
    as_schedule,
    band,
    bisect,
    divergence_bound,
    evaluate,
    fixed_points,
    resolve,
    slope_at_zero,
)

CUSTOM = "custom"
LINES = 64  # at most so many singular values are drawn
FOREVER = 300  # steps
WATCHED = 8  # further steps, in which what oscillates turns round
LIMITS = {False: (0.0, 1.3), True: (1e-4, 1.3)}  # of σ before the steps, by whether axes are log
AFTER_LIMITS = {False: (-0.2, 1.6), True: (1e-6, 3.0)}

MARKS = [
    shade(0, "target.0", "target.1"),
    line(0, "curve_x", "one_step", width=1.8, color="orange", dash="dashed"),
    line(0, "curve_x", "curve", width=2.2),
    dots(0, "attracting", "attracting", color="orange", size=9),
    dots(0, "repelling", "repelling", color="orange", size=9, hollow=True),
    shade(1, "target.0", "target.1"),
    line(1, "times", "paths", width=1.0, alpha=0.35),
    line(1, "times", "largest", width=2.4),
    line(1, "times", "smallest", width=2.4, color="orange", dash="dashed"),
    names(1, [("largest", "largest", "blue"), ("smallest", "smallest", "orange")]),
    ticks(1, "steps"),
]
STEPS = either("steps", one="1 step", other="{steps} steps")
PAST_ALL = "has grown past all bounds"
LANDING = either(
    "low",
    endless=PAST_ALL,
    other=either("high", endless=PAST_ALL, other="lands in [{low:.4g}, {high:.4g}]"),
)
HALF = either(
    "reaches_half",
    endless="No σ up to 1 reaches 0.5.",
    other="The smallest σ that reaches 0.5 is {reaches_half:.4g}.",
)
BEYOND = either(
    "diverges_beyond",
    endless=either("long_run", creeps="", other=" It never diverges."),
    other=" It diverges beyond σ = {diverges_beyond:.4g}.",
)
FATE = either(
    "long_run",
    converges="converges to 1.",
    settles=either(
        "settles_at",
        none="settles at several values.",
        other="settles at {settles_at:.4g}, not at 1.",
    ),
    oscillates="oscillates and never settles.",
    creeps=f"is still on its way after {FOREVER} steps.",
    diverges="diverges for some or all of its values.",
)
FARTHEST = either(
    "score",
    endless="Some have grown past all bounds.",
    other="The farthest is {score:.4g} from 1.",
)
SENTENCES = {
    "schedule": either(
        "is_table",
        no="{schedule}: (a, b, c) = ({a:.5g}, {b:.5g}, {c:.5g}) at every step.",
        yes="{schedule} is a table with one triple per step. The sliders show its last, "
        "({a:.5g}, {b:.5g}, {c:.5g}); moving a, b or c leaves the table and uses that one triple "
        "at every step.",
    ),
    "band": [
        "After ",
        STEPS,
        " σ from 0.01 to 1 ",
        LANDING,
        ". Slope at zero: {slope:.4g}. ",
        HALF,
    ],
    # Where something diverges, the bound at which it begins is as jagged as a fractal.
    "long_run": [
        "Repeated forever, σ from 0.01 to 1 ",
        FATE,
        either("long_run", diverges="", other=BEYOND),
    ],
    "values": either(
        "count",
        zero="Python has not sent this matrix yet.",
        other=[
            "{landed} of {count} singular values are within {tolerance:.6g} of 1 after ",
            *(STEPS, ". ", FARTHEST),
        ],
    ),
}


def smallest_reaching(schedule: AnySchedule, steps: int, level: float = 0.5) -> float:
    """Return the smallest σ up to 1 that ``steps`` steps lift to ``level``; inf if there is none.

    >>> round(smallest_reaching("jordan", 5), 5)
    0.00107
    """

    def reaches(sigma):
        return apply_schedule(sigma, schedule, steps) >= level

    grid = np.exp(np.linspace(np.log(1e-8), 0.0, 1601))
    reached = reaches(grid)
    if not reached.any():
        return np.inf
    first = int(np.argmax(reached))
    return bisect(reaches, grid[first - 1] if first else 0.0, grid[first])


def long_run(schedule: AnySchedule) -> tuple[str, float | None]:
    """Say what repeating a schedule forever does to σ in [0.01, 1], and where they settle.

    One of "converges" (to 1), "settles" (elsewhere), "oscillates", "creeps" (one way, too slowly
    to say where it ends), "diverges"; the second value is where all of them settle, None if they do
    not or not together. A table continues with its last triple.

    >>> long_run("taylor"), long_run("jordan")[0]
    (('converges', 1.0), 'oscillates')
    """
    table = as_schedule(schedule).coefficients
    grid = np.exp(np.linspace(np.log(0.01), 0.0, 200))
    last = apply_schedule(grid, table, len(table) + FOREVER)
    if not (np.abs(last) <= 100).all():
        return "diverges", None
    path = [last]
    for _ in range(WATCHED):
        path.append(evaluate(path[-1], table[-1]))
    moves = np.diff(path, axis=0)  # (WATCHED, 200)
    moves = moves[:, np.abs(moves[0]) > 1e-6]
    if moves.size:
        turns = (moves.min(axis=0) < 0) & (moves.max(axis=0) > 0)
        return ("oscillates" if turns.any() else "creeps"), None
    if (np.abs(last - 1) < 1e-3).all():
        return "converges", 1.0
    return "settles", round(float(last[-1]), 6) if np.ptp(last) < 1e-3 else None


def compute(
    *, values, schedule: AnySchedule, steps: int, tolerance: float = 0.3, log: bool = False
) -> dict:
    """Compute all that the explorer shows of ``schedule`` after ``steps`` steps.

    ``values`` are the singular values of a matrix divided by its Frobenius norm, largest first.
    """
    known = as_schedule(schedule)
    starts = np.asarray(values, float) / known.norm_factor
    after = apply_schedule(starts, schedule, steps)
    low, high = band(schedule, steps)
    fate, settles_at = long_run(schedule)
    missed = np.abs(after - 1)
    return {
        "triples": resolve(schedule, steps),
        "last": known.coefficients[-1],
        "is_table": len(known.coefficients) > 1,
        "low": low,
        "high": high,
        "slope": slope_at_zero(schedule, steps),
        "reaches_half": smallest_reaching(schedule, steps),
        "long_run": fate,
        "settles_at": settles_at,
        "diverges_beyond": divergence_bound(schedule),
        "starts": starts,
        "after": after,
        "count": len(starts),
        "tolerance": tolerance,
        "target": (1 - tolerance, 1 + tolerance),
        "landed": int(np.sum(missed <= tolerance)),
        "score": float(missed.max()) if np.isfinite(missed).all() else np.inf,
        **curves(schedule, steps, log),
        **paths(starts, schedule, steps),
    }


def curves(schedule: AnySchedule, steps: int, log: bool) -> dict:
    """Compute the curves of all steps and of one, and the fixed points of the last triple.

    The last triple is the schedule's, which steps to come repeat, not that of the last step here.
    """
    low, high = LIMITS[log]
    x = np.geomspace(low, high, 500) if log else np.linspace(low, high, 500)
    last = as_schedule(schedule).coefficients[-1]
    points = np.array(fixed_points(last))
    attracts = np.abs(points[:, 1]) < 1
    return {
        "curve_x": x,
        "curve": _tame(apply_schedule(x, schedule, steps)),
        "one_step": _tame(evaluate(x, last)),
        "attracting": points[attracts, 0],
        "repelling": points[~attracts, 0],
    }


def paths(starts: np.ndarray, schedule: AnySchedule, steps: int) -> dict:
    """Compute each singular value's path over the steps, for at most 64 of them."""
    if not len(starts):
        return {}
    count = min(LINES, len(starts))
    picked = [int(i * (len(starts) - 1) / max(count - 1, 1) + 0.5) for i in range(count)]
    rows = [starts[picked]]
    for triple in resolve(schedule, steps):
        rows.append(apply_schedule(rows[-1], triple, 1))
    found = _tame(np.array(rows).T)  # (count, steps + 1)
    times = np.arange(steps + 1) / steps
    return {"times": times, "paths": found, "largest": found[0], "smallest": found[-1]}


def _tame(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -1e6, 1e6)  # matplotlib needs finite numbers; the axes end long before


class PolynomialExplorer(Explorer):
    """Move a, b, c and the number of steps; see p on the left, singular values on the right.

    ``schedule`` starts from a published one; setting a, b or c leaves it for "custom". ``matrix``
    is an array or tensor of your own, of shape (m, n); None removes it. ``tolerance`` is half the
    width of the target around 1. The curve of one step can be dragged: it passes through the
    pointer and, over the picture's width, differs from the old one as little as it can (in the mean
    square); a, b and c follow.
    ``result`` is a dict: ``after`` (the singular values after the steps, largest start first),
    ``starts``, ``landed`` (how many are in the target), ``score`` (the largest distance from 1),
    ``low`` and ``high`` (where σ from 0.01 to 1 lands), ``slope`` (at zero), ``reaches_half``,
    ``long_run`` with ``settles_at``, ``diverges_beyond``, ``triples`` (one per step) and ``last``,
    the last that the schedule lists.

    >>> explorer = PolynomialExplorer(schedule="you")
    >>> round(explorer.result["low"], 3), round(explorer.result["high"], 3)
    (0.978, 1.032)
    >>> explorer.a = 2.5
    >>> explorer.schedule
    'custom'
    """

    _esm = script("polynomial.js")
    moving: ClassVar = ("schedule", "spectrum", "steps", "a", "b", "c", "log")

    title = Unicode("What a polynomial does to singular values").tag(sync=True)
    marks = List(MARKS).tag(sync=True)
    sentences = Dict(SENTENCES).tag(sync=True)
    view_by = Unicode("log").tag(sync=True)

    schedule = Choice("jordan", label="schedule")
    spectrum = Choice("gaussian", label="matrix")
    a = Slider(3.4445, low=0, high=9, span=4, label="a")
    b = Slider(-4.775, low=-26, high=6, span=7, label="b")
    c = Slider(2.0315, low=-6, high=20, span=5, label="c")
    steps = Count(5, low=1, high=20, label="steps")
    log = Toggle(False, label="log axes")
    tolerance = Float(0.3)
    matrix = Any(None, allow_none=True)

    def __init__(self, **values):
        if values.get("matrix") is not None:
            values.setdefault("spectrum", OWN)
        self._has_own = values.get("matrix") is not None
        known = SCHEDULES.get(values.get("schedule"))
        if known and {"a", "b", "c"} & set(values):
            a, b, c = known.coefficients[-1]
            values = {"a": a, "b": b, "c": c} | values | {"schedule": CUSTOM}
        super().__init__(**values)

    def options(self, name: str, view=None) -> list[str]:
        """List the schedules, or the matrices."""
        if name == "schedule":
            return [*SCHEDULES, CUSTOM]
        return [*MATRICES, OWN] if self._has_own else [*MATRICES]

    def supply(self, everything: bool = False) -> None:
        """Send the singular values of the chosen matrix, and the schedules."""
        known = self.data.get("spectra", {})
        wanted = self.options("spectrum") if everything else [self.spectrum]
        new = {name: self._singular_values(name) for name in wanted if name not in known}
        if new or self.tolerance != self.data.get("tolerance"):
            tables = {
                name: {
                    "table": schedule.coefficients,
                    "by_steps": [resolve(name, n) for n in range(1, 21)],
                    "norm_factor": schedule.norm_factor,
                }
                for name, schedule in SCHEDULES.items()
            }
            spectra = {**known, **new}
            self.data = {"spectra": spectra, "schedules": tables, "tolerance": self.tolerance}

    def _singular_values(self, name: str) -> list[float]:
        return singular_values(self.matrix if name == OWN else MATRICES[name]()).tolist()

    def compute(self) -> dict:
        """Compute what polynomial.js computes."""
        named = self.schedule != CUSTOM
        return compute(
            values=self.data["spectra"].get(self.spectrum, []),
            schedule=self.schedule if named else (self.a, self.b, self.c),
            steps=self.steps,
            tolerance=self.tolerance,
            log=self.log,
        )

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
            raise TraitError(f"tolerance must lie between 0 and 1; got {proposal['value']}")
        return proposal["value"]

    @observe("matrix")
    def _take_matrix(self, _):
        if not self.views:  # the constructor has not finished
            return
        self._has_own = self.matrix is not None
        spectra = {name: found for name, found in self.data["spectra"].items() if name != OWN}
        with self.hold_trait_notifications():
            self.data = self.data | {"spectra": spectra}
            self.spectrum = OWN if self._has_own else "gaussian"
        self._build_views()
        if self.starting["spectrum"] not in self.options("spectrum"):
            self.starting = self.starting | {"spectrum": self.spectrum}
        self.supply()

    @observe("tolerance")
    def _take_tolerance(self, _):
        if self.views:
            self.supply()

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

    def draw_axes(self, figure, palette, view):
        """Draw the composed polynomial's axes on the left, the singular values' on the right."""
        left, right = figure.subplots(1, 2)
        left.set(xlim=LIMITS[view], ylim=AFTER_LIMITS[view], title="all steps together")
        left.set(xlabel="singular value σ before", ylabel="after all steps")
        right.set(xlim=(-0.03, 1.26), ylim=AFTER_LIMITS[view], title="a matrix's singular values")
        right.set(xlabel="\nstep", ylabel="σ", xticks=[])
        if view:
            left.set(xscale="log", yscale="log")
            right.set(yscale="log")
        diagonal = np.linspace(1e-4, 1.3, 2)
        left.plot(diagonal, diagonal, color=palette["faint"], linewidth=0.8)
        note = "╌╌ p, one step: drag it\n● attracting fixed point\n○ repelling fixed point"
        style = {"ha": "right", "va": "bottom", "fontsize": 8, "color": palette["orange"]}
        left.text(0.98, 0.03, note, transform=left.transAxes, **style)
        for axes in (left, right):
            axes.axhline(1.0, color=palette["faint"], linewidth=0.8, linestyle=(0, (2, 2)))
        return [left, right]
