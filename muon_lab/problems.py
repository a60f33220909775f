"""Things to minimise: small functions whose gradients, starts and minima are known exactly.

A `Problem` holds the function and all that a picture or a test needs of it. Points of the plane are
arrays of shape (2,); the matrix problem's points are matrices.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Problem:
    """A function to minimise, with its gradient, a start, a minimum and a window to draw it in.

    ``value(point)`` gives a float; for a problem of the plane it also takes a grid of shape
    (2, ...), coordinate first, and gives the values on it. ``gradient(point)`` has its shape.
    ``window`` is ((left, right), (bottom, top)), or None where the points are not in the plane.
    """

    name: str
    value: Callable[[np.ndarray], np.ndarray | float]
    gradient: Callable[[np.ndarray], np.ndarray]
    start: np.ndarray
    minimum: np.ndarray
    window: Window | None = None


def rosenbrock(a: float = 1.0, b: float = 100.0) -> Problem:
    """Return (a - x)² + b(y - x²)²: a curved, nearly flat valley with its minimum at (a, a²).

    Source: H. H. Rosenbrock 1960, The Computer Journal 3(3).

    >>> problem = rosenbrock()
    >>> float(problem.value(problem.minimum)), problem.gradient(problem.minimum).tolist()
    (0.0, [-0.0, 0.0])
    """

    def value(point):
        x, y = point
        return (a - x) ** 2 + b * (y - x * x) ** 2

    def gradient(point):
        x, y = point
        off = y - x * x
        return np.array([-2 * (a - x) - 4 * b * x * off, 2 * b * off])

    start, minimum = np.array([-1.5, 2.5]), np.array([a, a * a])
    return Problem("rosenbrock", value, gradient, start, minimum, ((-2.2, 2.2), (-1.0, 3.2)))


def valley(condition: float = 25.0) -> Problem:
    """Return ½(x² + κy²), the narrow quadratic valley with condition number κ = ``condition``.

    Its curvatures are 1 and κ, so gradient descent converges exactly when lr < 2/κ (for κ >= 1).
    Raises ValueError for a condition below 1.

    >>> valley(10).gradient(np.array([1.0, 1.0])).tolist()
    [1.0, 10.0]
    """
    if not condition >= 1:
        raise ValueError(f"a condition number is at least 1, got {condition}")
    curvature = np.array([1.0, condition])

    def value(point):
        x, y = point
        return 0.5 * (x * x + condition * y * y)

    window = ((-4.5, 4.5), (-1.8, 1.8))
    start, minimum = np.array([-4.0, 1.0]), np.zeros(2)
    return Problem("valley", value, lambda point: curvature * point, start, minimum, window)


def matrix_problem(
    rows: int = 8, columns: int = 6, condition: float = 100.0, seed: int = 0
) -> Problem:
    """Return ½‖(W - W*)A‖² over matrices W (rows, columns): linear regression with skewed inputs.

    A (columns, columns) has singular values spread in log from 1 down to 1/√condition, so that the
    gradient (W - W*)AAᵀ is strong in a few directions and faint in the rest, as a layer's is whose
    inputs are correlated. W* is Gaussian, the start is zero. Raises ValueError for a side or a
    condition below 1.

    >>> problem = matrix_problem()
    >>> problem.start.shape, float(problem.value(problem.minimum))
    ((8, 6), 0.0)
    """
    if min(rows, columns) < 1 or not condition >= 1:
        raise ValueError(
            f"wanted sides and condition of at least 1, got {rows} x {columns}, {condition}"
        )
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(columns, columns)))
    covariance = (rotation * np.geomspace(1, 1 / condition, columns)) @ rotation.T
    target = generator.normal(size=(rows, columns))

    def value(W):
        return 0.5 * np.sum(((W - target) @ covariance) * (W - target))

    def gradient(W):
        return (W - target) @ covariance

    return Problem("matrix", value, gradient, np.zeros((rows, columns)), target)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "rosenbrock": rosenbrock,
    "valley": valley,
    "matrix": matrix_problem,
}
