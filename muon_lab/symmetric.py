"""Products whose result is symmetric: one triangle is computed, and the other copied from it.

Two of the three products in a step of Newton-Schulz are such, and in its Gram form nearly all. On a
CPU this goes by bands of columns, each computed from the diagonal down. On Hopper GPUs there is a
kernel, which also adds the multiple of a third matrix without copying it first.
"""

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
except ImportError:  # as with torch's build for CPUs
    triton = None

CPU_ROWS = 512  # rows of a matrix on a CPU: bands of a smaller one take as long as the whole
BAND = 192  # columns of a band
TILE, DEPTH = 128, 64  # rows and columns of a kernel's tile; how much of a sum it loads at once
SMALLEST = 768, 2**22  # the kernel's rows, and numbers in all results: below, it is not faster

if triton is not None:

    @triton.jit
    def _triangle(
        left, rows, addend, out, m, n, times, factor,
        left_0, left_1, left_2, rows_0, rows_1, rows_2, addend_0, addend_1, addend_2,
        adds: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr,
    ):  # fmt: skip
        number, matrix = tl.program_id(0), tl.program_id(1).to(tl.int64)
        # Tiles (0, 0), (1, 0), (1, 1), (2, 0), ... are numbered from 0; the root may be rounded.
        row = ((tl.sqrt(8.0 * number + 1.0) - 1.0) / 2.0).to(tl.int32)
        row = tl.where(row * (row + 1) // 2 > number, row - 1, row)
        row = tl.where((row + 1) * (row + 2) // 2 <= number, row + 1, row)
        column = number - row * (row + 1) // 2
        i = row * TILE + tl.arange(0, TILE)
        j = column * TILE + tl.arange(0, TILE)
        k = tl.arange(0, DEPTH)
        left += matrix * left_0 + (i % m)[:, None] * left_1 + k[None, :] * left_2
        rows += matrix * rows_0 + (j % m)[None, :] * rows_1 + k[:, None] * rows_2
        total = tl.zeros((TILE, TILE), tl.float32)
        for start in range(0, n, DEPTH):
            within = start + k < n
            x = tl.load(left, mask=within[None, :], other=0.0)
            y = tl.load(rows, mask=within[:, None], other=0.0)
            total = tl.dot(x, y, total)
            left += DEPTH * left_2
            rows += DEPTH * rows_2
        total *= times
        within = (i < m)[:, None] & (j < m)[None, :]
        if adds:
            addend += matrix * addend_0 + i[:, None] * addend_1 + j[None, :] * addend_2
            total += factor * tl.load(addend, mask=within, other=0.0).to(tl.float32)
        result = total.to(out.dtype.element_ty)
        out += matrix * m * m
        tl.store(out + i[:, None] * m + j[None, :], result, mask=within)
        if row != column:
            tl.store(out + j[:, None] * m + i[None, :], tl.trans(result), mask=tl.trans(within))


def pays(x: Tensor) -> bool:
    """Tell whether `symmetric_product` takes ``x`` (..., m, n), and is faster than torch's own."""
    rows, numbers = SMALLEST
    m, n = x.shape[-2:]
    if x.device.type == "cpu":
        return x.ndim == 2 and m >= CPU_ROWS
    fits = m >= rows and x.numel() // n * m >= numbers and m * n < 2**31
    return fits and x.dtype == torch.bfloat16 and x.is_cuda and _runs_on(x.device)


@torch.compiler.assume_constant_result
def _runs_on(device: torch.device) -> bool:
    """Tell whether a device is of the kind on which the kernel was tried."""
    return (
        triton is not None
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(device)[0] == 9
    )


Plus = tuple[float, Tensor] | None  # a factor, and the matrices that it multiplies


def symmetric_product(left: Tensor, rows: Tensor, plus: Plus = None, times: float = 1.0) -> Tensor:
    """Return times · left rowsᵀ + factor · addend, for ``plus=(factor, addend)``, if symmetric.

    That it is symmetric, the caller knows: ``rows`` is ``left``, or both are symmetric and commute.
    ``left`` and ``rows`` are (m, n) on a CPU, or bfloat16 (..., m, n) on a Hopper GPU.

    >>> x = torch.ones(800, 2)
    >>> symmetric_product(x, x, plus=(0.5, torch.ones(800, 800))).unique()
    tensor([2.5000])
    """
    if plus and times == 0:
        return plus[0] * plus[1]
    if left.device.type != "cpu":
        return _by_tiles(left, rows, plus, times)
    return _by_bands(left, rows, plus, times)


def _by_bands(left: Tensor, rows: Tensor, plus: Plus, times: float) -> Tensor:
    """Compute each band from the diagonal down, and mirror it into the rows to the right."""
    m, factor = len(left), plus[0] if plus else 0.0  # a factor of 0 overwrites
    out = plus[1].clone() if plus else left.new_empty(m, m)
    for start in range(0, m, BAND):
        end = min(start + BAND, m)
        out[start:, start:end].addmm_(left[start:], rows[start:end].mT, beta=factor, alpha=times)
        out[start:end, end:] = out[end:, start:end].mT
    return out


def _by_tiles(left: Tensor, rows: Tensor, plus: Plus, times: float) -> Tensor:
    """Sum in float32, and round once."""
    shape, (m, n) = left.shape[:-1] + left.shape[-2:-1], left.shape[-2:]
    left, rows = (x.reshape(-1, m, n).contiguous() for x in (left, rows))
    out = left.new_empty(left.shape[0], m, m)
    factor, addend = (0.0, out) if plus is None else (plus[0], plus[1].reshape(-1, m, m))
    side = -(-m // TILE)  # tiles
    _triangle[(side * (side + 1) // 2, left.shape[0])](
        left, rows, addend, out, m, n, times, factor,
        *left.stride(), *rows.stride(), *addend.stride(),
        adds=plus is not None, TILE=TILE, DEPTH=DEPTH, num_warps=8, num_stages=3,
    )  # fmt: skip
    return out.reshape(shape)
