"""The challenge of notebook 04: its spectrum and its score."""

import numpy as np
import pytest

from muon_lab.exercises import e04
from muon_lab.exercises.e04 import MARKS
from muon_lab.explorers import PolynomialExplorer
from muon_lab.polynomials import JORDAN, SCHEDULES, evaluate, fading, score


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_a_fading_spectrum_falls_by_its_power_and_has_norm_one(power):
    values = fading(power, count=10)
    assert np.linalg.norm(values) == pytest.approx(1)
    np.testing.assert_allclose(values[0] / values, np.arange(1, 11) ** power)


def test_the_score_is_the_worst_distance_from_one_after_five_steps():
    x = fading(1.5)
    for _ in range(5):
        x = evaluate(x, JORDAN)
    assert score(JORDAN) == score("jordan") == pytest.approx(max(abs(x - 1)))


def test_a_perfect_polynomial_scores_zero_and_one_that_does_nothing_almost_one():
    assert score((1 / fading(0.0)[0], 0, 0), power=0.0, steps=1) == pytest.approx(0, abs=1e-12)
    assert score((1, 0, 0)) == pytest.approx(1 - fading(1.5)[-1])


def test_a_triple_that_lets_a_value_escape_scores_infinity():
    assert score((9.0, 6.0, 20.0), steps=20) == np.inf


def test_a_tables_own_division_is_counted_in():
    table = SCHEDULES["polar_express"].coefficients
    assert score("polar_express", steps=None) != score(table, steps=None)


def test_the_marks_are_ordered_as_the_notebook_says():
    assert sorted(MARKS, key=MARKS.get) == ["jordan", "convergent", "taylor", "cubic"]
    assert MARKS["jordan"] == pytest.approx(0.317, abs=5e-4)


def orthogonalize_by(number):
    """Make an answer to the seventh exercise that divides by ``number(X)``."""

    def answer(X):
        X = X / number(X)
        for _ in range(5):
            A = X @ X.T
            X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
        return X

    return answer


@pytest.mark.parametrize(
    "number",
    [
        lambda X: (X**2).sum() ** 0.5,
        lambda X: np.trace(X @ X.T) ** 0.5,
        lambda X: np.linalg.norm(X) + 1e-7,
        lambda X: np.abs(X).sum(),
        lambda X: (np.linalg.norm(X, 1) * np.linalg.norm(X, np.inf)) ** 0.5,
    ],
    ids=["squares", "trace of XXᵀ", "eps", "all entries", "row and column sums"],
)
def test_every_safe_number_is_accepted(number):
    assert e04.q7.check(orthogonalize_by(number)).status == "correct"


@pytest.mark.parametrize(
    "number",
    [
        lambda X: np.linalg.norm(X, "nuc"),
        lambda X: np.linalg.svd(X, compute_uv=False)[0],
        lambda X: np.linalg.eigvalsh(X @ X.T).max() ** 0.5,
    ],
    ids=["nuclear norm", "SVD", "eigenvalues"],
)
def test_a_number_that_takes_an_svd_is_told_so(number):
    assert "takes an SVD" in e04.q7.check(orthogonalize_by(number)).text


@pytest.mark.parametrize(
    "number",
    [
        lambda X: 10.0,
        lambda X: X.shape[0],
        lambda X: X.sum(),
        lambda X: np.trace(X),
        lambda X: np.linalg.norm(X) ** 2,
        lambda X: np.linalg.norm(X @ X.T),
        lambda X: np.linalg.norm(X, 1),
        lambda X: np.linalg.norm(X, np.inf),
        lambda X: abs(np.linalg.eigvals(X)).max(),
    ],
    ids=[
        "ten",
        "side",
        "sum",
        "trace",
        "norm²",
        "norm of XXᵀ",
        "column sums",
        "row sums",
        "eigenvalue",
    ],
)
def test_a_number_that_is_safe_for_some_matrices_only_is_not(number):
    assert e04.q7.check(orthogonalize_by(number)).status == "not yet"


@pytest.mark.parametrize("exercise", [e04.q3, e04.q6, e04.q10], ids=["q3", "q6", "q10"])
def test_a_slider_task_is_met_by_one_triple_in_five_steps_alone(exercise):
    explorer = PolynomialExplorer(schedule=exercise.start["schedule"])
    assert exercise.check(explorer).status == "not attempted"
    for trait, value in exercise.reference.items():
        setattr(explorer, trait, value)
    assert exercise.check(explorer).status == "correct"
    explorer.steps = 20
    assert "5" in exercise.check(explorer).text
    explorer.reset()
    explorer.schedule = "deepseek_v4"
    assert "table" in exercise.check(explorer).text


@pytest.mark.parametrize("signs", [(1, -1, 1, -1), (-1, 1, -1, 1)])
def test_the_errors_may_begin_above_or_below(signs):
    def equal_errors(points):
        system = np.stack([points, points**3, points**5, signs], axis=1)
        return np.linalg.solve(system, np.ones(4))

    assert e04.q8.check(equal_errors).status == "correct"
