"""What exercise 6 of notebook 03 says of four steps, against their gains."""

import numpy as np

from muon_lab.exercises import e03
from muon_lab.orthogonalize import polar_factor


def test_of_four_steps_of_one_spectral_norm_the_polar_factor_gains_most():
    G = np.random.default_rng(3).normal(size=(6, 4)) @ np.diag([4.0, 2.0, 1.0, 0.5])
    U, S, Vh = np.linalg.svd(G, full_matrices=False)
    steps = {
        "gradient": G / S[0],
        "sign": np.sign(G) / np.linalg.norm(np.sign(G), 2),
        "first direction": np.outer(U[:, 0], Vh[0]),
        "polar factor": polar_factor(G),
    }
    gains = {name: (G * step).sum() for name, step in steps.items()}
    assert set(gains) == set(e03.q6.choices)
    assert max(gains, key=gains.get) == e03.q6.reference
    np.testing.assert_allclose(gains["first direction"], S[0])
    np.testing.assert_allclose(gains["polar factor"], S.sum())
