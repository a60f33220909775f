"""Turn a matrix into the nearest orthogonal one: exactly by SVD, or fast by matrix products alone.

G = U S Vᵀ has the polar factor U Vᵀ: the same directions, every stretch set to 1. Newton-Schulz
comes close to it with matrix products. Every function takes NumPy arrays and torch tensors of shape
(..., m, n), never writes to its argument, and returns an array of the same shape and dtype.
"""

import math
from functools import partial
from typing import TypeVar

import numpy as np

from muon_lab.polynomials import AnySchedule, as_schedule, check_steps, resolve

ALONE = 2**19  # numbers of a matrix that a CPU does not step in a stack
Matrix = TypeVar("Matrix")  # a NumPy array or a torch tensor; what goes in comes out


def polar_factor(matrix: Matrix) -> Matrix:
    """Return U Vᵀ of the SVD: the orthogonal (or semi-orthogonal) matrix nearest to ``matrix``.

    A singular value of zero leaves its direction undetermined, so that direction is dropped: a zero
    matrix stays zero. Raises as `newton_schulz` does, and ValueError for NaN or infinity.

    >>> polar_factor(np.array([[3.0, 0.0], [0.0, 0.5]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    xp = _array_module(matrix)
    if not xp.isfinite(matrix).all():  # NumPy's SVD never returns from an infinity
        raise ValueError("expected finite entries; a matrix with NaN or Inf has no polar factor")
    U, S, Vh = xp.linalg.svd(_at_least_single(matrix), full_matrices=False)
    precision = xp.finfo(S.dtype).eps * max(matrix.shape[-2:])
    kept = precision * S[..., :1] < S  # (..., r): what is smaller is rounding error
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
    the schedule's ``norm_factor``), or by ``eps`` where the norm is smaller, so that a matrix that
    is almost zero stays small; ``eps=0`` serves any scale. A tall matrix is transposed first, since
    the Gram matrix of its shorter side is smaller. ``dtype`` is that of the products and the
    result, by default the matrix's own.

    Raises TypeError for anything but an array of real floats, or a ``dtype`` that is no float;
    ValueError for fewer than two dimensions, an empty matrix or a negative ``eps``.
    Source: kellerjordan.github.io/posts/muon.

    >>> square = newton_schulz(np.array([[3.0, 0.0], [0.0, 0.5]]), "convergent", steps=12)
    >>> np.abs(square - np.eye(2)).max() < 1e-12
    np.True_
    """
    coefficients = resolve(schedule, steps)
    x, tall = _normalised(matrix, eps, as_schedule(schedule).norm_factor, dtype)
    for a, b, c in coefficients:
        gram = _gram(x)  # A = XXᵀ, (..., m, m), m <= n
        inner = _symmetric_product(gram, gram, times=c, plus=(b, gram))  # bA + cA²
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
    """Do `newton_schulz` on the small Gram matrix; multiply by the large matrix only at restarts.

    Each step is X ← Z X with Z = aI + bR + cR² and R = X Xᵀ. It is enough to update the product Q
    of all Z, and R ← Z R Z, and to compute Q X once at the end. In low precision R and Q drift
    apart; computing R from X again after every ``restart_after`` steps (None: never) prevents it.
    Five steps on an m by αm matrix then take (12α + 22)m³ FLOPs, with one restart (8α + 28)m³, and
    `newton_schulz` (20α + 10)m³. Raises as `newton_schulz` does.
    """
    coefficients = resolve(schedule, steps)
    x, tall = _normalised(matrix, eps, as_schedule(schedule).norm_factor, dtype)
    length = len(coefficients)
    if restart_after is not None:
        length = check_steps(restart_after, "restart_after")
    for start in range(0, len(coefficients), length):
        gram = _gram(x)
        x = _gram_product(gram, coefficients[start : start + length]) @ x
    return x.mT if tall else x


def newton_schulz_turbo(matrix: Matrix, *, dtype=None) -> Matrix:
    """Orthogonalize in four steps, not five, from rows that are scaled one by one: Turbo-Muon.

    With A = X Xᵀ, each row of X is divided by the root of its sum over |A|. No singular value is
    then above 1 (the matrix of those sums minus A is diagonally dominant), and they are closer to 1
    than after division by the norm. The first step needs A anyway. The table is that of ``you``
    without its first step, and belongs to this scaling. The result approximates the polar factor of
    the scaled matrix, which is near that of ``matrix``, not equal to it. Raises as `newton_schulz`.

    Source: arXiv 2512.04632, with the coefficients of its repository thib-s/flash-newton-schulz.
    """
    x, tall = _normalised(matrix, 0.0, 1.0, dtype)
    gram = _gram(x)
    sums = abs(gram).sum(-1)[..., None]  # (..., m, 1)
    scale = (sums + (sums == 0)) ** -0.5
    x, gram = scale * x, scale * gram * scale.mT
    for step, (a, b, c) in enumerate(resolve("you")[1:]):
        gram = _gram(x) if step else gram
        inner = _symmetric_product(gram, gram, times=c, plus=(b, gram))
        x = _product(inner, x, plus=(a, x))
    return x.mT if tall else x


def newton_schulz_fast(
    stack: Matrix,
    schedule: AnySchedule = "jordan",
    steps: int | None = None,
    eps: float = 1e-7,
    dtype=None,
) -> Matrix:
    """Do `newton_schulz` on a torch stack (k, m, n) in the way that is fastest on its device.

    The Gram form where one side is more than 1.5 times the other, since it then needs fewer
    products; but not for steps steeper than 5 at zero, which it does not survive in bfloat16. One
    restart in five steps is enough for Jordan's triple, not for `you` or for longer tables. Large
    matrices on a CPU one by one, for which it has faster products than for stacks. The result is in
    ``dtype``; None means bfloat16, or float32 where the device only emulates that.
    """
    xp = _array_module(stack)
    if xp is np:
        raise TypeError("newton_schulz_fast takes a torch tensor; use newton_schulz for NumPy")
    short, long = min(stack.shape[-2:]), max(stack.shape[-2:])
    coefficients = resolve(schedule, steps)
    form = newton_schulz
    if long > 1.5 * short and max(a for a, _, _ in coefficients) <= 5:
        growth = math.prod(a for a, _, _ in coefficients[:3])  # of what rounding leaves near zero
        length = 3 if len(coefficients) <= 5 and growth < 45 else 2
        form = partial(newton_schulz_gram, restart_after=length)
    dtype = dtype or fast_dtype(stack.device)
    if stack.device.type == "cpu" and short * long > ALONE:
        alone = [form(matrix, schedule, steps, eps, dtype=dtype) for matrix in stack]
        return xp.stack(alone) if len(alone) > 1 else alone[0][None]  # a stack would copy it
    return form(stack, schedule, steps, eps, dtype=dtype)


def fast_dtype(device):
    """Return torch.bfloat16, or torch.float32 for a device that has no bfloat16 of its own."""
    import torch

    native = {
        "cpu": torch.cpu._is_avx512_bf16_supported,
        "cuda": lambda: torch.cuda.get_device_capability(device) >= (8, 0),
    }
    return torch.bfloat16 if native.get(device.type, lambda: True)() else torch.float32


def _gram_product(gram, coefficients):
    """Return the Q (..., m, m) for which Q X is the result of the steps, from R = X Xᵀ.

    Every matrix here is a polynomial in R: all are symmetric, and any two commute.
    """
    product = None
    for step, (a, b, c) in enumerate(coefficients):
        inner = _symmetric_product(gram, gram, times=c, plus=(b, gram))  # Z = aI + inner
        if product is None:
            product = _plus_identity(inner, a)
        else:
            product = _symmetric_product(inner, product, plus=(a, product))  # ZQ
        if step < len(coefficients) - 1:
            half = _symmetric_product(inner, gram, plus=(a, gram))  # ZR
            gram = _symmetric_product(half, inner, plus=(a, half))  # ZRZ
    return product


def _gram(x):
    """Return X Xᵀ."""
    symmetric = _symmetric(x)
    return symmetric.symmetric_product(x, x) if symmetric else x @ x.mT


def _symmetric_product(left, right, *, plus, times=1.0):
    """Do `_product` for symmetric matrices that commute: the result is symmetric, too."""
    symmetric = _symmetric(left)
    if symmetric:
        return symmetric.symmetric_product(left, right, plus, times)
    return _product(left, right, times=times, plus=plus)


def _symmetric(x):
    """Return the module `symmetric`, of torch alone, if it is faster than a product with ``x``."""
    if isinstance(x, np.ndarray) or x.requires_grad:
        return None
    from muon_lab import symmetric

    return symmetric if symmetric.pays(x) else None


def _product(left, right, *, plus, times=1.0):
    """Return times·(left @ right) + factor·addend, for ``plus=(factor, addend)``.

    In torch the sum is part of the product: one pass over memory, and one rounding.
    """
    factor, addend = plus
    if times == 0:  # torch 2.13's bfloat16 baddbmm computes alpha=0 wrongly
        return factor * addend
    if isinstance(left, np.ndarray) or left.ndim > 3:
        return times * (left @ right) + factor * addend
    multiply = addend.addmm if left.ndim == 2 else addend.baddbmm
    return multiply(left, right, beta=factor, alpha=times)


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
    if isinstance(eps, str) or not eps >= 0:
        raise ValueError(f"eps must be a number of at least 0, for example 1e-7; got {eps!r}")
    norm = _norm(matrix, xp)
    x = matrix / (norm_factor * (norm + (norm == 0)).clip(min=eps))
    if dtype is None:
        dtype = matrix.dtype
    elif not _is_float(xp, dtype):
        raise TypeError(f"dtype must be a float type of {xp.__name__}, or None; got {dtype!r}")
    x = x.astype(dtype) if xp is np else x.to(dtype)
    tall = matrix.shape[-2] > matrix.shape[-1]
    return (x.mT if tall else x), tall


def _norm(matrix, xp):
    """Return Frobenius norms (..., 1, 1); in float32 alone the square of 1e30 would overflow."""
    if xp is np:
        return np.linalg.norm(matrix.astype(np.float64), axis=(-2, -1), keepdims=True)
    dtype = xp.promote_types(matrix.dtype, xp.float32)
    if matrix.is_cuda:
        norm = xp.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True, dtype=xp.float64)
        return norm.to(dtype)
    x = matrix.to(dtype)  # on a CPU float64 would be a slow copy, and MPS has none
    largest = xp.maximum(x.amax((-2, -1), keepdim=True), -x.amin((-2, -1), keepdim=True))
    largest = largest + (largest == 0)
    rows = xp.linalg.vector_norm(x / largest, dim=-1, keepdim=True)
    return largest * xp.linalg.vector_norm(rows, dim=-2, keepdim=True)


def _array_module(matrix):
    """Return the module, numpy or torch, that ``matrix`` belongs to; refuse all but real floats."""
    if isinstance(matrix, np.ndarray):
        xp = np
    else:
        import torch as xp  # here, so that the NumPy lessons never load it

        if not isinstance(matrix, xp.Tensor):
            kind = type(matrix).__name__
            raise TypeError(f"expected a NumPy array or a torch tensor; got {kind}")
    if not _is_float(xp, matrix.dtype):
        raise TypeError(f"expected real floats; got dtype {matrix.dtype}. Convert it first")
    shape = tuple(matrix.shape)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"expected a matrix or a stack of them, shape (..., m, n), not empty; got {shape}"
        )
    return xp


def _is_float(xp, dtype):
    """Tell whether ``dtype`` is a real floating-point type of this library."""
    if xp is np:
        return isinstance(dtype, type | np.dtype) and np.issubdtype(dtype, np.floating)
    return isinstance(dtype, xp.dtype) and dtype.is_floating_point


def _plus_identity(square, factor):
    """Return factor·I + square; torch adds in place, so that ``factor`` itself is not rounded."""
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
    """Return half precision as float32, since neither library has an SVD for it."""
    if isinstance(matrix, np.ndarray):
        return matrix.astype(np.float32) if matrix.dtype.itemsize < 4 else matrix
    return matrix.float() if matrix.dtype.itemsize < 4 else matrix
