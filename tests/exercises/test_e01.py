"""What exercise 8 of notebook 01 says of noise, against many noisy walks."""

import numpy as np
import pytest

from muon_lab.exercises import e01


@pytest.mark.parametrize(("lr", "curvature", "noise", "batch"), e01.q8.cases)
def test_the_level_is_where_many_walks_hover(lr, curvature, noise, batch):
    generator, x = np.random.default_rng(0), np.zeros(20_000)
    for _ in range(300):
        error = generator.normal(0, noise / np.sqrt(batch), x.shape)
        x = x - lr * (curvature * x + error)
    measured = np.mean(curvature * x**2 / 2)
    assert e01.hover(lr, curvature, noise, batch) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(("lr", "batch"), [(0.01, 1), (0.02, 2)])
def test_half_the_lr_does_what_twice_the_batch_does(lr, batch):
    level = e01.hover(0.02, 1.0, 5.0, 1)
    assert e01.hover(lr, 1.0, 5.0, batch) == pytest.approx(level / 2, rel=0.01)
