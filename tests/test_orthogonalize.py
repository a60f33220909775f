"""Newton-Schulz acts on singular values alone, whatever the shape, the scale or the library."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muon_lab.orthogonalize import (
    newton_schulz,
    newton_schulz_fast,
    newton_schulz_gram,
    newton_schulz_turbo,
    orthogonality_error,
    polar_factor,
)
from muon_lab.polynomials import SCHEDULES, apply_schedule

BOTH = pytest.mark.parametrize("iteration", [newton_schulz, newton_schulz_gram])

shapes = st.tuples(st.sampled_from([(), (3,), (2, 2)]), st.integers(1, 9), st.integers(1, 9)).map(
    lambda parts: (*parts[0], parts[1], parts[2])
)


def gaussian(shape, seed=0):
    """Return a Gaussian array of ``shape``."""
    return np.random.default_rng(seed).normal(size=shape)


def by_svd(matrix, schedule, steps=None):
    """Return U p(S / norm) Vᵀ, computed the long way."""
    U, S, Vh = np.linalg.svd(matrix, full_matrices=False)
    factor = SCHEDULES[schedule].norm_factor if isinstance(schedule, str) else 1.0
    norm = factor * np.linalg.norm(S, axis=-1, keepdims=True)
    return (U * apply_schedule(S / norm, schedule, steps)[..., None, :]) @ Vh


@given(shapes, st.sampled_from(list(SCHEDULES)), st.integers(-30, 30), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_both_forms_equal_the_polynomial_of_the_singular_values(shape, name, exponent, seed):
    matrix = gaussian(shape, seed)
    wanted = by_svd(matrix, name)
    for iteration in (newton_schulz, newton_schulz_gram):
        got = iteration(matrix * 10.0**exponent, name, eps=0)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10)


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_rank_deficient_matrices_keep_their_rank(rows, columns, seed):
    rank = min(rows, columns) - 1
    matrix = gaussian((rows, rank), seed) @ gaussian((rank, columns), seed + 1)
    np.testing.assert_allclose(
        newton_schulz(matrix, "you"), by_svd(matrix, "you"), rtol=0, atol=1e-10
    )
    assert np.linalg.matrix_rank(newton_schulz(matrix, "you"), tol=1e-6) == rank


def test_condition_number_1e12():
    U, _ = np.linalg.qr(gaussian((12, 12)))
    V, _ = np.linalg.qr(gaussian((12, 12), 1))
    matrix = (U * np.geomspace(1, 1e-12, 12)) @ V.T
    np.testing.assert_allclose(
        newton_schulz(matrix, "jordan"), by_svd(matrix, "jordan"), rtol=0, atol=1e-10
    )
    assert orthogonality_error(polar_factor(matrix)) < 1e-12
    np.testing.assert_allclose(polar_factor(matrix), U @ V.T, rtol=0, atol=1e-3)


@BOTH
@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16), (3, 8, 24)])
def test_convergent_schedule_gives_an_orthogonal_matrix(iteration, shape):
    matrix = gaussian(shape)
    almost = iteration(matrix, "convergent", steps=25)
    assert orthogonality_error(almost) < 1e-5
    np.testing.assert_allclose(almost, polar_factor(matrix), rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("exponent", [-100, -40, 40, 100])  # 1e-30 ... 1e30
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaling_by_a_power_of_two_changes_not_a_bit(iteration, exponent, dtype):
    matrix = torch.tensor(gaussian((8, 20))).to(dtype)
    scaled = iteration(matrix * 2.0**exponent, eps=0)
    assert torch.equal(scaled, iteration(matrix, eps=0))
    assert torch.isfinite(scaled).all()


@BOTH
def test_numpy_and_torch_agree(iteration):
    matrix = gaussian((4, 7, 5))
    np.testing.assert_allclose(
        iteration(torch.tensor(matrix)).numpy(), iteration(matrix), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(
        polar_factor(torch.tensor(matrix)), torch.tensor(polar_factor(matrix))
    )


def test_eps_takes_the_norms_place_where_the_norm_is_smaller():
    matrix = gaussian((4, 6))
    matrix /= np.linalg.norm(matrix)
    small = newton_schulz(0.05 * matrix, "cubic", 1, eps=0.1)
    np.testing.assert_allclose(small, by_svd_at(0.5, matrix), rtol=0, atol=1e-12)
    large = newton_schulz(0.2 * matrix, "cubic", 1, eps=0.1)
    np.testing.assert_allclose(large, by_svd_at(1.0, matrix), rtol=0, atol=1e-12)


def by_svd_at(norm, unit):
    """Return one cubic step on ``unit`` (of norm 1) scaled to ``norm``."""
    U, S, Vh = np.linalg.svd(unit, full_matrices=False)
    return (U * apply_schedule(norm * S, "cubic", 1)) @ Vh


@pytest.mark.parametrize("eps", [1e-7, 0.0])
@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_zero_stays_zero(make, eps):
    zero = make((3, 5))
    for result in (newton_schulz(zero, eps=eps), newton_schulz_gram(zero, eps=eps)):
        assert float(abs(result).max()) == 0.0
    assert float(abs(polar_factor(zero)).max()) == 0.0


@given(shapes, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_polar_factor_is_orthogonal_and_nearest(shape, seed):
    matrix = gaussian(shape, seed)
    factor = polar_factor(matrix)
    assert orthogonality_error(factor) < 1e-12
    # Where UVᵀ is the polar factor, its product with the matrix is symmetric and positive.
    stretch = factor.mT @ matrix if shape[-2] >= shape[-1] else matrix @ factor.mT
    np.testing.assert_allclose(stretch, stretch.mT, rtol=0, atol=1e-12)
    assert np.linalg.eigvalsh(stretch).min() > -1e-12


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("function", [polar_factor, newton_schulz, newton_schulz_gram])
def test_dtype_and_shape_are_kept_in_numpy(function, dtype):
    matrix = gaussian((2, 6, 3)).astype(dtype)
    result = function(matrix)
    assert (result.dtype, result.shape) == (matrix.dtype, matrix.shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("function", [polar_factor, newton_schulz, newton_schulz_gram])
def test_dtype_and_shape_are_kept_in_torch(function, dtype):
    matrix = torch.tensor(gaussian((2, 6, 3))).to(dtype)
    result = function(matrix)
    assert (result.dtype, result.shape) == (matrix.dtype, matrix.shape)


@pytest.mark.parametrize("function", [polar_factor, newton_schulz, newton_schulz_gram])
def test_nothing_writes_to_its_argument(function):
    matrix = gaussian((5, 3))
    tensor = torch.tensor(matrix)
    before = matrix.copy()
    function(matrix)
    function(tensor)
    np.testing.assert_array_equal(matrix, before)
    np.testing.assert_array_equal(tensor.numpy(), before)


def test_gram_form_needs_its_restart_in_bfloat16():
    U, _ = np.linalg.qr(gaussian((128, 128)))
    V, _ = np.linalg.qr(gaussian((512, 128), 1))
    matrix = torch.tensor((U * np.geomspace(1, 1e-6, 128)) @ V.T).bfloat16()
    mended = newton_schulz_gram(matrix, restart_after=2).float()
    broken = newton_schulz_gram(matrix, restart_after=None).float()
    assert torch.linalg.matrix_norm(mended, 2) < 1.5
    assert not torch.linalg.matrix_norm(broken, 2) < 1.5


@pytest.mark.parametrize("function", [polar_factor, newton_schulz, newton_schulz_gram])
@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (np.ones(3), ValueError, r"shape \(\.\.\., m, n\).*got \(3,\)"),
        (np.ones((0, 3)), ValueError, r"got \(0, 3\)"),
        (torch.ones(2, 3, 0), ValueError, r"got \(2, 3, 0\)"),
        (np.ones((2, 2), dtype=int), TypeError, "got dtype int64"),
        (torch.ones(2, 2, dtype=torch.complex64), TypeError, r"got dtype torch\.complex64"),
        ([[1.0]], TypeError, "got list"),
    ],
)
def test_what_is_no_real_matrix_is_refused(function, wrong, error, words):
    with pytest.raises(error, match=words):
        function(wrong)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_what_is_not_finite_has_no_polar_factor_and_stays_visible_in_the_iteration(make, bad):
    matrix = make([[1.0, 2.0, bad], [3.0, 4.0, 5.0]])
    with pytest.raises(ValueError, match="NaN or Inf"):
        polar_factor(matrix)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(np.asarray(newton_schulz(matrix))).any()


@pytest.mark.parametrize(
    ("restart", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)]
)
def test_a_restart_after_no_whole_number_of_steps_is_refused(restart, error):
    with pytest.raises(error, match="restart_after must be"):
        newton_schulz_gram(np.ones((2, 3)), restart_after=restart)


@pytest.mark.parametrize("function", [newton_schulz, newton_schulz_gram])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"eps": -1e-7}, ValueError),
        ({"eps": float("nan")}, ValueError),
        ({"eps": "1e-7"}, ValueError),
        ({"dtype": torch.int64}, TypeError),
        ({"dtype": np.int64}, TypeError),
        ({"dtype": "fast"}, TypeError),
        ({"steps": 2.5}, TypeError),
        ({"steps": 0}, ValueError),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(function, make, options, error):
    with pytest.raises(error, match=next(iter(options))):
        function(make(gaussian((2, 3))), **options)


def test_the_fast_form_refuses_numpy_and_vectors():
    with pytest.raises(TypeError, match="NumPy"):
        newton_schulz_fast(np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        newton_schulz_fast(torch.ones(3))


@BOTH
@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_another_dtype_can_be_asked_for(iteration, make):
    matrix, narrow = make(gaussian((4, 6))), make(gaussian((4, 6)).astype(np.float32))
    result = iteration(matrix, dtype=narrow.dtype)
    assert result.dtype == narrow.dtype
    np.testing.assert_allclose(result, iteration(matrix), rtol=0, atol=1e-5)


def test_orthogonality_error_is_the_largest_miss_of_the_gram_matrix():
    assert orthogonality_error(2 * np.eye(3)) == 3.0
    assert orthogonality_error(torch.eye(4)[:, :2]) == 0.0
    assert orthogonality_error(np.stack([np.eye(2), np.zeros((2, 2))])) == 1.0


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (3, 5, 9)])
def test_turbo_is_the_last_four_steps_of_you_on_scaled_rows(convert, shape):
    matrix = gaussian(shape)
    x = matrix.swapaxes(-1, -2) if shape == (20, 6) else matrix
    x = x / np.sqrt(np.abs(x @ x.swapaxes(-1, -2)).sum(-1, keepdims=True))
    U, S, Vh = np.linalg.svd(x, full_matrices=False)
    assert S.max() <= 1
    wanted = (U * apply_schedule(S, SCHEDULES["you"].coefficients[1:])[..., None, :]) @ Vh
    wanted = wanted.swapaxes(-1, -2) if shape == (20, 6) else wanted
    got = np.asarray(newton_schulz_turbo(convert(1e3 * matrix)))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_turbo_keeps_zero_rows_and_comes_near_the_polar_factor(convert):
    matrix = gaussian((8, 32))
    near = np.asarray(newton_schulz_turbo(convert(matrix)))
    assert np.abs(near - polar_factor(matrix)).max() < 0.05
    matrix[2] = 0.0
    assert not np.asarray(newton_schulz_turbo(convert(matrix)))[2].any()
    assert not np.asarray(newton_schulz_turbo(convert(0 * matrix))).any()
