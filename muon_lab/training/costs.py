"""What a run costs: speed, the optimizer's share of it, memory by kind, use of the chip.

`interleave` is for timing anything fairly against something else.
"""

import re
import resource
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from muon_lab.training.device import now
from muon_lab.training.ranks import ranks, whole
from muon_lab.training.state import Training

LINUX = Path("/proc/self")
# Dense bfloat16 FLOPs per second with float32 sums, from NVIDIA's data sheets of each chip (which
# give twice as much "with sparsity"). The first name found in a device's own name counts.
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,  # SXM
    "H200": 989e12,
    "A100": 312e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
MIN_ROUNDS = 3


def interleave(
    contenders: dict[str, Callable[[], object]], seconds: float, device: str = "cpu"
) -> dict[str, list[float]]:
    """Let contenders take turns for so many seconds, at least 3 rounds; return each one's times.

    Whatever else the machine does then slows all of them. A first round is not counted: it
    allocates and compiles.

    >>> times = interleave({"sum": lambda: sum(range(1000)), "pass": int}, seconds=0.0)
    >>> {name: len(rounds) for name, rounds in times.items()}
    {'sum': 3, 'pass': 3}
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    end, rounds = None, -1
    while rounds < MIN_ROUNDS or time.perf_counter() < end:
        for name, run in contenders.items():
            began = now(device)
            run()
            if end is not None:
                times[name].append(now(device) - began)
        rounds += 1
        end = end or time.perf_counter() + seconds
    return times


def peak_flops(device_name: str, precision: str) -> float | None:
    """Return the most FLOPs per second of a chip in bfloat16, or None if it is not in the table.

    >>> peak_flops("NVIDIA H100 80GB HBM3", "bfloat16"), peak_flops("AMD EPYC", "bfloat16")
    (989000000000000.0, None)
    """
    if precision != "bfloat16":
        return None
    found = (peak for name, peak in PEAKS.items() if re.search(rf"\b{name}\b", device_name))
    return next(found, None)


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the norm of all gradients together: NaN or Inf if and only if one of them holds it.

    It is summed in float64, in which the square of no float32 overflows.
    """
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norms = [torch.linalg.vector_norm(grad, dtype=torch.float64) for grad in grads]
    return torch.linalg.vector_norm(torch.stack([whole(norm) for norm in norms]))


def state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Count the bytes that training keeps from step to step, by adding up the tensors themselves.

    >>> model = nn.Linear(10, 10, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> model(torch.ones(10)).sum().backward()
    >>> optimizer.step()
    >>> state_bytes(model, optimizer)
    {'weights': 400, 'gradients': 400, 'optimizer': 400}
    """
    groups = [group["params"] for group in optimizer.param_groups]
    stepped = {p for params in groups for p in params}  # under FSDP2 always this rank's shards
    frozen = [p for p in model.parameters() if not p.requires_grad]
    params = [*stepped, *frozen]
    kept = tree_leaves(list(map(dict, optimizer.state.values())))
    return {
        "weights": _bytes(params),
        # A run resumed at its end has no gradients; each would be as large as its parameter.
        "gradients": _bytes(p if p.grad is None else p.grad for p in params),
        "optimizer": _bytes(value for value in kept if isinstance(value, Tensor)),
    }


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.to_local().nbytes if hasattr(t, "to_local") else t.nbytes for t in tensors)


def forget_peak_memory(device: str) -> None:
    """Reset the peak, where the system allows it (macOS does not, for a process)."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif LINUX.exists():
        with suppress(OSError):
            (LINUX / "clear_refs").write_text("5")  # proc(5): "reset the peak resident set size"


def peak_memory(device: str) -> dict[str, Any]:
    """Return the most memory held at once: by tensors on a GPU, otherwise by the whole process.

    The process holds Python, torch, the corpus, and whatever else a notebook has loaded.
    """
    if torch.device(device).type == "cuda":
        most = torch.cuda.max_memory_allocated(device)
        return {"peak_memory_bytes": most, "peak_memory_of": "device"}
    if LINUX.exists():  # where getrusage starts from the peak of the program that started this one
        (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", (LINUX / "status").read_text())
        return {"peak_memory_bytes": 1024 * int(kibibytes), "peak_memory_of": "process"}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on macOS
    return {"peak_memory_bytes": most, "peak_memory_of": "process"}


def costs(training: Training, device_name: str) -> dict[str, Any]:
    """Collect what a training took, validation not counted.

    ``model_flops_utilisation`` is the share of the chip's peak that the model's own matrix products
    reach, forward and backward, the optimizer's not counted (arXiv 2204.02311, appendix B).
    """
    config, model = training.config, training.model
    speed = training.step * config.batch * config.context / training.seconds
    flops = model.flops_per_byte(training=True)
    peak = peak_flops(device_name, config.precision)
    peak = peak and peak * ranks()
    return {
        "bytes_per_second": speed,
        "optimizer_share": training.optimizer_seconds / training.seconds,
        **peak_memory(config.device),
        "state_bytes": state_bytes(model, training.optimizer),
        "flops_per_byte": flops,
        "model_flops_utilisation": None if peak is None else flops * speed / peak,
    }
