"""Exercises of notebook 12 against the package's own family."""

import numpy as np
import torch
from torch.nn import Parameter

from muon_lab.after_muon import Hyperball, NorMuon
from muon_lab.exercises import e12
from muon_lab.muon import update_scale
from muon_lab.orthogonalize import polar_factor

OPTIONS = {"lr": 0.1, "weight_decay": 0.0, "ns_coefficients": "convergent", "ns_steps": 30}


def step(optimizer, p, gradient):
    """Take a step, and return by how much it moved the parameter."""
    before = p.detach().clone()
    p.grad = torch.tensor(gradient)
    optimizer.step()
    return (before - p.detach()).numpy()


def test_even_rows_are_normuons():
    gradients = np.random.default_rng(0).normal(size=(5, 9, 3))
    p = Parameter(torch.zeros(9, 3, dtype=torch.float64))
    optimizer = NorMuon([p], **OPTIONS, momentum=0.0, ns_dtype=torch.float64)
    average = None
    for gradient in gradients:
        update = polar_factor(gradient)
        if average is None:  # the package's average starts at its first value
            average = (update**2).mean(axis=1, keepdims=True)
        wanted, average = e12.even_rows(update, average, optimizer.row_beta)
        moved = step(optimizer, p, gradient) / (0.1 * update_scale(9, 3))
        np.testing.assert_allclose(moved, wanted, atol=1e-6)


def test_a_held_step_is_hyperballs():
    weight, gradient = np.random.default_rng(1).normal(size=(2, 6, 4))
    p = Parameter(torch.tensor(weight))
    moved = step(Hyperball([p], **OPTIONS, momentum=0.0, ns_dtype=torch.float64), p, gradient)
    wanted = weight - e12.held_step(weight, polar_factor(gradient), 0.1)
    np.testing.assert_allclose(moved, wanted, atol=1e-9)


def test_heads_alone_leave_no_block_behind():
    blocks = e12.heads_alone(e12.LOUD, 4).reshape(4, 3, 3)
    np.testing.assert_allclose(np.linalg.norm(blocks, 2, axis=(1, 2)), 1, atol=1e-12)


def test_the_power_is_told_by_what_it_makes_of_the_singular_values():
    assert e12.is_polar(-0.25) == 0 and e12.is_polar(-0.5) == -1 and e12.is_polar(0) == 1
