"""Muon for torch: momentum, made orthogonal matrix by matrix; AdamW for everything else.

The rule is `muon_update_`, a function of tensors. The class `Muon` keeps the state, and hands that
function parameters of one shape at a time, so that they are orthogonalized together as a stack.
`split` says which parameters of a model are matrices to orthogonalize, and of what shape.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from muon_lab.cores import side_by_side
from muon_lab.orthogonalize import newton_schulz_fast
from muon_lab.polynomials import JORDAN, AnySchedule, Schedule, resolve
from muon_lab.split import matrix_shape, split_parameters

__all__ = ["Muon", "matrix_shape", "muon_update_", "split_parameters", "update_scale"]

Scale = Literal["original", "match_rms_adamw", "spectral_unclamped"]
# Numbers stepped at once: what fills a CPU's caches, and elsewhere what bounds the memory it takes.
STACK = {"cpu": 2**20, "elsewhere": 2**26}
LARGE = 2**18  # numbers; matrices of so many take long enough for a core to have some of its own
torch.serialization.add_safe_globals([Schedule])  # which a group may have, and saves


def muon_update_(
    params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], *,
    lr: float, weight_decay: float, momentum: float, nesterov: bool, scale: float,
    orthogonalize: Callable[[Tensor], Tensor],
) -> None:  # fmt: skip
    """Step parameters of one shape in place; ``buffers`` are their momenta, also updated.

    The decay takes the unscaled ``lr``, as torch.optim.Muon's does. No gradient is written to.
    """
    torch._foreach_lerp_(buffers, grads, 1 - momentum)  # B ← μB + (1 - μ)g
    directions = torch._foreach_lerp(grads, buffers, momentum) if nesterov else buffers
    updates = orthogonalize(torch.stack(directions)).to(params[0].dtype)  # (k, *shape)
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


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon, faster, for more shapes and schedules, and with AdamW for the rest.

    Arguments and defaults are torch's. Beyond it ``ns_coefficients`` may be a schedule's name or a
    table with a triple for each step, which then runs to its end where ``ns_steps`` is left at 5;
    and ``adjust_lr_fn`` may be "spectral_unclamped". ``ns_dtype`` is what to iterate in.

    A parameter group may override each of these, and may set ``use_muon=False`` (AdamW, with its
    ``betas`` and ``eps``), ``heads`` and ``kernels`` (see `matrix_shape`).

    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 8))
    >>> optimizer = Muon(split_parameters(model), lr=0.02)
    >>> model(torch.ones(64)).sum().backward()
    >>> optimizer.step()
    """

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
        """Collect the groups; refuse what cannot work, and say what would."""
        options = dict(
            lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
            ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn, maximize=maximize, ns_dtype=ns_dtype,
            use_muon=True, heads=None, kernels=None,
        )  # fmt: skip
        super().__init__(params, options)

    def add_param_group(self, param_group: dict) -> None:
        """Add a copy of a group. AdamW's ``betas`` and ``eps`` are torch's if it has none."""
        if isinstance(param_group, dict):
            # Were betas among the defaults, OneCycleLR would move them, and no momentum.
            adamw = {"betas": (0.9, 0.999), "eps": 1e-8}
            param_group = ({} if param_group.get("use_muon", True) else adamw) | param_group
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def __setstate__(self, state: dict) -> None:
        """Restore; options that torch's Muon and AdamW do not save stay as the group has them."""
        own = self.__dict__.get("param_groups", [])  # none yet in a copy, whose groups are whole
        super().__setstate__(state)
        for group, before in zip(self.param_groups, own, strict=False):
            for name, value in before.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """Update every parameter that has a gradient; return the closure's loss."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None and p.numel() > 0]
            if any(p.is_complex() for p in params):
                raise RuntimeError("Muon does not support complex parameters; give it real ones")
            if any(p.grad.is_sparse for p in params):
                raise RuntimeError("Muon does not support sparse gradients; use sparse=False")
            (self._step_muon if group["use_muon"] else self._step_adamw)(params, group)
        return loss

    def _step_muon(self, params: list[Tensor], group: dict) -> None:
        large = []
        for alike in _same_shaped(params):
            if alike[0].is_cpu and alike[0].numel() >= LARGE:
                large.append(partial(self._step_alike, alike, group))
            else:
                self._step_alike(alike, group)
        side_by_side(large)

    def _step_alike(self, params: list[Tensor], group: dict) -> None:
        shape = matrix_shape(params[0].shape, group["kernels"], group["heads"])
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p.grad)
        muon_update_(
            params,
            [-p.grad if group["maximize"] else p.grad for p in params],
            [state["momentum_buffer"] for state in states],
            lr=float(group["lr"]),
            scale=update_scale(*shape[-2:], group["adjust_lr_fn"]),
            orthogonalize=partial(_in_shape, shape=shape, group=group),
            **{option: group[option] for option in ("weight_decay", "momentum", "nesterov")},
        )

    def _step_adamw(self, params: list[Tensor], group: dict) -> None:
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                count = torch.tensor(0.0, dtype=torch.float32)  # bfloat16 counts to 256 only
                state |= {"step": count, "exp_avg": torch.zeros_like(p)}
                state["exp_avg_sq"] = torch.zeros_like(p)
        averages = ([s[name] for s in states] for name in ("exp_avg", "exp_avg_sq"))
        adamw(
            params, [p.grad for p in params], *averages, [], [s["step"] for s in states],
            amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=group["maximize"],
        )  # fmt: skip


def _in_shape(stack: Tensor, shape: Sequence[int], group: dict) -> Tensor:
    """Orthogonalize parameters (k, *p.shape), each seen as matrices of ``shape``."""
    # torch's default of five steps stands for the length of a table, if there is one.
    steps = None if group["ns_steps"] == 5 else group["ns_steps"]
    matrices = stack.reshape(-1, *shape[-2:])
    options = group["ns_coefficients"], steps, group["eps"], group["ns_dtype"]
    return newton_schulz_fast(matrices, *options).contiguous().view(stack.shape)


def _same_shaped(params: list[Tensor]) -> Iterator[list[Tensor]]:
    """Sort parameters into lists of one shape, dtype and device, of about STACK numbers each."""
    alike = defaultdict(list)
    for p in params:
        alike[p.shape, p.dtype, p.device].append(p)
    for (*_, device), same in alike.items():
        most = STACK.get(device.type, STACK["elsewhere"])
        count = max(1, most // same[0].numel())
        yield from (same[i : i + count] for i in range(0, len(same), count))


def _check(group: dict) -> None:
    """Raise ValueError, or TypeError for a wrong kind, for options or shapes that cannot work."""
    if isinstance(group["lr"], Tensor) and group["lr"].numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    words = {"lr": "Learning rate", "momentum": "momentum", "weight_decay": "weight decay"}
    for option, word in words.items():
        if not group[option] >= 0:
            raise ValueError(f"{word} should be >= 0 but is: {group[option]}")
    betas = group.get("betas", (0, 0))  # AdamW's alone
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas should be two in [0, 1) but are: {betas}")
    rule = group["adjust_lr_fn"]
    if rule not in (None, *get_args(Scale)):
        known = ", ".join(get_args(Scale))
        raise ValueError(f"Adjust learning rate function {rule} is not supported: use {known}")
    resolve(group["ns_coefficients"], group["ns_steps"])
    if getattr(group["ns_dtype"] or torch.float32, "is_floating_point", False) is not True:
        raise TypeError(f"ns_dtype should be a torch float or None but is: {group['ns_dtype']!r}")
    names = group.get("names", group.get("param_names", ()))
    if len(names) != len(group["params"]):  # none given, or parameters taken out since
        names = range(len(group["params"]))
    for name, p in zip(names, group["params"], strict=True):
        if group["use_muon"] and p.ndim < 2:
            raise ValueError(
                f"Muon only supports 2D parameters, and stacks of them: parameter {name!r} has "
                f"shape {tuple(p.shape)}. Put it in a group with use_muon=False, or let "
                "muon_lab.muon.split_parameters(model) make the groups"
            )
        if group["use_muon"]:
            matrix_shape(p.shape, group["kernels"], group["heads"])
