"""Turn a matrix into the nearest orthogonal one: exactly by SVD, or fast by products alone.

G = U S Vᵀ has the polar factor U Vᵀ: the same directions, every stretch set to 1. Newton-Schulz
gets near it with matrix products. Every function takes NumPy arrays and torch tensors of shape
(..., m, n), never writes to its argument, and returns the argument's shape and dtype.
"""

from functools import cache
from typing import TypeVar

import numpy as np

from muon_lab.polynomials import AnySchedule, as_schedule, check_steps, resolve

Matrix = TypeVar("Matrix")  # a NumPy array or a torch tensor; what goes in comes out
PANEL = 192  # rows; symmetric products of twice as many are shared out (measured on a CPU)


def polar_factor(matrix: Matrix) -> Matrix:
    """Return U Vᵀ of the SVD: the orthogonal (or semi-orthogonal) matrix nearest to ``matrix``.

    A singular value of zero leaves its direction undetermined: it is dropped, so that a zero matrix
    stays zero. Raises as `newton_schulz` does, and ValueError for NaN or infinity.

    >>> polar_factor(np.array([[3.0, 0.0], [0.0, 0.5]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    xp = _array_module(matrix)
    if not xp.isfinite(matrix).all():  # NumPy's SVD would never return from an infinity
        raise ValueError("a matrix that holds NaN or infinity has no polar factor")
    U, S, Vh = xp.linalg.svd(_at_least_single(matrix), full_matrices=False)
    precision = xp.finfo(S.dtype).eps * max(matrix.shape[-2:])
    kept = precision * S[..., :1] < S  # (..., r): a direction that rounding made is none
    factor = (U * kept[..., None, :]) @ Vh
    return factor.astype(matrix.dtype) if xp is np else factor.to(matrix.dtype)


def newton_schulz(
    matrix: Matrix,
    schedule: AnySchedule = "jordan",
    steps: int | None = None,
    eps: float = 1e-7,
    *,
    dtype=None,
) -> Matrix:
    """Push every singular value towards 1: U S Vᵀ becomes U p(S/‖G‖) Vᵀ, without an SVD.

    ``schedule`` is a name of `polynomials.SCHEDULES`, one (a, b, c), or a sequence of them; for
    ``steps`` see `polynomials.resolve`. The matrix is first divided by its Frobenius norm (times
    the schedule's ``norm_factor``), or by ``eps`` where the norm is smaller, so that what is all
    but zero stays small; ``eps=0`` serves any scale. A tall matrix is worked on as its transpose,
    which has the smaller Gram matrix. ``dtype`` is that of the products and the result, by default
    the matrix's own.

    Raises TypeError for what is not an array of real floats, ValueError for fewer than two
    dimensions or an empty matrix. Source: kellerjordan.github.io/posts/muon.

    >>> square = newton_schulz(np.array([[3.0, 0.0], [0.0, 0.5]]), "convergent", steps=12)
    >>> np.abs(square - np.eye(2)).max() < 1e-12
    np.True_
    """
    coefficients = resolve(schedule, steps)
    x, tall = _normalised(matrix, eps, as_schedule(schedule).norm_factor, dtype)
    for a, b, c in coefficients:
        gram = _product(x, x.mT, symmetric=True)  # A = XXᵀ, (..., m, m), m <= n
        inner = _product(gram, gram, times=c, plus=(b, gram), symmetric=True)  # bA + cA²
        x = _product(inner, x, plus=(a, x))  # aX + (bA + cA²)X
    return x.mT if tall else x


def newton_schulz_gram(
    matrix: Matrix,
    schedule: AnySchedule = "jordan",
    steps: int | None = None,
    eps: float = 1e-7,
    restart_after: int | None = 2,
    *,
    dtype=None,
) -> Matrix:
    """Do `newton_schulz` on the small Gram matrix, touching the large one at restarts alone.

    Each step is X ← Z X with Z = aI + bR + cR², R = X Xᵀ. So Z's product Q and R ← Z R Z are kept,
    and X ← Q X is done once. In low precision R and Q drift apart; starting afresh from X after
    every ``restart_after`` steps (None: never) mends it. Five steps on an m by αm matrix then are
    (12α + 22)m³ FLOPs, with one restart (8α + 28)m³, against (20α + 10)m³. Raises as
    `newton_schulz` does.
    """
    coefficients = resolve(schedule, steps)
    x, tall = _normalised(matrix, eps, as_schedule(schedule).norm_factor, dtype)
    length = len(coefficients)
    if restart_after is not None:
        length = check_steps(restart_after, "restart_after")
    for start in range(0, len(coefficients), length):
        gram = _product(x, x.mT, symmetric=True)
        x = _product(_gram_product(gram, coefficients[start : start + length]), x)
    return x.mT if tall else x


def newton_schulz_fast(
    stack: Matrix,
    schedule: AnySchedule = "jordan",
    steps: int | None = None,
    eps: float = 1e-7,
    dtype=None,
) -> Matrix:
    """Do `newton_schulz` on torch matrices (k, m, n) in whatever way is fastest on their device.

    The Gram form where one side is over 1.5 times the other, since it has fewer products there;
    but not for steps steeper than 5 at zero, which in bfloat16 it does not survive. On a CPU,
    matrices large enough for panels go one by one: they fill its caches as it is. The result is
    in ``dtype``; None means bfloat16, or float32 where the device only imitates that.
    """
    short, long = sorted(stack.shape[-2:])
    steep = max(a for a, _, _ in resolve(schedule, steps)) > 5
    form = newton_schulz_gram if long > 1.5 * short and not steep else newton_schulz
    dtype = dtype or _fast_dtype(stack.device)
    if not _goes_by_panels(stack, short):
        return form(stack, schedule, steps, eps, dtype=dtype)
    whole = stack.new_empty(stack.shape, dtype=dtype)
    for matrix, result in zip(stack, whole, strict=True):
        result.copy_(form(matrix, schedule, steps, eps, dtype=dtype))
    return whole


def _goes_by_panels(tensor, size):
    return tensor.device.type == "cpu" and size >= 2 * PANEL


@cache
def _fast_dtype(device):
    """Return torch's bfloat16, or float32 where bfloat16 is slower: processors without it."""
    import torch

    native = {
        "cpu": torch.cpu._is_avx512_bf16_supported,
        "cuda": lambda: torch.cuda.get_device_capability(device) >= (8, 0),
    }
    return torch.bfloat16 if native.get(device.type, lambda: True)() else torch.float32


def _gram_product(gram, coefficients):
    """Return Q such that Q X is the steps applied to X, from R = X Xᵀ; both (..., m, m).

    Every matrix here is a polynomial in R, so each is symmetric and each two commute.
    """
    product = None
    for step, (a, b, c) in enumerate(coefficients):
        inner = _product(gram, gram, times=c, plus=(b, gram), symmetric=True)  # Z = aI + inner
        if product is None:
            product = _plus_identity(inner, a)
        else:
            product = _product(inner, product, plus=(a, product), symmetric=True)  # ZQ
        if step < len(coefficients) - 1:
            half = _product(inner, gram, plus=(a, gram), symmetric=True)  # ZR
            gram = _product(half, inner, plus=(a, half), symmetric=True)  # ZRZ
    return product


def _product(left, right, *, times=1.0, plus=(0.0, None), symmetric=False):
    """Return times·(left @ right) + factor·addend for ``plus=(factor, addend)``.

    In torch the sum is part of the product: one pass over memory, and one rounding. ``symmetric``
    promises a symmetric result.
    """
    factor, addend = plus
    if times == 0 and addend is not None:  # torch 2.13's bfloat16 baddbmm gets alpha=0 wrong
        return factor * addend
    if isinstance(left, np.ndarray) or left.ndim > 3:
        product = times * (left @ right)
        return product if addend is None else product + factor * addend
    if symmetric and left.ndim == 2 and _goes_by_panels(left, len(left)):
        return _product_by_panels(left, right, times, factor, addend)
    if addend is None:
        return left @ right
    multiply = addend.addmm if left.ndim == 2 else addend.baddbmm
    return multiply(left, right, beta=factor, alpha=times)


def _product_by_panels(left, right, times, factor, addend):
    """Return a symmetric `_product` from its upper triangle, in panels of rows, and the mirror.

    With k panels that is (k + 1)/2k of the multiplications.
    """
    whole = left.new_empty((*left.shape[:-1], right.shape[-1]))
    for low in range(0, whole.shape[-2], PANEL):
        rows, rest = slice(low, low + PANEL), slice(low, None)
        part = None if addend is None else addend[..., rows, rest]
        block = _product(left[..., rows, :], right[..., rest], times=times, plus=(factor, part))
        whole[..., rows, rest], whole[..., rest, rows] = block, block.mT
    return whole


def orthogonality_error(matrix: Matrix) -> float:
    """Return the largest entry of |X Xᵀ - I| over a stack, taken on the smaller side.

    Raises as `newton_schulz` does.

    >>> orthogonality_error(np.eye(3)[:2])
    0.0
    """
    _array_module(matrix)
    x = _at_least_single(matrix)
    x = x.mT if x.shape[-2] > x.shape[-1] else x
    return float(abs(x @ x.mT - _identity_like(x @ x.mT)).max())


def _normalised(matrix, eps, norm_factor, dtype=None):
    """Return the matrix over its norm, wide and in ``dtype``, and whether it was tall."""
    xp = _array_module(matrix)
    norm = _norm(matrix, xp)
    x = matrix / (norm_factor * (norm + (norm == 0)).clip(min=eps))
    x = x.astype(dtype or matrix.dtype) if xp is np else x.to(dtype or matrix.dtype)
    tall = matrix.shape[-2] > matrix.shape[-1]
    return (x.mT if tall else x), tall


def _norm(matrix, xp):
    """Return Frobenius norms (..., 1, 1), summed in double: squares of 1e30 overflow in single."""
    if xp is np:
        return np.linalg.norm(matrix.astype(np.float64), axis=(-2, -1), keepdims=True)
    wide = xp.float32 if matrix.device.type == "mps" else xp.float64  # MPS has no double
    norm = xp.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True, dtype=wide)
    return norm.to(xp.promote_types(matrix.dtype, xp.float32))


def _array_module(matrix):
    """Return numpy or torch, whichever made ``matrix``; raise for what is no real matrix."""
    if isinstance(matrix, np.ndarray):
        xp, real = np, np.issubdtype(matrix.dtype, np.floating)
    else:
        import torch as xp  # here, so that the NumPy lessons never load it

        if not isinstance(matrix, xp.Tensor):
            kind = type(matrix).__name__
            raise TypeError(f"wanted a NumPy array or a torch tensor, got a {kind}")
        real = matrix.is_floating_point()
    if not real:
        raise TypeError(
            f"wanted a matrix of real floats, got dtype {matrix.dtype}; convert it first"
        )
    shape = tuple(matrix.shape)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"wanted a matrix or a stack of them, shape (..., m, n) with no side empty; got {shape}"
        )
    return xp


def _plus_identity(square, factor):
    """Return factor·I + square, where torch rounds the sum alone and not the factor."""
    if isinstance(square, np.ndarray):
        return factor * _identity_like(square) + square
    square = square.clone()
    square.diagonal(dim1=-2, dim2=-1).add_(factor)
    return square


def _identity_like(square):
    """Return I with the size, dtype and device of ``square``."""
    if isinstance(square, np.ndarray):
        return np.eye(square.shape[-1], dtype=square.dtype)
    return square.new_ones(square.shape[-1]).diag()


def _at_least_single(matrix):
    """Return half precisions as float32: neither library has an SVD for them."""
    if isinstance(matrix, np.ndarray):
        return matrix.astype(np.float32) if matrix.dtype.itemsize < 4 else matrix
    return matrix.float() if matrix.dtype.itemsize < 4 else matrix
