"""Odd polynomials p(x) = a·x + b·x³ + c·x⁵ that push singular values towards 1.

Applied to a matrix, X ← aX + (bA + cA²)X with A = XXᵀ, such a polynomial moves each singular value
σ to p(σ) and leaves the singular vectors alone. A schedule says which (a, b, c) each step uses.
This module names the published schedules, computes those that have a rule, and measures them all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real

import numpy as np

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Schedule:
    """A named choice of (a, b, c) for each step, with its source.

    ``coefficients`` holds one triple for every step, or one triple per step. A matrix is divided by
    ``norm_factor`` times its Frobenius norm before the first step.
    """

    name: str
    coefficients: tuple[Triple, ...]
    source: str
    norm_factor: float = 1.0


def optimal_quintic(lower: float, upper: float) -> Triple:
    """Find the odd quintic whose largest distance from 1 on [lower, upper] is smallest, by Remez.

    The error of the best one alternates between +E and −E at four points: both ends and the two
    turning points between. Each round solves for (a, b, c, E) at four points, then moves the inner
    two to where the new polynomial turns. Raises ValueError unless 0 < lower <= upper.

    Source: the exchange as used by Amsel et al. 2025, arXiv 2505.16932.

    >>> [round(number, 4) for number in optimal_quintic(1e-3, 1.0)]
    [8.4703, -25.1081, 18.6293]
    """
    if not 0 < lower <= upper:
        raise ValueError(f"wanted 0 < lower <= upper, got lower={lower}, upper={upper}")
    if lower > upper * (1 - 5e-6):  # the four points have merged: the limit is Taylor's quintic
        return (15 / 8) / upper, (-10 / 8) / upper**3, (3 / 8) / upper**5
    inner = np.array([3 * lower + upper, lower + 3 * upper]) / 4
    error, previous = math.inf, 0.0
    while abs(error - previous) > 1e-15:
        points = np.array([lower, *inner, upper])
        system = np.stack([points, points**3, points**5, [1, -1, 1, -1]], axis=1)
        previous = error
        a, b, c, error = np.linalg.solve(system, np.ones(4))
        turn = math.sqrt(9 * b * b - 20 * a * c)  # p'(x) = a + 3b·x² + 5c·x⁴ = 0
        inner = np.sqrt((-3 * b + np.array([-turn, turn])) / (10 * c))
    return float(a), float(b), float(c)


def polar_express(
    lower: float = 1e-3, steps: int = 5, cushion: float = 0.02, safety: float = 0.02
) -> tuple[Triple, ...]:
    """Compute the table of optimal quintics for singular values in [lower, 1], one triple per step.

    Each step is the best quintic for the interval that the steps before it leave. With ``cushion``
    a step ignores values below ``cushion`` times the largest; ``safety`` shrinks the input of every
    step but the last by 1 + safety, against rounding in bfloat16. Both zero gives CANS.

    Raises ValueError for steps < 1 or a lower end outside (0, 1].

    Source: Amsel et al. 2025, arXiv 2505.16932; with zeros Grishina et al. 2025, arXiv 2506.10935.

    >>> round(polar_express()[0][0], 6)
    8.156555
    """
    if not 0 < lower <= 1:
        raise ValueError(f"lower must lie in (0, 1], the singular values served; got {lower}")
    check_steps(steps)
    upper, table = 1.0, []
    for step in range(steps):
        triple = optimal_quintic(max(lower, cushion * upper), upper)
        # With a cushion the two ends miss 1 by different amounts: rescale so that they are equal.
        centre = (evaluate(lower, triple) + evaluate(upper, triple)) / 2
        shrink = 1 + safety if step < steps - 1 else 1.0
        a, b, c = (k / centre / shrink**power for k, power in zip(triple, (1, 3, 5), strict=True))
        table.append((a, b, c))
        lower = evaluate(lower, (a, b, c))
        upper = 2 - lower
    return tuple(table)


def relaxed_cubic(lower: float = 7e-3, upper: float = 1.3, steps: int = 5) -> tuple[Triple, ...]:
    """Compute a table of cubics, two matrix products per step, for singular values in [lower, 1].

    Each step is the steepest a·x + b·x³ that brings both ends of its interval to the same height
    and its peak to 1, so no other cubic lifts the smallest value further. The last step is scaled
    to peak at ``upper``: the values end between there and a floor that need not be near 1, which is
    what "relaxed" means. Raises ValueError for steps < 1 or a lower end outside (0, 1].

    Source: arXiv 2606.00371. The numbers are computed here from the properties of its `cubic5`.

    >>> [round(number, 4) for number in relaxed_cubic()[0]]
    [2.589, -2.5708, 0.0]
    """
    if not 0 < lower <= 1:
        raise ValueError(f"lower must lie in (0, 1], the singular values served; got {lower}")
    check_steps(steps)
    table = []
    for step in range(steps):
        square = 1 + lower + lower**2  # equal ends: a·l + b·l³ = a + b, so b = -a / square
        peak = upper if step == steps - 1 else 1.0
        a = 1.5 * peak / math.sqrt(square / 3)
        table.append((a, -a / square, 0.0))
        lower = evaluate(lower, table[-1])
    return tuple(table)


def check_steps(steps: int, name: str = "steps") -> int:
    """Return ``steps`` if it is a whole number >= 1; otherwise raise TypeError or ValueError."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer):
        raise TypeError(f"{name} must be a whole number of at least 1; got {steps!r}")
    if steps < 1:
        raise ValueError(f"{name} must be at least 1; got {steps}")
    return int(steps)


def evaluate(x, triple: Triple):
    """Evaluate a·x + b·x³ + c·x⁵ at a number or an array of any shape."""
    a, b, c = triple
    square = x * x
    return x * (a + square * (b + square * c))


def _every_step(name: str, triple: Triple, source: str) -> Schedule:
    return Schedule(name, (triple,), source)


JORDAN: Triple = (3.4445, -4.7750, 2.0315)
CONVERGENT: Triple = (2.0, -1.5, 0.5)

_YOU: tuple[Triple, ...] = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)

SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        _every_step("cubic", (1.5, -0.5, 0.0), "classic Newton-Schulz, X(3I - XᵀX)/2"),
        _every_step("taylor", (15 / 8, -10 / 8, 3 / 8), "classic quintic, flattest at 1"),
        _every_step("jordan", JORDAN, "Keller Jordan 2024, kellerjordan.github.io/posts/muon"),
        _every_step("convergent", CONVERGENT, "optax's exactness test"),
        Schedule("you", _YOU, "You Jiacheng 2025; Emerging-Optimizers' 'quintic'"),
        Schedule("polar_express", polar_express(), "Amsel et al. 2025, arXiv 2505.16932", 1.02),
        Schedule(
            "cans",
            polar_express(cushion=0.0, safety=0.0),
            "Grishina et al. 2025, arXiv 2506.10935",
        ),
        Schedule("cubic5", relaxed_cubic(), "relaxed cubic, arXiv 2606.00371; computed here"),
        Schedule("deepseek_v4", (JORDAN,) * 8 + (CONVERGENT,) * 2, "Emerging-Optimizers' table"),
    )
}

COMPUTED = {
    "polar_express": cache(lambda steps: polar_express(steps=steps)),
    "cans": cache(lambda steps: polar_express(steps=steps, cushion=0.0, safety=0.0)),
    "cubic5": cache(lambda steps: relaxed_cubic(steps=steps)),
}  # by name, for any number of steps

AnySchedule = str | Schedule | Triple | Sequence[Triple]


def as_schedule(schedule: AnySchedule) -> Schedule:
    """Return the Schedule for a name, for one (a, b, c), or for a sequence of them.

    Raises ValueError for an unknown name, a wrong shape, or a number that is not finite.

    >>> as_schedule((1.5, -0.5, 0)).coefficients
    ((1.5, -0.5, 0.0),)
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise ValueError(f"no schedule named {schedule!r}; use one of {known}")
        return SCHEDULES[schedule]
    try:
        one = isinstance(schedule[0], Real)
        table = tuple(
            (float(a), float(b), float(c)) for a, b, c in ([schedule] if one else schedule)
        )
    except (TypeError, ValueError, LookupError):
        raise ValueError(
            "expected a schedule's name, one (a, b, c), or a sequence of them; "
            f"got {schedule!r}. For example (3.4445, -4.775, 2.0315)"
        ) from None
    if not all(math.isfinite(number) for triple in table for number in triple):
        raise ValueError(f"coefficients must be finite; got {schedule!r}")
    return Schedule("custom", table, "given by hand")


def resolve(schedule: AnySchedule, steps: int | None = None) -> tuple[Triple, ...]:
    """Return the (a, b, c) of each step.

    ``steps=None`` means 5 for a single triple and the table's length for a table; past its end a
    table repeats its last triple. The schedules of `COMPUTED`, by name, are computed for the number
    of steps asked for. Raises as `as_schedule` and `check_steps` do.

    >>> len(resolve("jordan")), len(resolve("deepseek_v4")), len(resolve("you", 7))
    (5, 10, 7)
    """
    known = as_schedule(schedule)
    table = known.coefficients
    if steps is None:
        steps = 5 if len(table) == 1 else len(table)
    check_steps(steps)
    if known.name in COMPUTED and known == SCHEDULES[known.name] and steps != len(table):
        return COMPUTED[known.name](steps)
    return (table + table[-1:] * max(0, steps - len(table)))[:steps]


def apply_schedule(x, schedule: AnySchedule, steps: int | None = None):
    """Apply a schedule to singular values ``x``, a number or an array of any shape.

    The values are used as they are: it is `newton_schulz` that divides by the norm and by the
    schedule's ``norm_factor``.

    >>> round(float(apply_schedule(1.0, "jordan", steps=1)), 3)
    0.701
    """
    coefficients = resolve(schedule, steps)
    x = np.asarray(x, dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging value reaches infinity
        for triple in coefficients:
            x = evaluate(x, triple)
    return x


def band(
    schedule: AnySchedule, steps: int | None = None, lower: float = 1e-2, upper: float = 1.0
) -> tuple[float, float]:
    """Return the smallest and the largest value that a σ in [lower, upper] ends at.

    Computed on a grid of 20,001 points, evenly spaced in log σ.

    >>> [round(end, 3) for end in band("jordan")]
    [0.682, 1.134]
    """
    if not 0 < lower <= upper:
        raise ValueError(f"wanted 0 < lower <= upper, got lower={lower}, upper={upper}")
    values = apply_schedule(np.geomspace(lower, upper, 20_001), schedule, steps)
    return float(values.min()), float(values.max())


def slope_at_zero(schedule: AnySchedule, steps: int | None = None) -> float:
    """Return the composed polynomial's slope at 0: the product of the steps' a."""
    return math.prod(a for a, _, _ in resolve(schedule, steps))


def fixed_points(triple: Triple) -> list[tuple[float, float]]:
    """Return (x, p'(x)) for each x >= 0 with p(x) = x; the point attracts where |p'(x)| < 1.

    >>> [(round(x, 3), round(slope, 2)) for x, slope in fixed_points((3.4445, -4.7750, 2.0315))]
    [(0.0, 3.44), (0.868, -1.58), (1.264, 6.47)]
    """
    (a, b, c) = resolve(triple, 1)[0]
    points = [0.0, *_positive_roots((a - 1, b, c))]
    return [(x, a + 3 * b * x**2 + 5 * c * x * x * x * x) for x in points]


def _positive_roots(coefficients: Triple) -> list[float]:
    """Return the x > 0, ascending, where a + b·x² + c·x⁴ = 0."""
    a, b, c = coefficients
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return []
    large = -(b + math.copysign(math.sqrt(discriminant), b)) / 2  # no two near numbers subtracted
    squares = [large / c if c else math.inf, a / large if large else 0.0]
    return sorted(math.sqrt(square) for square in squares if 0 < square < math.inf)


def divergence_bound(schedule: AnySchedule, horizon: int = 100) -> float:
    """Return the smallest σ from which iterating for ever diverges; inf if there is none.

    A table continues with its last triple. The first diverging value is found on a grid of
    10 · ``horizon`` points and then by bisection; some larger values may still come back.

    >>> round(divergence_bound("jordan"), 4)
    1.2637
    """
    table = as_schedule(schedule).coefficients
    a, b, c = table[-1]
    turning = [*_positive_roots((a - 1, b, c)), *_positive_roots((a + 1, b, c))]
    if b == c == 0 and abs(a) <= 1:  # the last step never enlarges anything
        return math.inf
    trapped = max(turning, default=1.0)  # beyond the last |p(x)| = x every value grows
    reach = 1.5 * max(trapped, 1.0)

    def escapes(sigma):
        final = apply_schedule(sigma, table, len(table) + horizon)
        return ~(np.abs(final) <= 10 * reach)

    grid = np.linspace(0, reach, 10 * horizon + 1)
    escaped = escapes(grid)
    if not escaped.any():
        return math.inf
    first = int(np.argmax(escaped))
    return bisect(escapes, grid[first - 1], grid[first])


def bisect(holds: Callable[[float], bool], outside: float, inside: float) -> float:
    """Return, within 2⁻⁵⁰ of the interval, the first value at which ``holds`` is true.

    ``holds`` must be false at ``outside`` and true at ``inside``.

    >>> round(bisect(lambda x: x * x >= 2, 1.0, 2.0), 6)
    1.414214
    """
    for _ in range(50):
        middle = (outside + inside) / 2
        outside, inside = (outside, middle) if holds(middle) else (middle, inside)
    return float(inside)


def fading(power: float = 1.0, count: int = 64) -> np.ndarray:
    """Return ``count`` singular values proportional to i^-power, with Frobenius norm 1.

    >>> values = fading()
    >>> round(float(values[0] / values[9]), 6), round(float(values @ values), 6)
    (10.0, 1.0)
    """
    values = np.arange(1, count + 1) ** -float(power)
    return values / np.linalg.norm(values)


def score(schedule: AnySchedule, power: float = 1.5, steps: int | None = 5) -> float:
    """Return the largest distance from 1 that a schedule leaves among the values of `fading`.

    0 is perfect; infinity means that a value diverged.

    >>> round(score((3.4445, -4.7750, 2.0315)), 3)
    0.317
    """
    starts = fading(power) / as_schedule(schedule).norm_factor
    missed = np.abs(apply_schedule(starts, schedule, steps) - 1)
    return float(missed.max()) if np.isfinite(missed).all() else np.inf
