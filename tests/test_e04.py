"""The challenge of notebook 04: its spectrum and its score."""

import numpy as np
import pytest

from muon_lab.exercises.e04 import MARKS, fading, score
from muon_lab.polynomials import JORDAN, SCHEDULES, evaluate


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
