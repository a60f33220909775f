"""Muon for torch: momentum, made orthogonal matrix by matrix; AdamW for everything else.

The rule is `muon_update_`, a function of tensors. The class `Muon` keeps the state, and hands that
function matrices of one shape at a time, so that they are orthogonalized together as one stack.
`split_parameters` says which parameters of a model are matrices to orthogonalize.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from muon_lab.orthogonalize import newton_schulz, newton_schulz_gram
from muon_lab.polynomials import JORDAN, AnySchedule

Scale = Literal["original", "match_rms_adamw", "spectral_unclamped"]
ADAMW_DEFAULTS = {"betas": (0.9, 0.999), "eps": 1e-8}


def muon_update_(
    params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], *,
    lr: float, weight_decay: float, momentum: float, nesterov: bool, scale: float,
    orthogonalize: Callable[[Tensor], Tensor],
) -> None:  # fmt: skip
    """Step same-shaped parameters (..., m, n) in place; ``buffers`` are their momenta.

    The decay uses the unscaled ``lr``, as torch.optim.Muon's does. No gradient is written to.
    """
    torch._foreach_lerp_(buffers, grads, 1 - momentum)  # B ← μB + (1 - μ)g
    directions = torch._foreach_lerp(grads, buffers, momentum) if nesterov else buffers
    updates = orthogonalize(torch.stack(directions)).to(params[0].dtype)  # (k, ..., m, n)
    torch._foreach_mul_(params, 1 - lr * weight_decay)
    torch._foreach_add_(params, updates.unbind(), alpha=-lr * scale)


def update_scale(rows: int, columns: int, rule: Scale | None = None) -> float:
    """Return the factor on the learning rate for an orthogonal update of this shape.

    An orthogonal (m, n) matrix has entries of RMS 1/√max(m, n) (arXiv 2502.16982, Lemma 1), so
    `match_rms_adamw` gives every shape an update of RMS 0.2, about that of AdamW's.

    >>> update_scale(512, 128), update_scale(128, 512), update_scale(128, 512, "spectral_unclamped")
    (2.0, 1.0, 0.5)
    """
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    ratio = rows / columns
    return math.sqrt(ratio if rule == "spectral_unclamped" else max(1, ratio))


def matrix_shape(
    shape: Sequence[int], kernels: bool | None = None, heads: int | None = None
) -> tuple[int, ...]:
    """Return the shape (..., rows, columns) in which Muon sees a parameter.

    A convolution kernel (out, in, ...) is one matrix with a row for each output channel;
    ``kernels=None`` takes four or more axes for a kernel, and three for a stack of matrices.
    ``heads`` cuts the rows of each matrix into that many matrices.

    >>> matrix_shape((64, 3, 7, 7)), matrix_shape((8, 64, 32)), matrix_shape((96, 64), heads=4)
    ((64, 147), (8, 64, 32), (4, 24, 64))
    """
    if kernels or (kernels is None and len(shape) > 3):
        shape = (shape[0], math.prod(shape[1:]))
    if heads is not None:
        *stack, rows, columns = shape
        shape = (*stack, heads, rows // heads, columns)
    return tuple(shape)


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon with more shapes, schedules and groups, and one step for a whole model."""

    def __init__(
        self,
        params,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: AnySchedule = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Scale | None = None,
        *,
        maximize: bool = False,
        ns_dtype: torch.dtype | None = None,
    ) -> None:
        """Collect groups; each may override any option, and set use_muon, heads, kernels, betas."""
        options = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "maximize": maximize,
            "ns_dtype": ns_dtype,
        }
        extra = {"use_muon": True, "kernels": None, "heads": None, "betas": (0.9, 0.999)}
        super().__init__(params, options | extra)

    def add_param_group(self, param_group: dict) -> None:
        """Add a group; one with use_muon=False follows AdamW, with its own betas and eps."""
        if not param_group.get("use_muon", True):
            param_group = ADAMW_DEFAULTS | param_group
        super().add_param_group(param_group)

    def __setstate__(self, state: dict) -> None:
        """Restore; a group saved by torch.optim.Muon lacks the options that only this class has."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """Update every parameter that has a gradient; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None and p.numel() > 0]
            (self._step_muon if group["use_muon"] else self._step_adamw)(params, group)
        return loss

    def _step_muon(self, params: list[Tensor], group: dict) -> None:
        buckets = defaultdict(list)
        for p in params:
            state = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p.grad)
            shape = matrix_shape(p.shape, group["kernels"], group["heads"])
            buckets[shape, p.dtype, p.device].append(p)
        lr = float(group["lr"])
        for (shape, *_), bucket in buckets.items():
            muon_update_(
                [p.view(shape) for p in bucket],
                [(-p.grad if group["maximize"] else p.grad).reshape(shape) for p in bucket],
                [self.state[p]["momentum_buffer"].view(shape) for p in bucket],
                lr=lr,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                nesterov=group["nesterov"],
                scale=update_scale(*shape[-2:], group["adjust_lr_fn"]),
                orthogonalize=lambda stack: orthogonalize(stack, group),
            )

    def _step_adamw(self, params: list[Tensor], group: dict) -> None:
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        beta1, beta2 = group["betas"]
        adamw(
            params, [p.grad for p in params],
            [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states], [],
            [s["step"] for s in states],
            amsgrad=False, beta1=beta1, beta2=beta2, lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=group["maximize"],
        )  # fmt: skip


def orthogonalize(stack: Tensor, group: dict) -> Tensor:
    """Orthogonalize a stack (..., m, n) as a group's options say, in its dtype for that."""
    short, long = sorted(stack.shape[-2:])
    form = newton_schulz_gram if long >= 2 * short else newton_schulz
    dtype = group["ns_dtype"] or torch.bfloat16
    # torch's default of five steps stands for a table's own length.
    steps = None if group["ns_steps"] == 5 else group["ns_steps"]
    return form(stack.to(dtype), group["ns_coefficients"], steps, group["eps"])


def split_parameters(model: nn.Module) -> list[dict]:
    """Return parameter groups for `Muon`: hidden matrices first, then those for AdamW."""
    embeddings = {id(m.weight): m for m in model.modules() if isinstance(m, nn.Embedding)}
    layers = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d
    hidden = {
        id(m.weight): name for name, m in model.named_modules()
        if isinstance(m, layers) and id(m.weight) not in embeddings
    }  # fmt: skip
    last = [m for m in model.children() if sum(p.numel() for p in m.parameters())]
    if last and isinstance(last[-1], nn.Linear):
        hidden.pop(id(last[-1].weight), None)
    groups = [
        {"params": [], "names": [], "use_muon": True, "kernels": True},
        {"params": [], "names": [], "use_muon": False},
    ]
    for name, p in model.named_parameters():
        group = groups[id(p) not in hidden]
        group["params"].append(p)
        group["names"].append(name)
    return groups


__all__ = ["Muon", "matrix_shape", "muon_update_", "split_parameters", "update_scale"]
