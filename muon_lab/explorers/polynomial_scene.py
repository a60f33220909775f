"""What the polynomial explorer shows: its numbers, its marks and its sentences.

polynomial.js says the same again in JavaScript, in the same order of operations; a test holds the
two together.
"""

import numpy as np

from muon_lab.explorers.base.labels import end_labels, step_labels
from muon_lab.explorers.base.marks import band as shade
from muon_lab.explorers.base.marks import dots, line
from muon_lab.polynomials import (
    AnySchedule,
    apply_schedule,
    as_schedule,
    band,
    divergence_bound,
    evaluate,
    fixed_points,
    resolve,
    slope_at_zero,
)

ROWS = 64  # at most so many singular values are drawn
FOR_EVER = 300  # steps
WATCHED = 8  # further steps, in which what oscillates turns round
SIGMA_LIMITS = {False: (-0.2, 1.6), True: (1e-6, 3.0)}  # of the axis of σ, by whether it is log


def smallest_reaching(schedule: AnySchedule, steps: int, level: float = 0.5) -> float:
    """Return the smallest σ up to 1 that ``steps`` steps lift to ``level``; inf if none is.

    >>> round(smallest_reaching("jordan", 5), 5)
    0.00107
    """
    grid = np.exp(np.linspace(np.log(1e-8), 0.0, 1601))
    reached = apply_schedule(grid, schedule, steps) >= level
    if not reached.any():
        return np.inf
    first = int(np.argmax(reached))
    below, above = (grid[first - 1] if first else 0.0), grid[first]
    for _ in range(50):
        middle = (below + above) / 2
        up = apply_schedule(middle, schedule, steps) >= level
        below, above = (below, middle) if up else (middle, above)
    return float(above)


def long_run(schedule: AnySchedule) -> tuple[str, float]:
    """Say what repeating a schedule for ever does to σ in [0.01, 1], and where they settle.

    One of "converges" (to 1), "settles" (elsewhere), "oscillates", "creeps" (one way, too slowly
    to say where it ends), "diverges"; the second value is where all of them settle, NaN if they do
    not or part. A table goes on with its last triple.

    >>> long_run("taylor"), long_run("jordan")[0]
    (('converges', 1.0), 'oscillates')
    """
    table = as_schedule(schedule).coefficients
    grid = np.exp(np.linspace(np.log(0.01), 0.0, 200))
    last = apply_schedule(grid, table, len(table) + FOR_EVER)
    if not (np.abs(last) <= 100).all():
        return "diverges", np.nan
    path = [last]
    for _ in range(WATCHED):
        path.append(evaluate(path[-1], table[-1]))
    moves = np.diff(path, axis=0)  # (WATCHED, 200)
    moves = moves[:, np.abs(moves[0]) > 1e-6]
    if moves.size:
        turns = (moves.min(axis=0) < 0) & (moves.max(axis=0) > 0)
        return ("oscillates" if turns.any() else "creeps"), np.nan
    if (np.abs(last - 1) < 1e-3).all():
        return "converges", 1.0
    return "settles", round(float(last[-1]), 6) if np.ptp(last) < 1e-3 else np.nan


def explore(values, schedule: AnySchedule, steps: int, tolerance: float) -> dict:
    """Compute all that the explorer says of ``schedule`` after ``steps`` steps.

    ``values`` are the singular values of a matrix divided by its Frobenius norm, largest first.
    """
    starts = np.asarray(values) / as_schedule(schedule).norm_factor
    low, high = band(schedule, steps)
    verdict, settles_at = long_run(schedule)
    after = apply_schedule(starts, schedule, steps)
    return {
        "triples": resolve(schedule, steps),
        "last": as_schedule(schedule).coefficients[-1],  # what a table repeats past its end
        "is_table": len(as_schedule(schedule).coefficients) > 1,
        "starts": starts,
        "after": after,
        "low": low,
        "high": high,
        "slope": slope_at_zero(schedule, steps),
        "reaches_half": smallest_reaching(schedule, steps),
        "long_run": verdict,
        "settles_at": settles_at,
        "diverges_beyond": divergence_bound(schedule),
        "landed": int(np.sum(np.abs(after - 1) <= tolerance)),
    }


def curve_marks(found: dict, tolerance: float, log: bool) -> list[dict]:
    """Draw the composed polynomial, the target band, and the last triple's fixed points.

    The last triple is the schedule's, which steps to come repeat, not that of the last step here.
    """
    x = np.geomspace(1e-4, 1.3, 500) if log else np.linspace(0, 1.3, 500)
    triples = found["triples"]
    points = np.array(fixed_points(found["last"]))
    attracts = np.abs(points[:, 1]) < 1
    return [
        shade(0, 1 - tolerance, 1 + tolerance),
        line(0, x, _tame(apply_schedule(x, triples, len(triples))), width=2.2),
        dots(0, points[attracts, 0], points[attracts, 0], ink="orange", size=9),
        dots(0, points[~attracts, 0], points[~attracts, 0], ink="orange", size=9, hollow=True),
    ]


def value_marks(found: dict, tolerance: float, log: bool) -> list[dict]:
    """Draw each singular value's path over the steps; name the largest and the smallest."""
    starts, steps = found["starts"], len(found["triples"])
    count = min(ROWS, len(starts))
    picked = [int(i * (len(starts) - 1) / max(count - 1, 1) + 0.5) for i in range(count)]
    rows = [starts[picked]]
    for triple in found["triples"]:
        rows.append(apply_schedule(rows[-1], triple, 1))
    paths = _tame(np.array(rows).T)  # (count, steps + 1)
    times = np.arange(steps + 1) / steps
    broken = np.hstack([paths, np.full((count, 1), np.nan)])  # NaN ends each line
    ends = [("largest", paths[0, -1], "blue"), ("smallest", paths[-1, -1], "orange")]
    return [
        shade(1, 1 - tolerance, 1 + tolerance),
        line(1, np.tile(np.append(times, 1), count), broken, width=1.0, alpha=0.35),
        line(1, times, paths[0], width=2.4),
        line(1, times, paths[-1], width=2.4, ink="orange", dash="dashed"),
        *end_labels(1, ends, SIGMA_LIMITS[log], log),
        *step_labels(1, steps, SIGMA_LIMITS[log], log),
    ]


def _tame(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -1e6, 1e6)  # matplotlib wants finite numbers; the axes end long before


def sentences(found: dict, name: str, tolerance: float) -> dict[str, str]:
    """Say what was found, a sentence or two for each thing."""
    steps = len(found["triples"])
    return {
        "schedule": _about(found, name),
        "band": f"After {_steps(steps)} σ from 0.01 to 1 {_landing(found)}. "
        f"Slope at zero: {_short(found['slope'])}. {_half(found['reaches_half'])}",
        "long_run": f"Repeated for ever, {_for_ever(found)}",
        "values": f"{found['landed']} of {len(found['starts'])} singular values are within "
        f"{_short(tolerance, 6)} of 1 after {_steps(steps)}.",
    }


def _about(found: dict, name: str) -> str:
    a, b, c = (_short(k, 5) for k in found["last"])
    if not found["is_table"]:
        return f"{name}: (a, b, c) = ({a}, {b}, {c}) at every step."
    return (
        f"{name} is a table with a triple for each step. The sliders show its last, "
        f"({a}, {b}, {c}), which it repeats past its end; moving a, b or c leaves the table "
        "and uses that one triple at every step."
    )


def _landing(found: dict) -> str:
    if not (np.isfinite(found["low"]) and np.isfinite(found["high"])):
        return "has grown past all bounds"
    return f"lands in [{_short(found['low'])}, {_short(found['high'])}]"


def _half(sigma: float) -> str:
    if not np.isfinite(sigma):
        return "No σ up to 1 reaches 0.5."
    return f"The smallest σ that reaches 0.5 is {_short(sigma)}."


def _for_ever(found: dict) -> str:
    where = f"at {_short(found['settles_at'])}, not at 1"
    fate = {
        "converges": "converges to 1",
        "settles": f"settles {where if np.isfinite(found['settles_at']) else 'at several values'}",
        "oscillates": "oscillates and never settles",
        "creeps": f"is still on its way after {FOR_EVER} steps",
        "diverges": "diverges for some or all of its values",
    }[found["long_run"]]
    bound = found["diverges_beyond"]
    beyond = " It never diverges."
    if found["long_run"] == "diverges":  # where it begins is then as jagged as a fractal
        beyond = ""
    elif np.isfinite(bound):
        beyond = f" It diverges beyond σ = {_short(bound)}."
    elif found["long_run"] == "creeps":  # perhaps to infinity
        beyond = ""
    return f"σ from 0.01 to 1 {fate}.{beyond}"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _short(value: float, digits: int = 4) -> str:
    return f"{value + 0.0:.{digits}g}".replace("-", "−")  # + 0.0 makes 0 of -0
