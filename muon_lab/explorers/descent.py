"""The descent explorer: up to three update rules race down one problem, from a start to drag."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import ClassVar

import numpy as np
from traitlets import Dict, List, Unicode, observe

from muon_lab.descent import RULES, descend
from muon_lab.explorers.base.controls import Choice, Count, Slider, Toggle
from muon_lab.explorers.base.explorer import Explorer, script
from muon_lab.explorers.base.marks import dots, inside, line, names, ticks
from muon_lab.explorers.base.sentences import either, within
from muon_lab.plots import draw_contours
from muon_lab.polynomials import as_schedule, resolve
from muon_lab.problems import PROBLEMS, Problem

NONE = "none"
NO_DECAY = {"muon": {"weight_decay": 0.0}, "adamw": {"weight_decay": 0.0}}
RACE = {
    "momentum": {"lr": 5e-4, "beta": 0.9},
    "adamw": {"lr": 0.05, "beta": 0.9},
    "muon": {"lr": 0.05, "beta": 0.95},
}
BETAS = {"momentum": "beta", "nesterov": "beta", "rmsprop": "beta", "muon": "beta"}
BETAS |= {"adam": "beta1", "adamw": "beta1"}  # the rules that have one, and its name
LANES = (1, 2, 3)
STYLES = {1: ("blue", "solid"), 2: ("orange", "dashed"), 3: ("green", "dotted")}
NEAR = 1e-3
LOWEST = 1e-8  # the loss axis ends here
SAMPLES = 100  # intervals between the steps at which a matrix's error is decomposed
MOST_STEPS = 500
# The gradients' errors at each step, before they are scaled: the browser gets the same numbers. Of
# seeds 0 to 59 this one hovers nearest to their mean (walker and ball, with decay and without).
ERRORS = np.random.default_rng(49).normal(size=(MOST_STEPS, 2)).round(4)


def _lane_marks(color: str, dash: str) -> list[dict]:
    style = {"color": color, "dash": dash}
    return [
        line(1, "times", "heights", width=2.2, **style),
        line(0, "x", "y", width=1.6, **style),
        dots(0, "x", "y", size=3.5, color=color),
        dots(0, "x", "y", size=9, color=color, pick="last"),
        dots(0, "x", "y", size=12, color="text", hollow=True, pick="first"),
        line(0, "sampled", "largest", **style),
        line(0, "sampled", "smallest", **style),
    ]


MARKS = [
    *(ticks(0, "error_steps"), ticks(1, "steps")),
    *(mark for n in LANES for mark in inside(f"lane{n}", _lane_marks(*STYLES[n]))),
    names(1, [(f"{{lane{n}.rule}}", f"lane{n}.heights", STYLES[n][0]) for n in LANES]),
]
ARRIVED = either(
    "steps_to",
    none=either("rises", yes="", no=f"; not yet within {NEAR:g} of the minimum"),
    other=f"; first within {NEAR:g} of the minimum after {{steps_to}}",
)
LANE = [
    "{rule} (lr {lr:g}",
    either("beta", none="", other=", β {beta:g}"),
    "): ",
    either(
        "diverged_at",
        none=[
            "loss {loss:.3g} after {steps} steps",
            either("rises", yes=", above the {first:.3g} of the start: it rises", no=""),
            either("level", none=ARRIVED, other="; {level:.3g} on average over the last quarter"),
            ".",
        ],
        other="diverged at step {diverged_at}; its path is drawn up to there.",
    ),
]
SENTENCES = {f"lane{n}": within(f"lane{n}", LANE) for n in LANES}
SENTENCES["rules"] = either("rules", zero="No rule is chosen.", other="")


def run_lane(
    problem: Problem,
    rule: str,
    lr: float,
    beta: float,
    start,
    steps: int,
    keywords: Mapping,
    errors: np.ndarray | None = None,
    decay: bool = False,
) -> dict:
    """Run one rule down a problem, and say in numbers how it went and how it is drawn.

    ``errors`` (steps or more, 2) are added to the gradients; with ``decay`` lr falls to 0.
    """
    known = {BETAS[rule]: beta} if rule in BETAS else {}
    step = partial(RULES[rule], **known, **keywords)
    step = falling(step, lr, steps) if decay else partial(step, lr=lr)
    run_down = problem if errors is None else off_by(problem, errors)
    path = descend(run_down, step, steps, start=start)
    gaps = np.maximum(path.values - problem.value(problem.minimum), 0.0)
    reached = np.flatnonzero(gaps <= NEAR)
    shown = slice(0, path.diverged_at or steps + 1)
    drawn = path_in_plane if problem.window else errors_of_matrix
    return {
        "rule": rule,
        "lr": lr,
        "beta": beta if known else None,
        "loss": float(gaps[-1]),
        "first": float(gaps[0]),
        "rises": bool(gaps[-1] > gaps[0]),
        "level": None if errors is None else float(gaps[-(steps // 4) :].mean()),
        "steps_to": int(reached[0]) if len(reached) else None,
        "diverged_at": path.diverged_at,
        "points": path.points,
        "losses": gaps,
        "times": np.arange(len(gaps[shown])) / steps,
        "heights": np.maximum(gaps[shown], LOWEST),
        **drawn(problem, path.points[shown], steps),
    }


def off_by(problem: Problem, errors: np.ndarray) -> Problem:
    """Return the problem with errors[k] added to the gradient of step k."""
    left = iter(errors)
    return replace(problem, gradient=lambda point: problem.gradient(point) + next(left))


def falling(rule, lr: float, steps: int):
    """Return the rule with a learning rate that falls evenly from lr towards 0."""
    taken = itertools.count()

    def step(point, gradient, state):
        return rule(point, gradient, state, lr=lr * (1 - next(taken) / steps))

    return step


def path_in_plane(_, points: np.ndarray, steps: int) -> dict:
    """Return the coordinates of a path's points, (steps + 1, 2)."""
    return {"x": points[:, 0], "y": points[:, 1]}


def errors_of_matrix(problem: Problem, points: np.ndarray, steps: int) -> dict:
    """Return the largest and the smallest singular value of the error, at some of the steps."""
    last = len(points) - 1
    count = max(1, min(SAMPLES, last))
    sampled = np.array([i * last // count for i in range(count + 1)])
    stretches = np.linalg.svd(points[sampled] - problem.minimum, compute_uv=False)
    largest, smallest = (np.maximum(stretches[:, end], 1e-12) for end in (0, -1))
    return {"sampled": sampled / steps, "largest": largest, "smallest": smallest}


def loss_limits(problem: Problem) -> tuple[float, float]:
    """Return the loss axis' ends: its top is the highest loss in the window, or the first one."""
    points = problem.start
    if problem.window is not None:
        points = np.array(np.meshgrid(*(np.linspace(*side, 41) for side in problem.window)))
    highest = np.max(problem.value(points)) - problem.value(problem.minimum)
    return LOWEST, float(10 ** np.ceil(np.log10(max(highest, 1e-6)) + 0.3))


@cache
def _standard(name: str) -> Problem:
    return PROBLEMS[name]()


def is_standard(problem: Problem) -> bool:
    """Tell whether a problem is the one that its name stands for, by its values at some points."""
    if problem.name not in PROBLEMS:
        return False
    known = _standard(problem.name)
    shapes = [known.start.shape == problem.start.shape, known.window == problem.window]
    if not all(shapes):
        return False
    points = [known.start, known.minimum, known.start + 1.0, known.minimum - 2.0]
    same = [np.allclose(known.gradient(each), problem.gradient(each), 1e-12) for each in points]
    return all([*same, (known.start == problem.start).all()])


def _lane_traits(dash: str, color: str) -> tuple[Choice, Slider, Slider]:
    """Make the three controls of one lane, in its line's color."""
    return (
        Choice(NONE, label=f"{dash} rule", color=color),
        Slider(0.01, low=1e-5, high=10.0, step=0.02, log=True, label="lr", color=color),
        Slider(0.9, low=0.0, high=0.999, step=0.001, label="β", color=color),
    )


class DescentExplorer(Explorer):
    """Race up to three rules down a problem; drag the start; set each learning rate and β.

    ``problem`` is a name of `problems.PROBLEMS` or a `Problem`; ``rules`` maps up to three names of
    `descent.RULES` to their lr and beta; ``start`` is a point of the plane. ``keywords`` maps a
    rule to further keywords; by default Muon and AdamW run without weight decay, which would move
    the minimum. ``noise`` is the standard deviation, per coordinate, of one example's gradient (in
    the plane only); with it there are two more controls: ``batch``, by whose root the noise is
    divided, and ``decay``, with which every lr falls evenly to 0. All rules meet the same noise.
    ``result`` maps the lane's number (1, 2, 3) to a dict: rule, lr, beta, loss (above the minimum),
    first (the loss at the start), rises, steps_to (the steps until the loss is at most 1e-3, or
    None), level (with noise: the mean loss of the last quarter), diverged_at, points, losses. A
    problem of your own is the one thing that the browser leaves to Python.

    >>> explorer = DescentExplorer("valley", {"sgd": {"lr": 0.05}}, steps=200)
    >>> explorer.result[1]["diverged_at"], explorer.result[1]["loss"] < 1e-3
    (None, True)
    >>> explorer.lr1 = 0.2
    >>> explorer.result[1]["diverged_at"] is None
    False
    """

    _esm = script("descent.js")
    moving: ClassVar = (
        *("rule1", "lr1", "beta1"),
        *("rule2", "lr2", "beta2"),
        *("rule3", "lr3", "beta3"),
        *("problem", "x", "y", "steps"),
        *("batch", "decay"),
    )
    size: ClassVar = (7.6, 3.6)

    title = Unicode("Update rules down a problem").tag(sync=True)
    marks = List(MARKS).tag(sync=True)
    sentences = Dict(SENTENCES).tag(sync=True)
    view_by = Unicode("problem").tag(sync=True)

    rule1, lr1, beta1 = _lane_traits("━━", "blue")
    rule2, lr2, beta2 = _lane_traits("╍╍", "orange")
    rule3, lr3, beta3 = _lane_traits("┅┅", "green")
    problem = Choice("rosenbrock", label="problem")
    x = Slider(0.0, low=-1, high=1, label="start x")
    y = Slider(0.0, low=-1, high=1, label="start y")
    steps = Count(200, low=10, high=MOST_STEPS, label="steps")
    batch = Slider(1.0, low=1, high=1024, step=np.log10(2).item(), log=True, label="batch")
    decay = Toggle(False, label="lr falls to 0")

    def __init__(
        self,
        problem="rosenbrock",
        rules=RACE,
        *,
        start=None,
        keywords=None,
        noise: float = 0.0,
        **values,
    ):
        name = problem.name if isinstance(problem, Problem) else problem
        own = isinstance(problem, Problem) and not is_standard(problem)
        self._own = {name: problem} if own else {}
        self._keywords = NO_DECAY if keywords is None else dict(keywords)
        self._errors = noise * ERRORS if noise else None  # of one example's gradient
        values = {"problem": name} | lane_values(rules) | values
        if name in self.options("problem"):
            values |= start_values(self._problem(name), start)
        super().__init__(**values)

    def _problem(self, name: str | None = None) -> Problem:
        name = name or self.problem
        return self._own.get(name) or _standard(name)

    def options(self, name: str, view=None) -> list[str]:
        """List the problems, or the rules."""
        if name == "problem":
            return list(dict.fromkeys([*self._own, *PROBLEMS]))
        return [*RULES, NONE]

    def limits(self, name: str, view=None):
        """Let the start be anywhere in the problem's window."""
        window = self._problem(view).window
        return window["xy".index(name)] if window and name in ("x", "y") else None

    def controls_of(self, view) -> list[str]:
        """Leave out the start outside the plane, and the batch where there is no noise."""
        in_plane = self._problem(view).window
        left_out = set() if in_plane else {"x", "y", "batch"}
        left_out |= {"batch", "decay"} if self._errors is None else set()
        return [name for name in self.moving if name not in left_out]

    def views_are_shared(self, view) -> bool:
        """Share the pictures of the package's problems."""
        return view not in self._own

    def supply(self, everything: bool = False) -> None:
        """Send what the browser must know of problems and rules; for your own, all numbers."""
        if self.problem in self._own:
            found = {key: _plain(value) for key, value in self._race().items()}
            self.data = self._fixed_data() | {"computed": {self.problem: found}}
        elif not self.data:
            self.data = self._fixed_data()

    def _fixed_data(self) -> dict:
        problems = {name: describe(self._problem(name)) for name in self.options("problem")}
        keywords = {rule: dict(self._keywords.get(rule, {})) for rule in RULES}
        muon = keywords["muon"]
        schedule = muon.pop("schedule", "jordan")
        muon["table"] = resolve(schedule, muon.pop("steps", None))
        muon["norm_factor"] = as_schedule(schedule).norm_factor
        errors = None if self._errors is None else self._errors.tolist()
        return {"problems": problems, "keywords": keywords, "computed": {}, "errors": errors}

    @observe("problem")
    def _take_problem(self, _):
        problem = self._problem()
        spots = zip((self.x, self.y), problem.window or (), strict=False)
        if not all(low <= place <= high for place, (low, high) in spots):
            with self.hold_trait_notifications():
                self.x, self.y = map(float, problem.start)

    def draw_axes(self, figure, palette, view):
        """Draw the problem's level lines on the left, the axes of the losses on the right."""
        left, right = figure.subplots(1, 2)
        problem = self._problem(view)
        if problem.window is None:
            top = 10 * float(np.linalg.norm(problem.start - problem.minimum))
            left.set(xlabel="\nstep", xlim=(-0.03, 1.03), xticks=[], yscale="log", ylim=(1e-6, top))
            left.set(title="largest and smallest stretch of the error")
        else:
            draw_contours(problem, left)
            left.lines[-1].set_color(palette["text"])
            left.collections[-1].set(linewidth=0.8, edgecolor=palette["faint"], alpha=0.6)
            left.set(title="the way down (★ is the minimum)")
        right.set(xlabel="\nstep", xlim=(-0.03, 1.4), xticks=[], yscale="log")
        right.set(ylim=loss_limits(problem), title="loss above the minimum")
        right.axhline(NEAR, color=palette["faint"], linewidth=0.8, linestyle=(0, (2, 2)))
        return [left, right]

    def compute(self) -> dict:
        """Run each lane's rule."""
        return self._race()

    def _race(self) -> dict:
        problem = self._problem()
        start = np.array([self.x, self.y]) if problem.window else problem.start
        noisy = self._errors is not None and problem.window
        errors = self._errors / np.sqrt(self.batch) if noisy else None
        more = {"errors": errors, "decay": self.decay}
        found, idle = {}, []
        for n in LANES:
            rule, lr, beta = (getattr(self, f"{part}{n}") for part in ("rule", "lr", "beta"))
            idle += [f"beta{n}"] if rule not in BETAS else []
            idle += [f"lr{n}"] if rule == NONE else []
            if rule != NONE:
                keywords = self._keywords.get(rule, {})
                run = (problem, rule, lr, beta, start, self.steps, keywords)
                found[f"lane{n}"] = run_lane(*run, **more)
        error_steps = None if problem.window else self.steps
        return {**found, "rules": len(found), "idle": idle, "error_steps": error_steps}

    @property
    def result(self) -> dict[int, dict]:
        """The numbers of each lane."""
        return {n: self.numbers[f"lane{n}"] for n in LANES if f"lane{n}" in self.numbers}


def describe(problem: Problem) -> dict:
    """Return what the browser needs to know of a problem besides its formula, as plain numbers."""
    found = {"start": problem.start, "minimum": problem.minimum}
    if problem.window is None:  # its gradient is (W - minimum) @ covariance
        rows, columns = problem.start.shape
        found["covariance"] = problem.gradient(problem.minimum + np.eye(rows, columns))[:columns]
    return {key: value.tolist() for key, value in found.items()} | {"window": problem.window}


def _plain(value):
    """Return numbers that JSON can hold."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def lane_values(rules: Mapping[str, Mapping]) -> dict:
    """Turn {"adamw": {"lr": 0.05}} into {"rule1": "adamw", "lr1": 0.05}; refuse a fourth rule."""
    if len(rules) > 3:
        raise ValueError(f"wanted at most three rules, got {len(rules)}: {', '.join(rules)}")
    values = {f"rule{number}": NONE for number in LANES}
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
