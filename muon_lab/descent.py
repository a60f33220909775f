"""Update rules as pure functions of NumPy arrays, and the loop that minimizes a problem with one.

Every rule has the same signature: ``rule(point, gradient, state=None, *, lr, ...)`` returns the
next point and state. Points and gradients are arrays of one shape; ``state`` is None before the
first step and then the tuple that the previous step returned. No rule writes to its arguments. Each
one equals the optimizer with its name in torch.optim, and is tested against it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from muon_lab.orthogonalize import newton_schulz
from muon_lab.polynomials import AnySchedule
from muon_lab.problems import Problem

Step = tuple[np.ndarray, tuple]
Rule = Callable[..., Step]


def sgd(point, gradient, state=None, *, lr: float) -> Step:
    """Take a step of gradient descent: straight downhill, proportional to the slope.

    >>> sgd(np.array([1.0]), np.array([2.0]), lr=0.25)[0].tolist()
    [0.5]
    """
    return point - lr * gradient, ()


def momentum(point, gradient, state=None, *, lr: float, beta: float = 0.9) -> Step:
    """Step along the velocity: past gradients, each faded by ``beta`` per step (Polyak 1964)."""
    (velocity,) = state or (np.zeros_like(point),)
    velocity = beta * velocity + gradient
    return point - lr * velocity, (velocity,)


def nesterov(point, gradient, state=None, *, lr: float, beta: float = 0.9) -> Step:
    """Take a momentum step that looks one step ahead (Nesterov 1983, in torch's form)."""
    (velocity,) = state or (np.zeros_like(point),)
    velocity = beta * velocity + gradient
    return point - lr * (gradient + beta * velocity), (velocity,)


def adagrad(point, gradient, state=None, *, lr: float = 1e-2, eps: float = 1e-10) -> Step:
    """Divide each coordinate by the root of the sum of its squared gradients (Duchi 2011)."""
    (total,) = state or (np.zeros_like(point),)
    total = total + gradient**2
    return point - lr * gradient / (np.sqrt(total) + eps), (total,)


def rmsprop(
    point, gradient, state=None, *, lr: float = 1e-2, beta: float = 0.99, eps: float = 1e-8
) -> Step:
    """Divide by the root of a moving average of squared gradients (Hinton 2012)."""
    (square,) = state or (np.zeros_like(point),)
    square = beta * square + (1 - beta) * gradient**2
    return point - lr * gradient / (np.sqrt(square) + eps), (square,)


def adam(
    point,
    gradient,
    state=None,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction: bool = True,
) -> Step:
    """Divide the average gradient by the root of the average squared gradient (arXiv 1412.6980).

    Both averages start at zero and are too small at first; ``bias_correction`` divides each by what
    it would be if every gradient were 1. ``weight_decay`` is L2: it is added to the gradient.
    """
    step, mean, square = state or (0, np.zeros_like(point), np.zeros_like(point))
    gradient = gradient + weight_decay * point
    step += 1
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    full1, full2 = (1 - beta1**step, 1 - beta2**step) if bias_correction else (1.0, 1.0)
    direction = (mean / full1) / (np.sqrt(square / full2) + eps)
    return point - lr * direction, (step, mean, square)


def adamw(
    point, gradient, state=None, *, lr: float = 1e-3, weight_decay: float = 1e-2, **options
) -> Step:
    """Shrink the weights, independently of the gradient, then step as Adam (arXiv 1711.05101).

    ``options`` are other arguments of `adam`: beta1, beta2, eps, bias_correction.
    """
    return adam(point * (1 - lr * weight_decay), gradient, state, lr=lr, **options)


def muon(
    point,
    gradient,
    state=None,
    *,
    lr: float = 1e-3,
    beta: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.1,
    schedule: AnySchedule = "jordan",
    steps: int | None = None,
    eps: float = 1e-7,
) -> Step:
    """Orthogonalize the average gradient and step along it (kellerjordan.github.io/posts/muon).

    A point of shape (m, n) is a matrix; one of shape (n,) is treated as a single column, of which
    orthogonalization changes only the length: there Muon is momentum with steps of constant length.
    The step is scaled by √max(1, m/n); weight decay uses the unscaled lr.
    """
    (average,) = state or (np.zeros_like(point),)
    average = beta * average + (1 - beta) * gradient
    direction = beta * average + (1 - beta) * gradient if nesterov else average
    matrix = direction if direction.ndim > 1 else direction[:, None]  # (m, n)
    update = newton_schulz(matrix, schedule, steps, eps).reshape(point.shape)
    scale = math.sqrt(max(1.0, matrix.shape[-2] / matrix.shape[-1]))
    return point * (1 - lr * weight_decay) - lr * scale * update, (average,)


RULES: dict[str, Rule] = {
    rule.__name__: rule for rule in (sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, muon)
}


@dataclass(frozen=True)
class Path:
    """The points that a rule visits, (steps + 1, *shape), and their values, (steps + 1,).

    ``diverged_at`` is the first step whose value is not finite or above 1e12, or None. From that
    step on the path repeats the point before it, so that it can be drawn.
    """

    points: np.ndarray
    values: np.ndarray
    diverged_at: int | None = None


def descend(problem: Problem, rule: Rule, steps: int, start: np.ndarray | None = None) -> Path:
    """Run ``rule`` from ``start`` (the problem's own by default) for ``steps`` steps.

    Set hyper-parameters with functools.partial. Raises ValueError for steps < 0 and for a start
    whose shape is not that of the problem.

    >>> from functools import partial
    >>> from muon_lab.problems import valley
    >>> path = descend(valley(4), partial(sgd, lr=0.25), steps=50)
    >>> path.points.shape, bool(path.values[-1] < 1e-5)
    ((51, 2), True)
    """
    point = np.array(problem.start if start is None else start, dtype=float)
    if steps < 0 or point.shape != problem.start.shape:
        raise ValueError(
            f"expected steps >= 0 and a start of shape {problem.start.shape}, "
            f"got {steps} and {point.shape}"
        )
    points, values, state, diverged_at = [point], [problem.value(point)], None, None
    for step in range(1, steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            moved, state = rule(points[-1], problem.gradient(points[-1]), state)
            value = problem.value(moved)
        if not value <= 1e12:
            diverged_at = step
            points += [points[-1]] * (steps + 1 - step)
            values += [values[-1]] * (steps + 1 - step)
            break
        points.append(moved)
        values.append(value)
    return Path(np.array(points), np.array(values, dtype=float), diverged_at)
