"""What the descent explorer shows: its runs, their numbers, marks and sentences."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from muon_lab.descent import RULES, Path, descend
from muon_lab.explorers.base.labels import end_labels, step_labels
from muon_lab.explorers.base.marks import dots, line
from muon_lab.problems import Problem

BETAS = {"momentum": "beta", "nesterov": "beta", "rmsprop": "beta", "muon": "beta"}
BETAS |= {"adam": "beta1", "adamw": "beta1"}  # the rules that have one, and its name
INKS = ("blue", "orange", "green")
STYLES = ("solid", "dashed", "dotted")
NEAR = 1e-3
LOWEST = 1e-8  # the loss axis ends here


class Lane(NamedTuple):
    """One rule with its learning rate and β (None for a rule that has none)."""

    rule: str
    lr: float
    beta: float | None


def run_lane(problem: Problem, lane: Lane, start, steps: int, keywords: Mapping) -> Path:
    """Run one rule down a problem; ``keywords`` are further ones of its."""
    beta = {} if lane.beta is None else {BETAS[lane.rule]: lane.beta}
    rule = partial(RULES[lane.rule], lr=lane.lr, **beta, **keywords)
    return descend(problem, rule, steps, start=start)


def summarise(problem: Problem, lane: Lane, path: Path) -> dict:
    """Say in numbers how a run went: ``steps_to`` counts steps until the loss is within 1e-3."""
    gaps = np.maximum(path.values - problem.value(problem.minimum), 0.0)
    reached = np.flatnonzero(gaps <= NEAR)
    return {
        **lane._asdict(),
        "loss": float(gaps[-1]),
        "steps_to": int(reached[0]) if len(reached) else None,
        "diverged_at": path.diverged_at,
        "points": path.points,
        "losses": gaps,
    }


def sentence(found: dict) -> str:
    """Say how one run went."""
    beta = "" if found["beta"] is None else f", β {found['beta']:g}"
    steps = len(found["losses"]) - 1
    head = f"{found['rule']} (lr {found['lr']:g}{beta}): "
    if found["diverged_at"] is not None:
        return head + f"diverged at step {found['diverged_at']}; its path is drawn up to there."
    tail = f"loss {found['loss']:.3g} after {steps} steps; "
    if found["steps_to"] is None:
        return head + tail + f"not yet within {NEAR:g} of the least."
    return head + tail + f"first within {NEAR:g} of the least after {found['steps_to']}."


def loss_limits(problem: Problem) -> tuple[float, float]:
    """Return the loss axis' ends: its top is the highest loss in the window, or the first one."""
    points = problem.start
    if problem.window is not None:
        points = np.array(np.meshgrid(*(np.linspace(*side, 41) for side in problem.window)))
    highest = np.max(problem.value(points)) - problem.value(problem.minimum)
    return LOWEST, float(10 ** np.ceil(np.log10(max(highest, 1e-6)) + 0.3))


def error_limits(problem: Problem) -> tuple[float, float]:
    """Return the ends of the axis of the error's singular values."""
    return 1e-6, 10 * float(np.linalg.norm(problem.start - problem.minimum))


def lane_marks(problem: Problem, found: dict[int, dict], steps: int) -> list[dict]:
    """Draw each run's path and losses; a run that diverged ends where it did."""
    limits = loss_limits(problem)
    marks = step_labels(1, steps, limits, log=True)
    ends = []
    for number, run in found.items():
        style = {"ink": INKS[number - 1], "dash": STYLES[number - 1]}
        shown = slice(0, run["diverged_at"] or steps + 1)
        points, losses = run["points"][shown], np.maximum(run["losses"][shown], LOWEST)
        times = np.arange(len(losses)) / steps
        marks.append(line(1, times, losses, width=2.2, **style))
        ends.append((run["rule"], float(losses[-1]), style["ink"]))
        draw = plane_marks if problem.window else error_marks
        marks += draw(points - (0 if problem.window else problem.minimum), times, style)
    if not problem.window:
        marks += step_labels(0, steps, error_limits(problem), log=True)
    return marks + end_labels(1, ends, limits, log=True)


def plane_marks(points: np.ndarray, _, style: dict) -> list[dict]:
    """Draw a path in the plane: a ring at its start, a small dot a step, a large one at its end."""
    x, y = points.T
    return [
        line(0, x, y, width=1.6, **style),
        dots(0, x, y, size=3.5, ink=style["ink"]),
        dots(0, x[-1:], y[-1:], size=9, ink=style["ink"]),
        dots(0, x[:1], y[:1], size=12, ink="text", hollow=True),
    ]


def error_marks(errors: np.ndarray, times: np.ndarray, style: dict) -> list[dict]:
    """Draw the largest and the smallest singular value of what is left of the error."""
    stretches = np.linalg.svd(errors, compute_uv=False)  # (steps + 1, r)
    ends = (stretches[:, 0], stretches[:, -1])
    return [line(0, times, np.maximum(values, 1e-12), **style) for values in ends]
