"""Compare optimizers fairly: each at its own best, with the same seeds and the same bytes read.

A difference is claimed only if it exceeds ``MIN_ERRORS`` standard errors over the seeds, or the
larger bound of ``MIN_ERRORS_BY_FREEDOM`` where so few seeds leave the error itself uncertain.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from muon_lab.runs.record import Run

# Equal optimizers differ by more in one comparison of 25: Student's t with 4 degrees of freedom.
MIN_ERRORS = 3
MIN_ERRORS_BY_FREEDOM = {1: 15.9, 2: 4.85, 3: 3.48}  # the same chance with fewer degrees
# Settings that all compared runs must share, and those that the runs of one side must share.
SHARED = (
    "attention", "kv_heads", "qk_norm", "layers", "width", "heads", "context", "steps", "batch",
    "schedule", "warm_up", "clip_norm", "precision", "valid_every", "valid_windows",
)  # fmt: skip
OWN = ("optimizer", "lr", "adamw_lr", "weight_decay", "tau")
NO_SPREAD = "no claim: one seed does not show the spread"


@dataclass(frozen=True)
class Reach:
    """The cost, per seed, of reaching the loss at which the baseline ended with that seed.

    ``baseline`` and ``challenger`` hold bytes, steps or seconds in the order of the seeds, None
    where a challenger never reached the loss.
    """

    baseline: tuple[float, ...]
    challenger: tuple[float | None, ...]

    @property
    def factors(self) -> tuple[float | None, ...]:
        """The baseline's cost divided by the challenger's, per seed."""
        pairs = zip(self.baseline, self.challenger, strict=True)
        return tuple(ours / theirs if theirs else None for ours, theirs in pairs)

    @property
    def factor(self) -> float | None:
        """The mean factor; None where a seed never reached the loss."""
        return None if None in self.factors else mean(self.factors)

    @property
    def spread(self) -> float | None:
        """The standard deviation of the factors over the seeds."""
        return stdev(self.factors) if self.factor and len(self.factors) > 1 else None

    @property
    def verdict(self) -> str:
        """Say which side needs less, if the factor differs clearly from 1."""
        if self.factor is None:
            return "no claim: not every seed reached the loss"
        if self.spread is None:
            return NO_SPREAD
        sides = "the challenger needs less", "the baseline needs less"
        count = len(self.factors)
        return _verdict(self.factor - 1, self.spread / math.sqrt(count), count - 1, *sides)


@dataclass(frozen=True)
class Comparison:
    """A challenger against a baseline with the same seeds and bytes.

    ``losses`` holds both sides' final losses in the order of ``seeds``, ``gap`` the baseline's mean
    minus the challenger's, and ``error`` the gap's standard error (None with one seed), all in nats
    per byte. ``seconds`` is None where the devices differ.
    """

    seeds: tuple[int, ...]
    losses: tuple[tuple[float, ...], tuple[float, ...]]
    gap: float
    error: float | None
    bytes: Reach
    steps: Reach
    seconds: Reach | None

    @property
    def verdict(self) -> str:
        """Say which side wins, if the gap clearly exceeds the spread of the seeds."""
        if self.error is None:
            return NO_SPREAD
        freedom = 2 * (len(self.seeds) - 1)
        return _verdict(self.gap, self.error, freedom, "the challenger wins", "the baseline wins")


def _verdict(gap: float, error: float, freedom: int, positive: str, negative: str) -> str:
    """Choose the sentence for a gap with a standard error of so many degrees of freedom."""
    if abs(gap) <= MIN_ERRORS_BY_FREEDOM.get(freedom, MIN_ERRORS) * error:
        return "no claim: the gap is within the seeds' spread"
    return positive if gap > 0 else negative


def compare(baseline: Sequence[Run], challenger: Sequence[Run]) -> Comparison:
    """Compare two optimizers, each given as its runs with one setting, one run per seed.

    Raises ValueError where the runs differ in model, schedule, corpus, bytes or seeds, and where
    those of one side differ in the optimizer's own settings.
    """
    for side in (baseline, challenger):
        if not (isinstance(side, Sequence) and all(isinstance(run, Run) for run in side)):
            raise TypeError(f"expected runs, as best_of(...).runs; got {type(side).__name__}")
    sides = [sorted(side, key=_seed) for side in (baseline, challenger)]
    _check_comparable(*sides)
    losses = [tuple(run.final_loss for run in side) for side in sides]
    count = len(losses[0])
    same_machine = len({run.provenance.get("device") for side in sides for run in side}) == 1
    return Comparison(
        seeds=tuple(map(_seed, sides[0])),
        losses=tuple(losses),
        gap=mean(losses[0]) - mean(losses[1]),
        error=math.hypot(*map(stdev, losses)) / math.sqrt(count) if count > 1 else None,
        bytes=_reach(*sides, "bytes"),
        steps=_reach(*sides, "steps"),
        seconds=_reach(*sides, "seconds") if same_machine else None,
    )


def _check_comparable(*sides: Sequence[Run]) -> None:
    if not all(sides):
        raise ValueError("a comparison needs runs on both sides; one side has none")
    for side in sides:
        expected = shared_settings(sides[0][0]) | _own_settings(side[0])
        for run in side:
            differences = _differences(expected, shared_settings(run) | _own_settings(run))
            if differences:
                raise ValueError(f"cannot compare runs that differ in {differences}")
    seeds = [list(map(_seed, side)) for side in sides]
    if seeds[0] != seeds[1] or len(set(seeds[0])) < len(seeds[0]):
        raise ValueError("both sides need the same seeds, each once; got {} and {}".format(*seeds))


def shared_settings(run: Run) -> dict[str, object]:
    """Return what a run must have in common with the runs it is compared with."""
    settings = {name: run.config.get(name) for name in SHARED}
    bytes_read = float(run.curves["valid_bytes"][-1])
    return settings | {"corpus": run.provenance["corpus"]["sha256"], "bytes": bytes_read}


def _own_settings(run: Run) -> dict[str, object]:
    return {name: run.config.get(name) for name in OWN}


def _differences(first: dict, second: dict) -> str:
    names = [name for name in second if first.get(name) != second[name]]
    return "; ".join(f"{name} {first.get(name)} and {second[name]}" for name in names)


def _reach(baseline: Sequence[Run], challenger: Sequence[Run], axis: str) -> Reach:
    targets = [run.final_loss for run in baseline]
    costs = [
        tuple(run.to_loss(target, axis) for run, target in zip(side, targets, strict=True))
        for side in (baseline, challenger)
    ]
    return Reach(*costs)


@dataclass(frozen=True)
class Best:
    """An optimizer's runs at the setting that won its sweep, one per seed.

    ``tried`` maps each (learning rate, weight decay) of the sweep to its final loss. ``at_edge``
    is True if the best learning rate is the smallest or largest tried: a better one may lie beyond.
    """

    runs: tuple[Run, ...]
    tried: dict[tuple[float, float], float]
    at_edge: bool

    @property
    def lr(self) -> float:
        """The learning rate that won."""
        return self.runs[0].config["lr"]

    @property
    def decay(self) -> float:
        """The weight decay that won."""
        return self.runs[0].config["weight_decay"]


def best_of(runs: Sequence[Run], optimizer: str) -> Best:
    """Pick an optimizer's best learning rate and weight decay, by the seed of its sweep.

    That is the seed with the most settings, the smallest of several such seeds. Raises ValueError
    for two runs with the same setting and seed, because they differ in something else.

    >>> best_of([], "muon")
    Traceback (most recent call last):
    ValueError: no run of muon; there are runs of no optimizer
    """
    own = sorted((run for run in runs if run.optimizer == optimizer), key=_seed)
    if not own:
        found = ", ".join(sorted({run.optimizer for run in runs})) or "no optimizer"
        raise ValueError(f"no run of {optimizer}; there are runs of {found}")
    _check_unique(own)
    sweep_seed, _ = Counter(map(_seed, own)).most_common(1)[0]  # of equals the first, the smallest
    tried = {_lr_and_decay(run): run.final_loss for run in own if _seed(run) == sweep_seed}
    won = min(tried, key=tried.get)
    rates = {lr for lr, _ in tried}
    chosen = tuple(run for run in own if _lr_and_decay(run) == won)
    return Best(chosen, tried, won[0] in (min(rates), max(rates)))


def _check_unique(runs: Sequence[Run]) -> None:
    found: dict[tuple, Run] = {}
    for run in runs:
        other = found.setdefault((_lr_and_decay(run), _seed(run)), run)
        if other is not run:
            sides = [one.config | {"machine": one.provenance.get("device")} for one in (other, run)]
            raise ValueError(
                f"two runs of {run.label}, decay {run.config['weight_decay']:g}, differ in "
                f"{_differences(*sides) or 'nothing'}: compare them separately"
            )


def _lr_and_decay(run: Run) -> tuple[float, float]:
    return run.config["lr"], run.config["weight_decay"]


def _seed(run: Run) -> int:
    return run.config["seed"]
