"""Each problem's gradient is its value's slope, and its minimum is one."""

import numpy as np
import pytest

from muon_lab.problems import PROBLEMS, matrix_problem, rosenbrock, valley

problems = pytest.mark.parametrize("problem", [make() for make in PROBLEMS.values()], ids=PROBLEMS)


@problems
def test_gradient_is_the_slope_of_the_value(problem):
    point = problem.start + np.random.default_rng(0).normal(size=problem.start.shape)
    slopes, size = np.empty_like(point), 1e-6
    for index in np.ndindex(point.shape):
        nudge = np.zeros_like(point)
        nudge[index] = size
        slopes[index] = (problem.value(point + nudge) - problem.value(point - nudge)) / (2 * size)
    np.testing.assert_allclose(problem.gradient(point), slopes, rtol=1e-6, atol=1e-6)


@problems
def test_minimum_is_flat_and_lowest(problem):
    assert np.abs(problem.gradient(problem.minimum)).max() == 0
    lowest = problem.value(problem.minimum)
    generator = np.random.default_rng(1)
    around = [problem.minimum + generator.normal(size=problem.start.shape) for _ in range(50)]
    assert all(problem.value(point) > lowest for point in around)
    assert problem.value(problem.start) > lowest


@problems
def test_gradient_writes_to_nothing(problem):
    point = problem.start.copy()
    problem.gradient(point)
    np.testing.assert_array_equal(point, problem.start)


@pytest.mark.parametrize("problem", [rosenbrock(), valley()], ids=["rosenbrock", "valley"])
def test_plane_problems_take_grids_and_start_inside_their_window(problem):
    grid = np.stack(np.meshgrid(np.linspace(*problem.window[0], 7), np.linspace(0, 1, 5)))
    values = problem.value(grid)  # (5, 7)
    assert values.shape == (5, 7)
    assert values[2, 3] == problem.value(grid[:, 2, 3])
    for place, (low, high) in zip(problem.start, problem.window, strict=True):
        assert low < place < high


def test_valley_has_the_condition_number_asked_for():
    problem = valley(40)
    assert problem.gradient(np.array([0.0, 1.0]))[1] == 40 * problem.gradient(np.ones(2))[0]


def test_matrix_problem_has_the_condition_number_asked_for():
    problem = matrix_problem(5, 5, condition=50)
    covariance = problem.gradient(problem.minimum + np.eye(5))
    assert np.linalg.cond(covariance) == pytest.approx(50, rel=1e-9)


def test_impossible_condition_numbers_are_refused():
    with pytest.raises(ValueError, match=r"at least 1, got 0\.5"):
        valley(0.5)
    with pytest.raises(ValueError, match="at least 1, got 0 x 6"):
        matrix_problem(rows=0)
