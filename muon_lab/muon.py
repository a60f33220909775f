"""Muon for torch: momentum, orthogonalized matrix by matrix; AdamW for everything else.

The rule is `muon_update_`, a function of tensors. The class `Muon` keeps the state, and hands that
function matrices of one shape at a time, so that they are orthogonalized together as a stack.
`split` decides which parameters of a model are matrices; `options` checks what a group holds.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.adamw import adamw

from muon_lab.options import Scale, check_group
from muon_lab.orthogonalize import fast_dtype, newton_schulz_fast
from muon_lab.polynomials import JORDAN, AnySchedule, Schedule, resolve
from muon_lab.sharing import (
    check_gradients_agree,
    cost,
    mesh_group,
    share_out,
    shared_update,
    take_turns,
)
from muon_lab.split import matrix_shape, split_parameters

__all__ = ["Muon", "matrix_shape", "muon_update_", "split_parameters", "update_scale"]

# Numbers stepped at once: what fills a CPU's caches, and elsewhere what bounds the memory it takes.
STACK = {"cpu": 2**20, "elsewhere": 2**26}
_fast_dtype = torch.compiler.assume_constant_result(fast_dtype)
torch.serialization.add_safe_globals([Schedule])  # a group may hold one, and is saved with it


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
    one = len(directions) == 1  # a large matrix, or the only one of its shape: not copied
    stack = directions[0][None] if one else torch.stack(directions)
    updates = orthogonalize(stack).to(params[0].dtype)  # (k, *shape)
    torch._foreach_mul_(params, 1 - lr * weight_decay)
    if isinstance(lr, Tensor):
        torch._foreach_add_(params, torch._foreach_mul(updates.unbind(), -lr * scale))
    else:
        torch._foreach_add_(params, updates.unbind(), alpha=-lr * scale)


def update_scale(rows: int, columns: int, rule: Scale | None = None) -> float:
    """Return the factor on the learning rate for an orthogonal update of this shape.

    An orthogonal (m, n) matrix has entries of RMS 1/√max(m, n) (arXiv 2502.16982, Lemma 1), so
    `match_rms_adamw` gives every shape an update of RMS 0.2, about that of AdamW's. None is
    `original`. Raises ValueError for another rule.

    >>> update_scale(512, 128), update_scale(128, 512), update_scale(128, 512, "spectral_unclamped")
    (2.0, 1.0, 0.5)
    """
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    if rule == "spectral_unclamped":
        return math.sqrt(rows / columns)
    if rule not in (None, "original"):
        raise ValueError(f"adjust_lr_fn must be one of {get_args(Scale)} or None; got {rule!r}")
    return math.sqrt(max(1, rows / columns))


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon, faster, for more shapes and schedules, and with AdamW for the rest.

    Arguments and defaults are torch's. In addition ``ns_coefficients`` may be a schedule's name or
    a table with one triple per step; ``ns_steps=None`` means all of a table, and 5 steps for a
    single triple; ``adjust_lr_fn`` may be "spectral_unclamped"; ``ns_dtype`` is the dtype of the
    iteration (None: bfloat16 where the device has it).

    A parameter group may override each of these. It may set ``use_muon=False``, which makes it
    AdamW's, with its ``betas`` and ``eps``. And it may say how a parameter is made up of matrices:
    ``heads`` and ``kernels`` as in `matrix_shape`, ``rows=(512, 128, 128)`` for matrices of so many
    rows in one parameter, ``transposed=True`` for weights stored (in, out).

    Coming from AdamW: with ``adjust_lr_fn="match_rms_adamw"`` your learning rate and weight decay
    carry over as they are. Groups with ``use_muon=False`` take their own ``lr`` (start from
    AdamW's). With the default scale Muon's ``lr`` is larger, usually 0.01 to 0.05.

    On many ranks: with DistributedDataParallel pass ``process_group=torch.distributed.group.WORLD``
    and each matrix is orthogonalized by one rank, which broadcasts the update; with
    ``shard_momentum=True`` only that rank keeps its momentum (before ``state_dict()`` call
    `sharing.gather_momentum_`). Under FSDP2 the mesh says who shares, and nothing is to be passed.
    All ranks must step together, and have the same kind of device. A compiled step shares nothing.

    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 8))
    >>> optimizer = Muon(split_parameters(model), lr=0.02)
    >>> model(torch.ones(64)).sum().backward()
    >>> optimizer.step()
    """

    remembers = False  # a subclass that sets it gets ``memories`` in `update_`
    process_group: dist.ProcessGroup | None = None
    shard_momentum = False
    _elsewhere: frozenset[Tensor] = frozenset()  # parameters whose momentum another rank keeps

    def __init__(
        self,
        params,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: AnySchedule = JORDAN,
        eps: float = 1e-7,
        ns_steps: int | None = None,
        adjust_lr_fn: Scale | None = None,
        *,
        maximize: bool = False,
        ns_dtype: torch.dtype | None = None,
        process_group: dist.ProcessGroup | None = None,
        shard_momentum: bool = False,
    ) -> None:
        """Collect the groups; refuse an option that cannot work, by name."""
        if isinstance(params, torch.nn.Module):
            raise TypeError("Muon takes parameters, not a model: pass split_parameters(model)")
        options = dict(
            lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
            ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn, maximize=maximize, ns_dtype=ns_dtype,
            use_muon=True, heads=None, kernels=None, rows=None, transposed=False,
        )  # fmt: skip
        super().__init__(params, options)
        if shard_momentum and process_group is None:
            raise ValueError(
                "shard_momentum=True needs process_group, for example torch.distributed.group.WORLD"
            )
        if shard_momentum and self.remembers:
            raise ValueError(
                f"{type(self).__name__} remembers every matrix on each rank: leave out "
                "shard_momentum"
            )
        self.process_group, self.shard_momentum = process_group, shard_momentum

    def add_param_group(self, param_group: dict) -> None:
        """Add a copy of a group. AdamW's ``betas`` and ``eps`` are torch's if it has none."""
        if isinstance(param_group, dict):
            # Were betas among the defaults, OneCycleLR would move them instead of the momentum.
            adamw = {"betas": (0.9, 0.999), "eps": 1e-8}
            param_group = ({} if param_group.get("use_muon", True) else adamw) | param_group
        super().add_param_group(param_group)
        try:
            check_group(self.param_groups[-1])
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        group = self.param_groups[-1]  # a number, which torch.optim.Muon can load too
        group["ns_steps"] = len(resolve(group["ns_coefficients"], group["ns_steps"]))

    def __setstate__(self, state: dict) -> None:
        """Restore; options that torch's Muon and AdamW do not save stay as the group has them."""
        own = self.__dict__.get("param_groups", [])  # none yet in a copy, whose groups are whole
        super().__setstate__(state)
        for group, before in zip(self.param_groups, own, strict=False):
            for name, value in before.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state, torch's Muon's and AdamW's too; refuse one that does not fit, unchanged.

        The momentum keeps the dtype that it was saved with.
        """
        saved = state_dict["param_groups"]
        pairs = []
        for own, other in zip(self.param_groups, saved, strict=False):
            check_group(own | other | {"params": own["params"]})
            pairs += zip(own["params"], other["params"], strict=False)
        pairs = [(p, state_dict["state"].get(number, {})) for p, number in pairs]
        for p, state in pairs:
            for name, value in state.items():
                if name != "step" and isinstance(value, Tensor) and value.shape != p.shape:
                    shapes = f"{tuple(value.shape)} for a parameter of {tuple(p.shape)}"
                    raise ValueError(f"state {name} has another shape than its parameter: {shapes}")
        super().load_state_dict(state_dict)
        for p, state in pairs:
            for name, value in state.items():
                if isinstance(value, Tensor) and value.dtype != self.state[p][name].dtype:
                    self.state[p][name] = value.to(self.state[p][name].device, copy=True)
            for i, memory in state.get("memories", {}).items():
                kept = {name: value.to(p.device, copy=True) for name, value in memory.items()}
                self.state[p]["memories"][i] = kept

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """Update every parameter that has a gradient; return the closure's loss."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        owners: dict[Tensor, int] = {}
        if not torch.compiler.is_compiling():
            owners = self.owners()
            self._elsewhere = self._kept_elsewhere(owners)
        work = []
        for group in self.param_groups:  # all groups are looked at before any weight moves
            tensors: tuple[list[Tensor], ...] = ([], [], [], [], [])
            self._init_group(group, *tensors)
            update_scale(1, 1, group["adjust_lr_fn"])  # refuses a rule that was set since
            work.append((group, tensors))
        for group, (params, grads, *state) in work:
            if group["use_muon"]:
                _step_muon(params, grads, state[0], group, self, owners)
            else:
                _step_adamw(params, grads, state, group)
        return loss

    def owners(self) -> dict[Tensor, int]:
        """Return the rank that orthogonalizes each shared parameter; empty without sharing."""
        alike: dict[dist.ProcessGroup, list[Tensor]] = defaultdict(list)
        for group in self.param_groups:
            for p in group["params"] if group["use_muon"] else ():
                ranks = mesh_group(p, group) if hasattr(p, "device_mesh") else self.process_group
                if ranks is not None and p.numel():
                    alike[ranks].append(p)
        found = {}
        for ranks, params in alike.items():
            shared = share_out([cost(p.shape) for p in params], ranks.size())
            found |= zip(params, shared, strict=True)
        return found

    def _kept_elsewhere(self, owners: dict[Tensor, int]) -> frozenset[Tensor]:
        """Check that all ranks can step together; return what others keep the momentum of."""
        plain = [p for p in owners if not hasattr(p, "device_mesh")]
        if plain:
            check_gradients_agree(plain, self.process_group)
        if not self.shard_momentum:
            return frozenset()
        rank = dist.get_rank(self.process_group)
        elsewhere = frozenset(p for p in plain if owners[p] != rank)
        for p in elsewhere:
            self.state.pop(p, None)
        return elsewhere

    def update_(self, params, grads, buffers, memories=None, **rule) -> None:
        """Step matrices of one shape by `muon_update_`; `after_muon` has subclasses that change it.

        ``memories``, if the class ``remembers``, are a dict for each matrix, in which a subclass
        keeps tensors from step to step.
        """
        muon_update_(params, grads, buffers, **rule)

    @torch.no_grad()
    def direction(self, parameter: Tensor) -> Tensor:
        """Return the orthogonalized direction of a parameter's last step, before scale and decay.

        It is computed again from the momentum buffer and the gradient, of the parameter's shape;
        nothing changes. Raises ValueError for a parameter that has no momentum or no gradient.
        """
        buffer = self.state.get(parameter, {}).get("momentum_buffer")
        if buffer is None or parameter.grad is None:
            raise ValueError("Muon has not stepped this parameter yet, or its grad is gone")
        group = next(g for g in self.param_groups if any(p is parameter for p in g["params"]))
        grad = -parameter.grad if group["maximize"] else parameter.grad
        ahead = grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
        whole = torch.empty_like(ahead)
        for piece, into in zip(_matrices(ahead, group), _matrices(whole, group), strict=True):
            into.copy_(_orthogonalize(piece[None], group)[0])
        return whole

    # torch.compile runs a method of this name as it is, and traces what it leaves in the lists.
    def _init_group(self, group, params, grads, first, second, steps) -> None:
        """Fill the lists with what has a gradient, and its state; make that where it is missing."""
        for p in group["params"]:
            if p.grad is None or p.numel() == 0:
                continue
            if p.grad.is_sparse:
                raise RuntimeError("Muon does not support sparse gradients; use sparse=False")
            params.append(p)
            grads.append(p.grad)
            if p in self._elsewhere:
                first.append(None)
                continue
            state = self.state[p]
            if not state and group["use_muon"]:
                state["momentum_buffer"] = torch.zeros_like(p.grad)
            elif not state:
                state["step"] = torch.tensor(0.0, dtype=torch.float32)  # bfloat16 counts to 256
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            if group["use_muon"]:
                first.append(state["momentum_buffer"])
            else:
                first.append(state["exp_avg"])
                second.append(state["exp_avg_sq"])
                steps.append(state["step"])


def _step_muon(
    params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None], group: dict,
    optimizer: Muon, owners: dict[Tensor, int],
) -> None:  # fmt: skip
    lr = group["lr"]
    if torch.compiler.is_compiling():  # a number would be a constant, recompiled whenever it moves
        lr = lr * torch.ones((), dtype=torch.float64, device=params[0].device) if params else lr
    elif isinstance(lr, Tensor):
        lr = lr.item()
    if group["maximize"]:
        grads = [-grad for grad in grads]
    parts = [[m for t in ts for m in _matrices(t, group)] for ts in (params, grads, buffers)]
    if optimizer.remembers:
        parts.append(_memories(params, group, optimizer))
    shared = defaultdict(list)
    owned = [owners.get(p) for p in params for _ in _matrices(p, group)]
    for owner, stack in _stacks(owned, *parts):
        rows, columns = matrix_shape(stack[0][0].shape, group["kernels"], group["heads"])[-2:]
        rule = dict(
            lr=lr,
            scale=update_scale(rows, columns, group["adjust_lr_fn"]),
            orthogonalize=partial(_orthogonalize, group=group),
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
        )
        if owner is None:
            optimizer.update_(*stack, **rule)
        else:
            ranks = optimizer.process_group
            dtype = group["ns_dtype"] or _fast_dtype(stack[0][0].device)
            shared[owner].append(shared_update(optimizer.update_, stack, rule, owner, ranks, dtype))
    if shared:
        take_turns(list(shared.values()))


def _memories(params: list[Tensor], group: dict, optimizer: Muon) -> list[dict]:
    """Return what is remembered of each matrix, at first an empty dict."""
    found = []
    for p in params:
        kept = optimizer.state[p].setdefault("memories", {})
        found += [kept.setdefault(i, {}) for i, _ in enumerate(_matrices(p, group))]
    return found


def _step_adamw(params: list[Tensor], grads: list[Tensor], state: list, group: dict) -> None:
    (beta1, beta2), (averages, squares, steps) = group["betas"], state
    adamw(
        params, grads, averages, squares, [], steps, amsgrad=False, beta1=beta1, beta2=beta2,
        lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"],
        maximize=group["maximize"], capturable=group.get("capturable", False),
    )  # fmt: skip


def _matrices(tensor: Tensor | None, group: dict) -> tuple[Tensor | None, ...]:
    """Return views of the matrices, or stacks or kernels, that make up a parameter's tensor."""
    if tensor is None:  # the momentum that another rank keeps
        return (None,) * len(group["rows"] or "1")
    tensor = tensor.mT if group["transposed"] else tensor
    return tensor.split(tuple(group["rows"]), dim=-2) if group["rows"] else (tensor,)


def _stacks(
    owners: list[int | None], params: list[Tensor], *others: list
) -> Iterator[tuple[int | None, tuple[list, ...]]]:
    """Sort into lists of one owner, shape, dtype and device, of about STACK numbers each."""
    alike = defaultdict(list)
    for owner, *each in zip(owners, params, *others, strict=True):
        alike[owner, each[0].shape, each[0].dtype, each[0].device].append(each)
    for (owner, shape, _, device), same in alike.items():
        count = max(1, STACK.get(device.type, STACK["elsewhere"]) // math.prod(shape))
        for start in range(0, len(same), count):
            yield owner, tuple(map(list, zip(*same[start : start + count], strict=True)))


def _orthogonalize(stack: Tensor, group: dict) -> Tensor:
    """Orthogonalize parameters (k, *shape), each as the matrices that its group says it is."""
    if hasattr(stack, "device_mesh"):  # FSDP2: gather the shards, and keep this rank's
        whole = _orthogonalize(stack.full_tensor(), group)
        return (
            type(stack)
            .from_local(whole, stack.device_mesh)
            .redistribute(placements=stack.placements)
        )  # the same on every rank, so nothing is sent
    shape = matrix_shape(stack.shape[1:], group["kernels"], group["heads"])
    matrices = stack.reshape(-1, *shape[-2:])
    dtype = group["ns_dtype"] or _fast_dtype(stack.device)
    options = group["ns_coefficients"], group["ns_steps"], group["eps"], dtype
    return newton_schulz_fast(matrices, *options).contiguous().view(stack.shape)
