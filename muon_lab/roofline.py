"""What orthogonalization costs by count, and what this machine can do: its roofline.

A matrix product takes as long as the slowest of three: starting it, moving its bytes, and its
arithmetic. `Cost` counts all three for each way to orthogonalize; `measure_machine` measures how
fast each of them goes here; `Machine.binds` says which one is the slowest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import torch
from matplotlib.axes import Axes

from muon_lab.plots import BLACK, COLOURS, GREY, spread
from muon_lab.training.costs import interleave


@dataclass(frozen=True)
class Cost:
    """The matrix products of one way to orthogonalize an (m, n) matrix, m <= n, by their kind.

    ``gram`` are products X Xᵀ, ``wide`` those of an (m, m) with an (m, n) matrix, 2m²n FLOPs each;
    ``square`` are those of two (m, m) matrices, 2m³. The results of ``gram`` and ``square`` are
    symmetric: a kernel that computes one triangle does half of their arithmetic.

    >>> STANDARD = Cost(gram=5, square=5, wide=5)  # five steps of three products
    >>> STANDARD.flops(128, 512) == (20 * 4 + 10) * 128**3
    True
    >>> STANDARD.flops(512, 128, symmetric=True) == (15 * 4 + 5) * 128**3
    True
    """

    gram: int
    square: int
    wide: int

    @property
    def products(self) -> int:
        """How many products there are: at least as many calls."""
        return self.gram + self.square + self.wide

    def flops(self, rows: int, columns: int, *, symmetric: bool = False) -> int:
        """Count multiplications and additions; ``symmetric`` counts one triangle where it may."""
        m, n = sorted((rows, columns))
        half = 1 if symmetric else 2
        return half * (self.gram * m * m * n + self.square * m**3) + 2 * self.wide * m * m * n

    def bytes(self, rows: int, columns: int, width: int = 2) -> int:
        """Count bytes if every product reads both factors and writes its result; width each."""
        m, n = sorted((rows, columns))
        return width * (
            self.gram * (m * n + m * m) + self.square * 3 * m * m + self.wide * (m * m + 2 * m * n)
        )

    def intensity(self, rows: int, columns: int, width: int = 2) -> float:
        """Return FLOPs per byte."""
        return self.flops(rows, columns) / self.bytes(rows, columns, width)


def gram_cost(steps: int = 5, restart_after: int | None = 2) -> Cost:
    """Return the cost of `newton_schulz_gram`: a chunk of L steps has 4L - 3 square products.

    >>> gram_cost(5, 3).flops(128, 512) == (8 * 4 + 28) * 128**3  # one restart
    True
    """
    length = restart_after or steps
    chunks = [min(length, steps - start) for start in range(0, steps, length)]
    return Cost(len(chunks), sum(4 * chunk - 3 for chunk in chunks), len(chunks))


COSTS: dict[str, Cost] = {
    "standard": Cost(gram=5, square=5, wide=5),
    "Gram form": gram_cost(),
    "Gram form, one restart": gram_cost(restart_after=3),
    "cubic5": Cost(gram=5, square=0, wide=5),
    "Turbo-Muon": Cost(gram=4, square=4, wide=4),
}


def svd_flops(rows: int, columns: int) -> int:
    """Estimate the FLOPs of the polar factor by SVD: 6m²n + 20m³, and 2m²n for U Vᵀ.

    Source: Golub and Van Loan, Matrix Computations (4th edition), section 8.6, R-SVD.
    """
    m, n = sorted((rows, columns))
    return 8 * m * m * n + 20 * m**3


@dataclass(frozen=True)
class Machine:
    """What was measured of a machine: seconds per call, bytes and FLOPs per second.

    >>> machine = Machine(call_seconds=1e-5, bytes_per_second=1e10, flops_per_second=1e12)
    >>> [machine.binds(15, 1e6, flops) for flops in (1e6, 1e9)]
    ['launches', 'arithmetic']
    """

    call_seconds: float
    bytes_per_second: float
    flops_per_second: float

    def seconds(self, calls: float, bytes_: float, flops: float) -> dict[str, float]:
        """Return the seconds that each of the three would take alone."""
        return {
            "launches": calls * self.call_seconds,
            "bytes": bytes_ / self.bytes_per_second,
            "arithmetic": flops / self.flops_per_second,
        }

    def binds(self, calls: float, bytes_: float, flops: float) -> str:
        """Name the one that takes longest."""
        times = self.seconds(calls, bytes_, flops)
        return max(times, key=times.__getitem__)

    def roof(self, intensity: float) -> float:
        """Return the most FLOPs per second at this many FLOPs per byte."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)


def measure_machine(
    size: int = 512, dtype: torch.dtype = torch.bfloat16, device: str = "cpu", seconds: float = 1.0
) -> Machine:
    """Measure a product of (size, size) matrices, a copy of 32 MB, and a product of 1 × 1."""
    square = torch.randn(size, size, device=device).to(dtype)
    result = torch.empty_like(square)
    one = torch.ones(1, 1, device=device, dtype=dtype)
    source = torch.zeros(2**25, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    runs = {
        "call": lambda: [torch.addmm(one, one, one) for _ in range(100)],
        "copy": lambda: target.copy_(source),
        "product": lambda: torch.mm(square, square, out=result),
    }
    best = {name: min(times) for name, times in interleave(runs, seconds, device).items()}
    return Machine(best["call"] / 100, 2 * 2**25 / best["copy"], 2 * size**3 / best["product"])


def matmul_rates(
    sizes: Sequence[int], dtypes: Sequence[torch.dtype], device: str = "cpu", seconds: float = 3.0
) -> dict[tuple[str, int], float]:
    """Return the FLOPs per second of products of square matrices, by dtype's name and size."""
    runs, names = {}, {}
    for dtype in dtypes:
        for size in sizes:
            square = torch.randn(size, size, device=device).to(dtype)
            name = str(dtype).removeprefix("torch."), size
            names[str(name)] = name
            runs[str(name)] = lambda x=square: x @ x
    times = interleave(runs, seconds, device)
    return {name: 2 * name[1] ** 3 / min(times[key]) for key, name in names.items()}


def draw_roofline(machine: Machine, points: Mapping[str, tuple[float, float]], ax: Axes) -> Axes:
    """Draw the roof, and a named point (FLOPs per byte, FLOPs per second) for each way.

    Names stand to the right and to the left of their points, in turns.
    """
    ridge = machine.flops_per_second / machine.bytes_per_second
    most = 6 * max([ridge, *(intensity for intensity, _ in points.values())])
    ends = [0.1, ridge, most]
    ax.plot(ends, [machine.roof(x) for x in ends], color=BLACK, linewidth=1.5)
    ax.axvline(ridge, color=GREY, linewidth=0.8, linestyle=":")
    ax.text(ridge / 1.2, machine.flops_per_second * 1.2, "bytes bind", color=GREY, ha="right")
    ax.text(ridge * 1.2, machine.flops_per_second * 1.2, "arithmetic binds", color=GREY)
    lowest = min([machine.roof(0.1), *(speed for _, speed in points.values())])
    low, high = lowest / 2, machine.flops_per_second * 3
    ax.set(ylim=(low, high), xscale="log", yscale="log")
    ax.set(xlabel="FLOPs per byte", ylabel="FLOPs per second")
    named = list(zip(points.items(), cycle(COLOURS), strict=False))
    for side, align in ((0, "left"), (1, "right")):
        depths = [np.log(high / y) / np.log(high / low) for (_, (_, y)), _ in named[side::2]]
        below = np.log(3) / np.log(high / low) + 0.04  # the roof
        placed = spread(depths, gap=0.05, low=below)
        for ((name, point), color), depth in zip(named[side::2], placed, strict=True):
            ax.plot(*point, "o", color=color, markersize=6)
            style = {"ha": align, "va": "center", "fontsize": 9, "color": color}
            ax.text(point[0] * (1.15, 0.87)[side], high * (low / high) ** depth, name, **style)
    return ax
