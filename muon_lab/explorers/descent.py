"""The descent explorer: up to three update rules race down one problem, from a start to drag."""

import functools
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from traitlets import Bool, observe

from muon_lab.descent import RULES
from muon_lab.explorers.base.controls import Choice, Count, Slider
from muon_lab.explorers.base.explorer import Explorer, Scene, script
from muon_lab.explorers.descent_scene import (
    BETAS,
    INKS,
    NEAR,
    Lane,
    error_limits,
    lane_marks,
    loss_limits,
    run_lane,
    sentence,
    summarise,
)
from muon_lab.plots import draw_contours
from muon_lab.problems import PROBLEMS, Problem

NONE = "none"
NO_DECAY = {"muon": {"weight_decay": 0.0}, "adamw": {"weight_decay": 0.0}}
RACE = {
    "momentum": {"lr": 5e-4, "beta": 0.9},
    "adamw": {"lr": 0.05, "beta": 0.9},
    "muon": {"lr": 0.05, "beta": 0.95},
}


@functools.cache
def _standard(name: str) -> Problem:
    return PROBLEMS[name]()


def _lane_traits(dash: str, ink: str) -> tuple[Choice, Slider, Slider]:
    """Make the three controls of one lane, in its line's colour."""
    return (
        Choice(NONE, label=f"{dash} rule", ink=ink),
        Slider(0.01, low=1e-5, high=10.0, step=0.02, log=True, label="lr", ink=ink),
        Slider(0.9, low=0.0, high=0.999, step=0.001, label="β", ink=ink),
    )


class DescentExplorer(Explorer):
    """Race up to three rules down a problem; drag the start; set each learning rate and β.

    ``problem`` is a name of `problems.PROBLEMS` or a `Problem`; ``rules`` maps up to three names of
    `descent.RULES` to their lr and beta; ``start`` is a point of the plane. ``keywords`` maps a
    rule to further keywords; by default Muon and AdamW run without weight decay, which would move
    the minimum. ``result`` maps the lane's number (1, 2, 3) to a dict: rule, lr, beta, loss (above
    the least), steps_to (the steps until that is at most 1e-3, or None), diverged_at, points,
    losses.

    >>> explorer = DescentExplorer("valley", {"sgd": {"lr": 0.05}}, steps=200)
    >>> explorer.result[1]["diverged_at"], explorer.result[1]["loss"] < 1e-3
    (None, True)
    >>> explorer.lr1 = 0.2
    >>> explorer.result[1]["diverged_at"] is None
    False
    """

    _esm = script("descent.js")
    lanes: ClassVar = (1, 2, 3)
    moving: ClassVar = (
        *("rule1", "lr1", "beta1"),
        *("rule2", "lr2", "beta2"),
        *("rule3", "lr3", "beta3"),
        *("problem", "x", "y", "steps"),
    )
    redraws: ClassVar = ("problem",)
    size: ClassVar = (7.6, 3.6)

    rule1, lr1, beta1 = _lane_traits("━━", INKS[0])
    rule2, lr2, beta2 = _lane_traits("╍╍", INKS[1])
    rule3, lr3, beta3 = _lane_traits("┅┅", INKS[2])
    problem = Choice("rosenbrock", label="problem")
    x = Slider(0.0, low=-1, high=1, step=0.01, label="start x")
    y = Slider(0.0, low=-1, high=1, step=0.01, label="start y")
    steps = Count(200, low=10, high=500, label="steps")
    plane = Bool(True).tag(sync=True)

    def __init__(self, problem="rosenbrock", rules=RACE, *, start=None, keywords=None, **values):
        self._own = {problem.name: problem} if isinstance(problem, Problem) else {}
        problem = problem.name if self._own else problem
        self.same_axes = not self._own  # another problem of your own may have this one's name
        self._keywords = NO_DECAY if keywords is None else dict(keywords)
        self._runs: dict = {}
        values = {"problem": problem} | lane_values(rules) | values
        if problem in self.options("problem"):
            values |= start_values(self._problem(problem), start)
        super().__init__(title="Update rules down a problem", **values)

    def _problem(self, name: str) -> Problem:
        return self._own.get(name) or _standard(name)

    def options(self, name: str) -> list[str]:
        """List the problems, or the rules."""
        if name == "problem":
            return list(dict.fromkeys([*self._own, *PROBLEMS]))
        return [*RULES, NONE]

    def limits(self, name: str):
        """Let the start go anywhere in the problem's window."""
        window = self._problem(self.problem).window
        return window["xy".index(name)] if window and name in ("x", "y") else None

    def all_controls(self) -> list[dict]:
        """Leave out the start where the problem is not in the plane."""
        controls = super().all_controls()
        return [each for each in controls if self.plane or each["trait"] not in ("x", "y")]

    @observe("problem")
    def _take_problem(self, _):
        problem = self._problem(self.problem)
        self.plane = problem.window is not None
        spots = zip((self.x, self.y), problem.window or (), strict=False)
        if not all(low <= place <= high for place, (low, high) in spots):
            with self.hold_trait_notifications():
                self.x, self.y = map(float, problem.start)
        self.controls = self.all_controls()

    def draw_axes(self, figure, palette):
        """Draw the problem's level lines on the left, the axes of the losses on the right."""
        left, right = figure.subplots(1, 2)
        problem = self._problem(self.problem)
        if problem.window is None:
            left.set(xlabel="\nstep", xlim=(-0.03, 1.03), xticks=[], yscale="log")
            left.set(ylim=error_limits(problem), title="largest and smallest stretch of the error")
        else:
            draw_contours(problem, left)
            left.lines[-1].set_color(palette["text"])
            left.collections[-1].set(linewidth=0.8, edgecolor=palette["faint"], alpha=0.6)
            left.set(xlabel="x", ylabel="y", xlim=problem.window[0], ylim=problem.window[1])
            left.set(title="the way down (★ is the minimum)")
        right.set(xlabel="\nstep", xlim=(-0.03, 1.4), xticks=[], yscale="log")
        right.set(ylim=loss_limits(problem), title="loss above the least")
        right.axhline(NEAR, color=palette["faint"], linewidth=0.8, linestyle=(0, (2, 2)))
        return [left, right]

    def compute(self) -> Scene:
        """Run the rules whose values changed, and draw all."""
        problem = self._problem(self.problem)
        start = np.array([self.x, self.y]) if self.plane else problem.start
        found, runs = {}, {}
        for number in self.lanes:
            lane = self._lane(number)
            if lane is None:
                continue
            key = (self.problem, lane, tuple(start.ravel()), self.steps)
            keywords = self._keywords.get(lane.rule, {})
            path = self._runs.get(key) or run_lane(problem, lane, start, self.steps, keywords)
            runs[key] = path
            found[number] = summarise(problem, lane, path)
        self._runs = runs
        readouts = {f"lane{n}": sentence(found[n]) if n in found else "" for n in self.lanes}
        if not found:
            readouts["lane1"] = "No rule is chosen."
        return Scene(lane_marks(problem, found, self.steps), readouts, found, self._idle())

    def _lane(self, number: int) -> Lane | None:
        rule, lr, beta = (getattr(self, f"{part}{number}") for part in ("rule", "lr", "beta"))
        return None if rule == NONE else Lane(rule, lr, beta if rule in BETAS else None)

    def _idle(self) -> tuple[str, ...]:
        rules = {number: getattr(self, f"rule{number}") for number in self.lanes}
        without_beta = [f"beta{number}" for number, rule in rules.items() if rule not in BETAS]
        return (*without_beta, *(f"lr{number}" for number, rule in rules.items() if rule == NONE))


def lane_values(rules: Mapping[str, Mapping]) -> dict:
    """Turn {"adamw": {"lr": 0.05}} into {"rule1": "adamw", "lr1": 0.05}; refuse a fourth rule."""
    if len(rules) > 3:
        raise ValueError(f"wanted at most three rules, got {len(rules)}: {', '.join(rules)}")
    values = {f"rule{number}": NONE for number in (1, 2, 3)}
    for number, (rule, settings) in enumerate(rules.items(), start=1):
        wrong = set(settings) - {"lr", "beta"}
        if wrong:
            raise ValueError(f"a rule's settings are lr and beta; {rule} got {sorted(wrong)}")
        values[f"rule{number}"] = rule
        values |= {f"{part}{number}": value for part, value in settings.items()}
    return values


def start_values(problem: Problem, start) -> dict:
    """Return x and y of the start; refuse one that is not a point of the plane."""
    if problem.window is None:
        if start is not None:
            raise ValueError(f"{problem.name} is not in the plane: its start cannot be moved")
        return {}
    point = np.asarray(problem.start if start is None else start, dtype=float)
    if point.shape != (2,):
        raise ValueError(f"start must be a point (x, y), got shape {point.shape}")
    return {"x": float(point[0]), "y": float(point[1])}
