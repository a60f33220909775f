"""Exercises of notebook 11: each suspect has the fault it is said to have, and no other."""

import numpy as np
import pytest

from muon_lab.exercises import e11
from muon_lab.orthogonalize import polar_factor


def test_the_published_update_fits_no_wide_weight_and_is_not_flat():
    gradient = np.abs(np.random.default_rng(0).normal(size=(4, 6)))
    assert e11.published_update(gradient).shape == e11.q1.reference != gradient.shape
    square = gradient[:, :4]
    assert np.ptp(np.linalg.svd(e11.published_update(square))[1]) > 1
    np.testing.assert_allclose(e11.mended_update(square), polar_factor(square), atol=1e-10)


@pytest.mark.parametrize(
    ("experiment", "suspects", "passed"),
    [
        (e11.ignores_scale, e11.ORTHOGONALIZERS.values(), [True, True, False, True]),
        (
            e11.flat_update,
            (e11.nesterov_before, e11.nesterov_after, e11.no_nesterov),
            [True, False, True],
        ),
        (e11.weights_hold, e11.CLIPS, [True, False, True]),
        (e11.spares_quiet_heads, e11.CLIPS, [True, True, False]),
    ],
)
def test_each_experiment_separates_its_fault_from_what_is_right(experiment, suspects, passed):
    assert e11.verdicts(experiment, *suspects) == passed


@pytest.mark.parametrize("scale", [1e-2, 0.1])
def test_on_small_matrices_the_undivided_one_is_not_recognized_by_an_error(scale):
    gradient = scale * np.random.default_rng(0).normal(size=(4, 6))
    assert np.isfinite(e11.undivided(gradient)).all()
    assert np.linalg.norm(e11.undivided(gradient), 2) < 1.3


def test_the_nameless_suspects_have_the_faults_that_the_answer_names():
    gradient, average = np.random.default_rng(5).normal(size=(2, 4, 6)) / 20
    largest = {
        name: [np.abs(suspect(k * gradient, k * average)).max() for k in (1, 20)]
        for name, suspect in zip("ABC", (e11.suspect_a, e11.suspect_b, e11.suspect_c), strict=True)
    }
    assert not largest["A"][1] < 1e6
    assert 1.01 * largest["B"][0] < largest["B"][1] < 10
    np.testing.assert_allclose(*largest["C"], rtol=1e-4)
