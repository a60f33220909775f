"""Compare optimizers fairly: each at its own best, same seeds and bytes, every seed's number shown.

A win is claimed only where the mean gap is more than ``CLAIM`` standard errors of the seeds, and
more still where so few seeds leave the error itself a guess.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from muon_lab.runs.record import Run

CLAIM = 3  # standard errors: equals are further apart once in 25 times, with 4 degrees of freedom
FEWER = {1: 15.9, 2: 4.85, 3: 3.48}  # Student's t of that chance, with fewer
# What runs must share to be compared; the optimizer's own settings and the seed are not among them.
SHARED = (
    "attention", "kv_heads", "qk_norm", "layers", "width", "heads", "context", "steps", "batch",
    "schedule", "warm_up", "clip_norm", "precision", "valid_every", "valid_windows",
)  # fmt: skip


@dataclass(frozen=True)
class Reach:
    """Tell what each seed took, along one axis, to the loss at which the baseline ended there.

    ``baseline`` and ``challenger`` hold bytes, steps or seconds, one number a seed in the seeds'
    order; None where a challenger never got there.
    """

    baseline: tuple[float, ...]
    challenger: tuple[float | None, ...]

    @property
    def factors(self) -> tuple[float | None, ...]:
        """How much more the baseline took than the challenger, at each seed."""
        pairs = zip(self.baseline, self.challenger, strict=True)
        return tuple(ours / theirs if theirs else None for ours, theirs in pairs)

    @property
    def factor(self) -> float | None:
        """The seeds' mean factor; None where a seed never got there."""
        return None if None in self.factors else mean(self.factors)

    @property
    def spread(self) -> float | None:
        """The factors' standard deviation over the seeds."""
        return stdev(self.factors) if self.factor and len(self.factors) > 1 else None

    @property
    def verdict(self) -> str:
        """Claim fewer or more only where the factor is beyond the spread from 1; see `_claim`."""
        if self.factor is None:
            return "no claim: not every seed got there"
        if self.spread is None:
            return "no claim: one seed tells nothing of the spread"
        error = self.spread / math.sqrt(len(self.factors))
        words = "the challenger needs less", "the baseline needs less"
        return _claim(self.factor - 1, error, len(self.factors) - 1, *words)


@dataclass(frozen=True)
class Comparison:
    """Tell how a challenger did against a baseline at the same seeds and bytes.

    ``losses`` holds each side's final losses in the order of ``seeds``, ``gap`` the baseline's mean
    minus the challenger's and ``error`` its standard error (None with one seed), all in nats per
    byte; ``seconds`` is None where the two ran on different devices.
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
        """Claim a win only where the gap is beyond what seeds may do; see `_claim`."""
        if self.error is None:
            return "no claim: one seed tells nothing of the spread"
        freedom = 2 * (len(self.seeds) - 1)
        return _claim(self.gap, self.error, freedom, "the challenger wins", "the baseline wins")


def _claim(gap: float, error: float, freedom: int, positive: str, negative: str) -> str:
    """Say which side is ahead, where the gap is beyond its error; ``freedom`` is of that error."""
    if abs(gap) <= FEWER.get(freedom, CLAIM) * error:
        return "no claim: the gap is within the seeds' spread"
    return positive if gap > 0 else negative


def compare(baseline: Sequence[Run], challenger: Sequence[Run]) -> Comparison:
    """Compare two optimizers' runs, which must share model, schedule, corpus, bytes and seeds."""
    ours, theirs = _common(baseline), _common(challenger)
    differ = [
        f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]
    ]
    if differ:
        raise ValueError(f"these runs cannot be compared, they differ in {'; '.join(differ)}")
    sides = [sorted(side, key=lambda run: run.config["seed"]) for side in (baseline, challenger)]
    losses = [tuple(run.final_loss for run in side) for side in sides]
    count = len(losses[0])
    error = math.hypot(*map(stdev, losses)) / math.sqrt(count) if count > 1 else None
    same_device = len({run.provenance.get("device") for side in sides for run in side}) == 1
    return Comparison(
        seeds=tuple(ours["seeds"]),
        losses=tuple(losses),
        gap=mean(losses[0]) - mean(losses[1]),
        error=error,
        bytes=_reach(*sides, "bytes"),
        steps=_reach(*sides, "steps"),
        seconds=_reach(*sides, "seconds") if same_device else None,
    )


def _reach(baseline: Sequence[Run], challenger: Sequence[Run], axis: str) -> Reach:
    targets = [run.final_loss for run in baseline]
    took = [
        tuple(run.to_loss(target, axis) for run, target in zip(side, targets, strict=True))
        for side in (baseline, challenger)
    ]
    return Reach(*took)


def setting(run: Run) -> dict[str, object]:
    """Give what a run must share with those it is compared with; None for what it does not say."""
    return {"corpus": run.provenance["corpus"]["sha256"]} | {
        name: run.config.get(name) for name in SHARED
    }


def _common(side: Sequence[Run]) -> dict[str, list]:
    """Gather the settings, seeds and bytes of one side's runs."""
    if not side:
        raise ValueError("a comparison needs a run on each side, and one side has none")
    settings = [setting(run) for run in side]
    common = {name: sorted({s[name] for s in settings}, key=repr) for name in settings[0]}
    common["seeds"] = sorted(run.config["seed"] for run in side)
    return common | {"bytes": sorted({float(run.curves["valid_bytes"][-1]) for run in side})}


@dataclass(frozen=True)
class Best:
    """The runs of an optimizer at the setting that won its sweep, one a seed.

    ``tried`` maps every (learning rate, decay) of the sweep to its loss; ``at_edge`` tells that the
    best learning rate is the least or the largest tried, so that a better one may lie outside.
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
    """Pick an optimizer's best learning rate and decay, at the seed of its sweep.

    That is the seed with the most settings, the least where several have as many. Raises
    ValueError for two runs of one setting and seed, since then something else differs.

    >>> best_of([], "muon")
    Traceback (most recent call last):
    ValueError: there is no run of muon
    """
    own = [run for run in runs if run.config["optimizer"] == optimizer]
    if not own:
        raise ValueError(f"there is no run of {optimizer}")
    _check_told_apart(own)
    settings = Counter(run.config["seed"] for run in own)
    first = max(sorted(settings), key=settings.get)
    tried = {_tuned(run): run.final_loss for run in own if run.config["seed"] == first}
    won = min(tried, key=tried.get)
    rates = {lr for lr, _ in tried}
    chosen = [run for run in own if _tuned(run) == won]
    chosen.sort(key=lambda run: run.config["seed"])
    return Best(tuple(chosen), tried, won[0] in (min(rates), max(rates)))


def _check_told_apart(runs: Sequence[Run]) -> None:
    found: dict[tuple, Run] = {}
    for run in runs:
        other = found.setdefault((*_tuned(run), run.config["seed"]), run)
        if other is run:
            continue
        sides = [one.config | {"machine": one.provenance.get("device")} for one in (other, run)]
        names = [name for name in sides[1] if sides[0].get(name) != sides[1][name]]
        told = "; ".join(f"{name} {sides[0].get(name)} and {sides[1][name]}" for name in names)
        raise ValueError(
            f"two runs of {run.label}, decay {run.config['weight_decay']:g}, differ in "
            f"{told or 'nothing'}: compare them apart"
        )


def _tuned(run: Run) -> tuple[float, float]:
    return run.config["lr"], run.config["weight_decay"]
