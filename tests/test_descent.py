"""Each NumPy rule equals the torch optimizer with its name, step by step, on every problem."""

from functools import partial

import numpy as np
import pytest
import torch

from muon_lab.descent import (
    RULES,
    adagrad,
    adam,
    adamw,
    descend,
    momentum,
    muon,
    nesterov,
    rmsprop,
    sgd,
)
from muon_lab.problems import PROBLEMS, matrix_problem, rosenbrock, valley

TWINS = {
    "sgd": (partial(sgd, lr=5e-4), partial(torch.optim.SGD, lr=5e-4)),
    "momentum": (
        partial(momentum, lr=5e-4, beta=0.9),
        partial(torch.optim.SGD, lr=5e-4, momentum=0.9),
    ),
    "nesterov": (
        partial(nesterov, lr=5e-4, beta=0.9),
        partial(torch.optim.SGD, lr=5e-4, momentum=0.9, nesterov=True),
    ),
    "adagrad": (partial(adagrad, lr=0.1), partial(torch.optim.Adagrad, lr=0.1)),
    "rmsprop": (
        partial(rmsprop, lr=0.01, beta=0.99),
        partial(torch.optim.RMSprop, lr=0.01, alpha=0.99),
    ),
    "adam": (
        partial(adam, lr=0.05, weight_decay=0.02),
        partial(torch.optim.Adam, lr=0.05, weight_decay=0.02),
    ),
    "adamw": (
        partial(adamw, lr=0.05, weight_decay=0.1),
        partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1),
    ),
}


def torch_points(problem, make, steps, shape=None):
    """Return the points that a torch optimizer visits, given the problem's own gradients."""
    start = problem.start if shape is None else problem.start.reshape(shape)
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer, points = make([parameter]), [problem.start]
    for _ in range(steps):
        gradient = problem.gradient(parameter.detach().numpy().reshape(problem.start.shape))
        parameter.grad = torch.tensor(gradient).reshape(parameter.shape)
        optimizer.step()
        points.append(parameter.detach().numpy().reshape(problem.start.shape).copy())
    return np.array(points)


@pytest.mark.parametrize("problem", [make() for make in PROBLEMS.values()], ids=PROBLEMS)
@pytest.mark.parametrize("name", TWINS)
def test_rule_equals_its_torch_twin_over_100_steps(name, problem):
    rule, make = TWINS[name]
    got = descend(problem, rule, 100).points
    np.testing.assert_allclose(got, torch_points(problem, make, 100), rtol=1e-9, atol=1e-9)


def in_torchs_bfloat16(matrix, schedule, steps, eps):
    """Orthogonalize as torch.optim.Muon does, rounding to bfloat16 on the way."""
    iterate = torch.optim._muon._zeropower_via_newtonschulz
    return iterate(torch.tensor(matrix), (3.4445, -4.7750, 2.0315), 5, eps).double().numpy()


def largest_error_against_torchs_muon(problem, ahead):
    """Return the largest entry of |ours - torch's| in 100 updates, in units of lr."""
    settings = {"lr": 0.02, "weight_decay": 0.1, "nesterov": ahead}
    shape = problem.start.shape if problem.start.ndim == 2 else (-1, 1)
    parameter = torch.nn.Parameter(torch.tensor(problem.start.reshape(shape)))
    optimizer = torch.optim.Muon([parameter], momentum=0.95, **settings)
    point, state, error = problem.start, None, 0.0
    for _ in range(100):  # both step from the same point, so that rounding errors do not add up
        gradient = problem.gradient(point)
        parameter.data = torch.tensor(point.reshape(shape))
        parameter.grad = torch.tensor(gradient.reshape(shape))
        optimizer.step()
        point, state = muon(point, gradient, state, beta=0.95, **settings)
        theirs = parameter.detach().numpy().reshape(point.shape)
        error = max(error, np.abs(theirs - point).max() / settings["lr"])
    return error


@pytest.mark.parametrize("ahead", [True, False], ids=["nesterov", "plain"])
def test_muon_equals_torchs_within_bfloat16_on_vectors(ahead):
    # The input and each of five steps round by 2⁻⁹, and a later step amplifies that by up to 1.58.
    bound = np.sqrt(2) * 2**-9 * sum(1.58**step for step in range(6))
    for problem in (rosenbrock(), valley()):
        assert 0 < largest_error_against_torchs_muon(problem, ahead) < bound


@pytest.mark.parametrize("problem", [make() for make in PROBLEMS.values()], ids=PROBLEMS)
@pytest.mark.parametrize("ahead", [True, False], ids=["nesterov", "plain"])
def test_muon_differs_from_torchs_by_bfloat16_alone(problem, ahead, monkeypatch):
    # On a matrix the iteration amplifies a rounding error of 2⁻⁹ by its slope at zero, 485 (to 0.26
    # here). So both use torch's own iteration, the only place that rounds: nothing else may differ.
    monkeypatch.setattr("muon_lab.descent.newton_schulz", in_torchs_bfloat16)
    assert largest_error_against_torchs_muon(problem, ahead) < 1e-12


def test_every_rule_is_a_pure_function():
    generator = np.random.default_rng(0)
    point, gradient = generator.normal(size=(2, 3, 4))
    for name, rule in RULES.items():
        state = None
        for _ in range(3):
            copies = point.copy(), gradient.copy(), repr(state)
            first, _ = rule(point, gradient, state, lr=0.1)
            again, state_after = rule(point, gradient, state, lr=0.1)
            np.testing.assert_array_equal(first, again, err_msg=name)
            np.testing.assert_array_equal(point, copies[0], err_msg=name)
            np.testing.assert_array_equal(gradient, copies[1], err_msg=name)
            assert repr(state) == copies[2], name
            state = state_after


def test_on_a_vector_muon_is_momentum_of_constant_length():
    problem = rosenbrock()
    path = descend(problem, partial(muon, lr=0.05, weight_decay=0.0, schedule="taylor"), 30)
    lengths = np.linalg.norm(np.diff(path.points, axis=0), axis=1)
    np.testing.assert_allclose(lengths, 0.05 * np.sqrt(2), rtol=1e-12)


def test_bias_correction_makes_adams_first_step_the_learning_rate():
    point, gradient = np.zeros(2), np.array([1e-3, -50.0])
    corrected, _ = adam(point, gradient, lr=0.1)
    np.testing.assert_allclose(corrected, [-0.1, 0.1], rtol=1e-4)
    raw, _ = adam(point, gradient, lr=0.1, bias_correction=False)
    np.testing.assert_allclose(raw, corrected * 0.1 / np.sqrt(0.001), rtol=1e-3)


def test_decoupled_decay_differs_from_l2_once_scaled():
    point, gradient = np.array([1.0, 1.0]), np.array([10.0, 0.1])
    decoupled, _ = adamw(point, gradient, lr=0.1, weight_decay=0.5)
    plain, _ = adam(point, gradient, lr=0.1)
    np.testing.assert_allclose(decoupled - plain, [-0.05, -0.05], atol=1e-12)
    l2, _ = adam(point, gradient, lr=0.1, weight_decay=0.5)
    np.testing.assert_allclose(l2, plain, atol=1e-6)  # Adam divides the decay away


def test_gradient_descent_converges_below_two_over_the_curvature_and_not_above():
    problem = valley(condition=25)
    assert descend(problem, partial(sgd, lr=1.99 / 25), 400).values[-1] < 1e-2
    above = descend(problem, partial(sgd, lr=2.01 / 25), 5000)
    assert above.diverged_at is not None


def test_divergence_is_reported_and_the_path_stays_finite():
    path = descend(rosenbrock(), partial(sgd, lr=1.0), 50)
    assert path.diverged_at is not None
    assert np.isfinite(path.points).all()
    assert len(path.points) == len(path.values) == 51
    np.testing.assert_array_equal(
        path.points[path.diverged_at :], path.points[[-1]].repeat(51 - path.diverged_at, axis=0)
    )


def test_muon_goes_down_the_matrix_problem():
    path = descend(matrix_problem(), partial(muon, lr=0.05, weight_decay=0.0), 200)
    assert path.values[-1] < 1e-3 * path.values[0]


def test_invalid_starts_and_steps_are_refused():
    with pytest.raises(ValueError, match=r"start of shape \(2,\)"):
        descend(rosenbrock(), partial(sgd, lr=0.1), 3, start=np.zeros(3))
    with pytest.raises(ValueError, match="steps >= 0"):
        descend(rosenbrock(), partial(sgd, lr=0.1), -1)
