"""Problems to minimize: small functions with exact gradients and known minima.

Points in the plane are arrays of shape (2,); the points of the matrix problem are matrices.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Problem:
    """A function to minimize, with its gradient, a start, a minimum and a window to draw it in.

    ``value(point)`` is a float. In the plane it also accepts a grid of shape (2, ...), coordinates
    first, and returns the value at each of its points. ``gradient(point)`` has the shape of
    ``point``. ``window`` is ((left, right), (bottom, top)), or None outside the plane.
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
        raise ValueError(f"condition must be at least 1, got {condition}")
    curvature = np.array([1.0, condition])

    def value(point):
        x, y = point
        return 0.5 * (x * x + condition * y * y)

    window = ((-4.5, 4.5), (-1.8, 1.8))
    start, minimum = np.array([-4.0, 1.0]), np.zeros(2)
    return Problem("valley", value, lambda point: curvature * point, start, minimum, window)


def cliff(wall: float = 1000.0) -> Problem:
    """Return a gentle bowl √(1+x²) + √(1+y²) - 2 with a steep wall ½·wall·(x+3)² left of x = -3.

    The start is on the wall, where the slope is about ``wall`` times the slope in the bowl: a rule
    that never forgets its largest gradient is slow there. Raises ValueError for wall < 0.

    >>> float(cliff().gradient(np.array([-4.0, 0.0]))[0]) < -1000
    True
    """
    if not wall >= 0:
        raise ValueError(f"wall must be at least 0, got {wall}")

    def value(point):
        x, y = point
        bowl = np.sqrt(1 + x * x) + np.sqrt(1 + y * y) - 2
        return bowl + 0.5 * wall * np.minimum(x + 3, 0) ** 2

    def gradient(point):
        steep = np.array([wall * np.minimum(point[0] + 3, 0), 0.0])
        return point / np.sqrt(1 + point * point) + steep

    window = ((-4.5, 1.5), (-1.0, 2.5))
    return Problem("cliff", value, gradient, np.array([-4.0, 2.0]), np.zeros(2), window)


def turned(problem: Problem, degrees: float = 45.0) -> Problem:
    """Return a problem in the plane turned about the origin, with its start and minimum.

    The path of a rule that treats all directions alike turns with it; that of a rule that works
    coordinate by coordinate changes. Raises ValueError for a problem that is not in the plane.

    >>> problem = turned(valley(), 90)
    >>> problem.start.round(6).tolist(), float(problem.value(problem.start))
    ([-1.0, -4.0], 20.5)
    """
    if problem.window is None:
        raise ValueError(f"expected a problem in the plane; {problem.name} has no window")
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])
    reach = float(np.abs(problem.window).max())

    def value(point):
        return problem.value(np.tensordot(turn.T, point, axes=1))

    def gradient(point):
        return turn @ problem.gradient(turn.T @ point)

    start, minimum = turn @ problem.start, turn @ problem.minimum
    window = ((-reach, reach), (-reach, reach))
    return Problem(f"turned {problem.name}", value, gradient, start, minimum, window)


def matrix_problem(
    rows: int = 8, columns: int = 6, condition: float = 100.0, seed: int = 0
) -> Problem:
    """Return ½‖(W - W*)A‖² over matrices W (rows, columns): linear regression with skewed inputs.

    The singular values of A (columns, columns) are spaced evenly in log from 1 to 1/√condition: the
    gradient (W - W*)AAᵀ is strong in a few directions and faint in the others, like that of a layer
    with correlated inputs. W* is Gaussian, the start is zero. Raises ValueError for a side or a
    condition below 1.

    >>> problem = matrix_problem()
    >>> problem.start.shape, float(problem.value(problem.minimum))
    ((8, 6), 0.0)
    """
    if min(rows, columns) < 1 or not condition >= 1:
        raise ValueError(
            f"rows, columns and condition must be at least 1, got {rows}, {columns}, {condition}"
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
    "turned valley": lambda: turned(valley()),
    "cliff": cliff,
    "matrix": matrix_problem,
}
