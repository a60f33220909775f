"""Compare the time of Muon's step with other optimizers': ``python tools/benchmarks.py``.

The contenders of a table take turns on the same gradients, so that other work of the machine slows
all of them. Times are medians over the rounds; their ratios depend less on the machine.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz  # it has no public name

from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.muon import Muon, split_parameters
from muon_lab.orthogonalize import newton_schulz, newton_schulz_fast
from muon_lab.polynomials import JORDAN
from muon_lab.roofline import COSTS
from muon_lab.runs.record import write_atomically
from muon_lab.training.config import TrainConfig
from muon_lab.training.costs import interleave, peak_flops
from muon_lab.training.provenance import environment

OURS, TORCH, LOOP = "muon_lab's Muon", "torch.optim.Muon", "Muon in a plain loop"
OUR_ITERATION, TORCH_ITERATION = "our Newton–Schulz", "torch's Newton–Schulz"
COMPILED = "muon_lab's, compiled"
ADAMW, TRAIN = "torch.optim.AdamW", "forward and backward"
BASELINE = {
    **dict.fromkeys((OURS, COMPILED, TORCH, LOOP), TORCH),
    **dict.fromkeys((OUR_ITERATION, TORCH_ITERATION), TORCH_ITERATION),
}
CASES = {
    "cpu": "The cpu preset",
    "gpu": "The gpu preset",
    "gpu-124m": "The gpu-124m preset, which is GPT-2 small",
}


@dataclass(frozen=True)
class Case:
    """A model, whose hidden matrices take the steps, and a batch to run through it."""

    title: str
    model: GPTConfig
    batch: int
    tokens: int  # per sequence

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the model's hidden matrices.

        >>> len(Case("GPT-2 small", GPTConfig(layers=12, width=768, heads=12), 1, 1).shapes())
        72
        """
        with torch.device("meta"):
            groups = split_parameters(GPT(self.model))
        return [tuple(p.shape) for group in groups if group["use_muon"] for p in group["params"]]

    def iteration_flops(self) -> int:
        """Count the FLOPs of five steps of Newton–Schulz in the standard form.

        The Gram form needs fewer and is charged the same, so that a higher speed is less time.

        >>> case = block(64)  # four matrices of 64×64, one of 256×64, one of 64×256
        >>> case.iteration_flops() == 5 * (4 * 6 * 64**3 + 2 * (4 * 4 + 2) * 64**3)
        True
        """
        return sum(COSTS["standard"].flops(*shape) for shape in self.shapes())


@dataclass(frozen=True)
class Timing:
    """Seconds of each round (rounds,) for each contender, in the order they ran."""

    case: Case
    device: str
    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Return the median seconds of a contender."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, to: str) -> float:
        """Return one contender's median time divided by another's."""
        return self.median(name) / self.median(to)

    def __str__(self) -> str:
        """Format the table."""
        shapes = ", ".join(
            f"{count} of {rows}×{columns}"
            for (rows, columns), count in Counter(self.case.shapes()).items()
        )
        lines = [
            f"{self.case.title}: {shapes}",
            f"on {self.device}, {len(self.seconds[OURS])} rounds, "
            f"forward and backward over {self.case.batch} × {self.case.tokens} tokens",
            f"{'':23}{'median':>12}{'vs. torch':>16}{'of fwd + bwd':>15}",
        ]
        for name in self.seconds:
            speed_up = f"{self.ratio(BASELINE[name], name):.2f} ×" if name in BASELINE else ""
            share = self.ratio(name, TRAIN)
            lines.append(f"{name:23}{1e3 * self.median(name):>9.1f} ms{speed_up:>16}{share:>15.1%}")
        return "\n".join([*lines, *self._rate_lines()])

    def _rate_lines(self) -> Iterator[str]:
        peak = peak_flops(self.device, "bfloat16")
        for name, rate in self.flops_per_second().items():
            of_peak = f", {rate / peak:.0%} of the chip's {peak / 1e12:.0f}" if peak else ""
            yield f"{name}: {rate / 1e12:.3g} TFLOP/s{of_peak}"

    def flops_per_second(self) -> dict[str, float]:
        """Return the speed of both iterations, whose FLOPs `Case.iteration_flops` counts."""
        flops = self.case.iteration_flops()
        return {name: flops / self.median(name) for name in (OUR_ITERATION, TORCH_ITERATION)}

    def record(self) -> dict[str, Any]:
        """Return what a JSON file keeps of it."""
        return {
            "title": self.case.title,
            "shapes": self.case.shapes(),
            "batch": self.case.batch,
            "tokens": self.case.tokens,
            "device": self.device,
            "rounds": len(self.seconds[OURS]),
            "median_seconds": {name: self.median(name) for name in self.seconds},
            "flops_per_second": self.flops_per_second(),
            "peak_flops_per_second": peak_flops(self.device, "bfloat16"),
            "text": str(self),
        }


def plain_loop(params: Sequence[Tensor]) -> Callable[[], object]:
    """Return a step of Muon that takes one matrix after another, in bfloat16."""
    buffers = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step():
        for p, buffer in zip(params, buffers, strict=True):
            buffer.lerp_(p.grad, 0.05)
            direction = p.grad.lerp(buffer, 0.95)
            p.mul_(1 - 1e-3 * 0.1)
            p.add_(newton_schulz(direction, dtype=torch.bfloat16), alpha=-1e-3)

    return step


def orthogonalizations(grads: Sequence[Tensor]) -> dict[str, Callable[[], object]]:
    """Return our iteration, on stacks of equal shape as in a step, and torch's."""
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for grad in grads:
        by_shape.setdefault(grad.shape, []).append(grad)
    stacks = [torch.stack(equal) for equal in by_shape.values()]
    return {
        OUR_ITERATION: lambda: [newton_schulz_fast(stack, "jordan") for stack in stacks],
        TORCH_ITERATION: lambda: [_zeropower_via_newtonschulz(g, JORDAN, 5, 1e-7) for g in grads],
    }


def measure(
    case: Case, seconds: float = 20.0, device: str = "cpu", *, compiled: bool = False
) -> Timing:
    """Time the contenders on one case; ``compiled`` adds our step under torch.compile."""
    generator = torch.Generator(device).manual_seed(0)
    shapes = case.shapes()
    grads = [torch.randn(shape, device=device, generator=generator) for shape in shapes]
    contenders: dict[str, Callable[[], object]] = {}
    optimizers = {OURS: Muon, TORCH: torch.optim.Muon, ADAMW: torch.optim.AdamW, COMPILED: Muon}
    for name in (OURS, *[COMPILED] * compiled, TORCH, LOOP, ADAMW):
        params = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad  # shared, because no contender writes to it
        is_loop = name == LOOP
        contenders[name] = plain_loop(params) if is_loop else optimizers[name](params, lr=1e-3).step
    if compiled:
        contenders[COMPILED] = torch.compile(contenders[COMPILED])
    contenders |= orthogonalizations(grads)
    contenders[TRAIN] = _forward_and_backward(case, device)
    device_name = torch.cuda.get_device_name(device) if "cuda" in device else _cpu()
    return Timing(case, device_name, interleave(contenders, seconds, device))


def _cpu() -> str:
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}"


def _forward_and_backward(case: Case, device: str) -> Callable[[], object]:
    """Return a training step without its optimizer, in bfloat16 on a GPU."""
    model = GPT(case.model).to(device)
    model.record_max_logits(False)
    tokens = torch.randint(0, case.model.vocab, (case.batch, case.tokens), device=device)
    device_type = torch.device(device).type

    def run():
        model.zero_grad()
        with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
            model(tokens, tokens)[1].backward()

    return run


def cases(device: str = "cpu") -> dict[str, Case]:
    """Return three presets of training; on a CPU the large ones get one sequence of 256 bytes."""
    found = {}
    for name, title in CASES.items():
        config = TrainConfig(preset=name)
        full_batch = "cuda" in device or name == "cpu"
        batch, tokens = (config.batch, config.context) if full_batch else (1, 256)
        found[name] = Case(title, config.model(), batch, tokens)
    return found


def block(width: int, device: str = "cpu") -> Case:
    """Return one block of a model of this width, with heads of width 64.

    >>> block(768).shapes()
    [(768, 768), (768, 768), (768, 768), (768, 768), (3072, 768), (768, 3072)]
    """
    batch, tokens = (8, 1024) if "cuda" in device else (1, 256)
    model = GPTConfig(layers=1, width=width, heads=max(1, width // 64), context=tokens)
    return Case(f"One block of width {width}", model, batch, tokens)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help=f"default on this machine: {default}")
    parser.add_argument("--seconds", type=float, default=20.0, help="per table")
    parser.add_argument("--width", nargs="+", type=int, default=[], help="blocks of these widths")
    parser.add_argument("--case", nargs="+", choices=CASES, help="presets (default: all, or none)")
    parser.add_argument("--compiled", action="store_true", help="presets under torch.compile, too")
    parser.add_argument("--json", type=Path, help="file to record the medians in")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    timings = []
    chosen = [(block(width, options.device), False) for width in options.width]
    names = options.case or ([] if chosen else CASES)
    chosen += [(cases(options.device)[name], options.compiled) for name in names]
    for case, compiled in chosen:
        timings.append(measure(case, options.seconds, options.device, compiled=compiled))
        print(timings[-1], end="\n\n", flush=True)
    if options.json:
        about = environment() | {"torch": torch.__version__}
        about |= {"tables": [timing.record() for timing in timings]}
        with write_atomically(options.json) as file:
            file.write(json.dumps(about, indent=1, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    main()
