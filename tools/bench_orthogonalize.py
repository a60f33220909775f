"""Compare ways to orthogonalize, by count and by time: ``python tools/bench_orthogonalize.py``.

The first tables are this machine's: how fast matrix products and copies are. Then, for stacks of
each shape, every way takes turns with the others on the same matrices; its FLOPs per second are
those that it needs, and the roof is what the machine could do at its FLOPs per byte.
"""

import argparse
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from benchmarks import TORCH_ITERATION, orthogonalizations
from torch import Tensor

from muon_lab.orthogonalize import (
    fast_dtype,
    newton_schulz,
    newton_schulz_gram,
    newton_schulz_turbo,
    polar_factor,
)
from muon_lab.roofline import (
    COSTS,
    Machine,
    draw_roofline,
    matmul_rates,
    measure_machine,
    svd_flops,
)
from muon_lab.runs.record import write_atomically
from muon_lab.runs.tables import table
from muon_lab.training.costs import interleave
from muon_lab.training.provenance import environment, processor

LOOP, COMPILED, SVD = "standard, one by one", "standard, compiled", "SVD"
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
SIZES = (128, 512, 1024)
STACKS = ((8, 128, 512), (16, 128, 128), (1, 768, 768), (1, 768, 3072))
SVD_NUMBERS = 2**20  # in a stack; the SVD of a larger one takes longer than all the rest together


def ways(stack: Tensor, compiled: bool) -> dict[str, Callable[[], object]]:
    """Return each way to orthogonalize a stack (k, m, n), by name; SVD for small stacks only."""
    dtype = fast_dtype(stack.device)
    standard = partial(newton_schulz, dtype=dtype)
    found = {
        TORCH_ITERATION: orthogonalizations(stack.unbind())[TORCH_ITERATION],
        LOOP: lambda: [standard(matrix) for matrix in stack],
        "standard": lambda: standard(stack),
    }
    if compiled:
        found[COMPILED] = partial(torch.compile(standard), stack)
    found |= {
        "Gram form": lambda: newton_schulz_gram(stack, dtype=dtype),
        "Gram form, one restart": lambda: newton_schulz_gram(stack, restart_after=3, dtype=dtype),
        "cubic5": lambda: newton_schulz(stack, "cubic5", dtype=dtype),
        "Turbo-Muon": lambda: newton_schulz_turbo(stack, dtype=dtype),
    }
    if stack.numel() <= SVD_NUMBERS:
        found[SVD] = lambda: polar_factor(stack)
    return found


def flops(name: str, rows: int, columns: int, *, symmetric: bool = False) -> int:
    """Return the FLOPs of a way, for one matrix."""
    if name == SVD:
        return svd_flops(rows, columns)
    return COSTS.get(name, COSTS["standard"]).flops(rows, columns, symmetric=symmetric)


@dataclass(frozen=True)
class Timing:
    """The seconds of each round (rounds,) for each way, on a stack (k, m, n)."""

    stack: tuple[int, int, int]
    seconds: dict[str, list[float]]
    machine: Machine

    def speed(self, name: str) -> float:
        """Return a way's FLOPs per second, by its median time."""
        count, *shape = self.stack
        return count * flops(name, *shape) / statistics.median(self.seconds[name])

    def points(self) -> dict[str, tuple[float, float]]:
        """Return (FLOPs per byte, FLOPs per second) of each way whose products are counted."""
        _, rows, columns = self.stack
        return {
            f"{name}, {rows} × {columns}": (cost.intensity(rows, columns), self.speed(name))
            for name, cost in COSTS.items()
        }

    def __str__(self) -> str:
        """Format the table; counts and times are multiples of the standard form's."""
        count, *shape = self.stack
        one, base = flops("standard", *shape), statistics.median(self.seconds["standard"])
        rows = [
            [f"{count} of {shape[0]}×{shape[1]}", "FLOPs", "symmetric", "time", "GFLOP/s", "roof"]
        ]
        for name, taken in self.seconds.items():
            counts = [flops(name, *shape, symmetric=half) / one for half in (False, True)]
            cost = COSTS.get(name, COSTS["standard"])
            share = self.speed(name) / self.machine.roof(cost.intensity(*shape))
            times = statistics.median(taken) / base
            row = [f"{part:.2f}" for part in (*counts, times)]
            rows.append([name, *row, f"{self.speed(name) / 1e9:.0f}", f"{share:.0%}"])
        return table(rows)

    def record(self) -> dict[str, Any]:
        """Return what a JSON file keeps of it."""
        medians = {name: statistics.median(taken) for name, taken in self.seconds.items()}
        rounds = len(self.seconds["standard"])
        return {"stack": self.stack, "rounds": rounds, "median_seconds": medians, "text": str(self)}


def rate_table(rates: dict[tuple[str, int], float], machine: Machine) -> str:
    """Tabulate the machine's own rates."""
    sizes = sorted({size for _, size in rates})
    rows = [["product, GFLOP/s", *(f"{size}" for size in sizes)]]
    for dtype in dict.fromkeys(name for name, _ in rates):
        rows.append([dtype, *(f"{rates[dtype, size] / 1e9:.0f}" for size in sizes)])
    return (
        f"{table(rows)}\ncopy: {machine.bytes_per_second / 1e9:.1f} GB/s read and written, "
        f"a call: {1e6 * machine.call_seconds:.1f} µs"
    )


def measure(options: argparse.Namespace) -> tuple[Machine, str, list[Timing]]:
    """Measure the machine and then every stack."""
    dtype = fast_dtype(torch.device(options.device))
    machine = measure_machine(dtype=dtype, device=options.device, seconds=options.seconds / 4)
    rates = matmul_rates(options.sizes, DTYPES, options.device, options.seconds)
    name = str(dtype).removeprefix("torch.")
    peak = max([machine.flops_per_second, *(rates[name, size] for size in options.sizes)])
    machine = Machine(machine.call_seconds, machine.bytes_per_second, peak)
    text = rate_table(rates, machine)
    print(text, end="\n\n", flush=True)
    timings = []
    for shape in options.stacks:
        stack = torch.randn(shape, device=options.device)
        seconds = interleave(ways(stack, options.compiled), options.seconds, options.device)
        timings.append(Timing(tuple(shape), seconds, machine))
        print(timings[-1], end="\n\n", flush=True)
    return machine, text, timings


def stack_of(text: str) -> tuple[int, int, int]:
    """Read a stack's shape.

    >>> stack_of("8x128x512")
    (8, 128, 512)
    """
    count, rows, columns = map(int, text.split("x"))
    return count, rows, columns


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=8.0, help="per table")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="of the products")
    parser.add_argument("--stacks", nargs="+", type=stack_of, default=STACKS, help="8x128x512 ...")
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile")
    parser.add_argument("--plot", type=Path, help="PNG file for the roofline")
    parser.add_argument("--json", type=Path, help="file to record the medians in")
    options = parser.parse_args(arguments)
    if options.compiled and not shutil.which("cc"):
        parser.error("--compiled needs a C compiler; install one, or leave the option out")
    torch.manual_seed(0)
    machine, text, timings = measure(options)
    print("symmetric: one triangle of each symmetric product; a count, torch has none on the CPU")
    if options.plot:
        fig, ax = plt.subplots(figsize=(9, 5), layout="constrained")
        draw_roofline(machine, {k: v for timing in timings for k, v in timing.points().items()}, ax)
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(options.plot)
    if options.json:
        about = environment() | {"torch": torch.__version__, "processor": processor()}
        about |= {"threads": torch.get_num_threads(), "machine": vars(machine), "rates": text}
        about |= {"tables": [timing.record() for timing in timings]}
        with write_atomically(options.json) as file:
            file.write(json.dumps(about, indent=1, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    main()
