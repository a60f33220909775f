"""Gradients match finite differences of the values, and minima are minima."""

import numpy as np
import pytest

from muon_lab.problems import PROBLEMS, cliff, matrix_problem, rosenbrock, turned, valley

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


PLANE = [rosenbrock(), valley(), cliff(), turned(rosenbrock(), 30)]


@pytest.mark.parametrize("problem", PLANE, ids=lambda problem: problem.name)
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


def test_cliff_is_steep_on_its_wall_and_nowhere_else():
    problem = cliff(500)
    assert abs(problem.gradient(problem.start)[0]) > 500
    floor = np.stack(np.meshgrid(np.linspace(-3, 1.5, 50), np.linspace(-1, 2.5, 50)))
    assert max(abs(problem.gradient(point)).max() for point in floor.reshape(2, -1).T) < 1


def test_a_turned_problem_keeps_its_values():
    problem, quarter = rosenbrock(), turned(rosenbrock(), 90)
    x, y = 0.3, -1.2
    assert quarter.value(np.array([-y, x])) == pytest.approx(problem.value(np.array([x, y])))
    assert quarter.value(quarter.start) == pytest.approx(problem.value(problem.start))


def test_only_a_problem_in_the_plane_can_be_turned():
    with pytest.raises(ValueError, match="matrix has no window"):
        turned(matrix_problem())


def test_matrix_problem_has_the_condition_number_asked_for():
    problem = matrix_problem(5, 5, condition=50)
    covariance = problem.gradient(problem.minimum + np.eye(5))
    assert np.linalg.cond(covariance) == pytest.approx(50, rel=1e-9)


def test_impossible_condition_numbers_are_refused():
    with pytest.raises(ValueError, match=r"at least 1, got 0\.5"):
        valley(0.5)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        cliff(-1)
    with pytest.raises(ValueError, match="at least 1, got 0, 6"):
        matrix_problem(rows=0)
