"""Which parameters of a model are hidden matrices, and so Muon's, and which are left to AdamW.

The number of axes does not decide: embeddings and output heads have two, as hidden matrices do.
What a parameter's module does with it decides, or what the caller says.
"""

import difflib
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin

CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d
TRANSPOSED = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
NOT_MATRICES = nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm
EXPERT_COUNTS = "num_experts", "num_local_experts", "n_routed_experts", "n_experts"
FUSED_NAME = re.compile(r"qkv|kv_proj|query_key|key_value|c_attn|in_proj|gate_up|up_gate|w13", re.I)
TABLE_NAME = re.compile(r"embed|pos|token|bias", re.I)  # what a model adds, not multiplies by
Use = tuple[str, nn.Module, str]


def split_parameters(
    model: nn.Module,
    head: str | Sequence[str] | None = None,
    *,
    matrices: Mapping[type | str, Mapping | None] | None = None,
) -> list[dict]:
    """Return parameter groups for `Muon`: the hidden matrices, and what is left to AdamW.

    Muon gets the weights of Linear and convolution layers, the projections of
    nn.MultiheadAttention (query, key and value each a matrix), and stacks of experts (E, m, n) in
    a module that says how many experts it has. Embeddings, the output head, gains and biases get
    AdamW. The head is a Linear that shares an embedding's weight or that the model ends with;
    otherwise name it, or a module that holds it, in ``head``, or pass ``head=()`` for none.

    ``matrices`` says what no rule can know, for a class of modules or for a name (of a parameter or
    a module; its last parts are enough). The value holds `Muon`'s options for these parameters, or
    None for AdamW::

        matrices={
            MyLinear: {},                              # each weight is a matrix, 3-D ones stacks
            transformers.Conv1D: {"transposed": True}, # stored (in, out)
            "attn.qkv": {"rows": (512, 128, 128)},     # three matrices in one, of so many rows
            "mlp.gate_up": {"rows": (2048, 2048)},
            "router.weight": None,
        }

    What looks like a hidden matrix and is left to AdamW, and what looks like several matrices in
    one, is named in a warning. Print `describe(groups)` to see where everything went.

    For the learning rate see `Muon`; AdamW's part can have its own: set ``group["lr"]`` of the
    groups without ``use_muon``.

    Raises TypeError for anything but a module, ValueError for uninitialized or flattened parameters
    and for a name in ``matrices`` that the model does not have.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5), nn.Linear(5, 9))
    >>> print(describe(split_parameters(model)))
    1.weight  (5, 4)  Muon   Linear
    0.weight  (9, 4)  AdamW  Embedding
    1.bias    (5,)    AdamW  Linear
    2.weight  (9, 5)  AdamW  Linear, output head
    2.bias    (9,)    AdamW  Linear, output head
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"split_parameters takes a torch.nn.Module; got {type(model).__name__}")
    uses, heads, matrices = _uses(model), _heads(model, head), matrices or {}
    _check_keys(matrices, uses)
    groups: dict[tuple, dict] = {}
    left, fused = [], []
    for name, p in model.named_parameters():  # each once, however often it is shared
        _check_whole(name, p)
        said, options = _said(uses[p], p, matrices)
        if not said:
            options = _known(uses[p], p, heads)
            line = f"{name} {tuple(p.shape)}"
            if options is None and _looks_like_a_matrix(uses[p], p, heads):
                left.append(line)
            elif options is not None and _looks_fused(uses[p], p, model):
                fused.append(line)
        key = (False,) if options is None else (True, *sorted(options.items()))
        group = groups.setdefault(key, {"use_muon": key[0], **(options or {})})
        kinds = (type(m).__name__ + ", output head" * (m in heads) for _, m, _ in uses[p])
        for field, value in {"params": p, "names": name, "kinds": " and ".join(kinds)}.items():
            group.setdefault(field, []).append(value)
    found = sorted(groups.values(), key=lambda group: not group["use_muon"])
    _warn(found, left, fused)
    return found


def describe(groups: list[dict]) -> str:
    """Return a table of groups from `split_parameters`: name, shape, rule and kind of layer."""
    rows = [
        (name, str(tuple(p.shape)), "Muon " if group["use_muon"] else "AdamW", kind)
        for group in groups
        for name, p, kind in zip(group["names"], group["params"], group["kinds"], strict=True)
    ]
    first, second = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    return "\n".join(f"{n:{first}}  {s:{second}}  {rule}  {kind}" for n, s, rule, kind in rows)


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
    if len(shape) > 2 and (kernels or (kernels is None and len(shape) > 3)):
        shape = (shape[0], math.prod(shape[1:]))
    if heads is not None:
        *stack, rows, columns = shape
        if heads < 1 or rows % heads:
            raise ValueError(f"heads={heads} does not divide {rows} rows into equal matrices")
        shape = (*stack, heads, rows // heads, columns)
    return tuple(shape)


def _uses(model: nn.Module) -> dict[Tensor, list[Use]]:
    """Return where each parameter is used: (path, module, name in the module), first use first."""
    uses = defaultdict(list)
    for path, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            uses[p].append((path, module, name))
    return uses


def _heads(model: nn.Module, head: str | Sequence[str] | None) -> list[nn.Module | None]:
    """Return the modules that make up the output head."""
    if head is None:
        return [_last_layer(model)]
    named = [head] if isinstance(head, str) else head
    try:
        return [part for name in named for part in model.get_submodule(name).modules()]
    except AttributeError as error:
        raise ValueError(f"head={head!r} names no module of this model: {error}") from None


def _last_layer(model: nn.Module) -> nn.Module | None:
    """Return the Linear that a model ends with, in a Sequential or not; None where it has none."""
    parts = [part for part in model.children() if list(part.parameters())]
    last = parts[-1] if parts else None
    if isinstance(last, nn.Linear):
        return last
    wraps = len(parts) == 1 and not isinstance(model, nn.ModuleList)  # as DDP and compile do
    return _last_layer(last) if wraps or isinstance(last, nn.Sequential) else None


def _check_whole(name: str, p: Tensor) -> None:
    """Refuse parameters that have no shape yet, or whose shape a sharding wrapper took away."""
    if isinstance(p, UninitializedTensorMixin):
        raise ValueError(
            f"{name} is not initialized: run one forward of the model (its lazy layers take their "
            "shapes from it), then call split_parameters"
        )
    if any(hasattr(p, mark) for mark in ("_is_flat_param", "_fsdp_flattened", "ds_shape")):
        raise ValueError(
            f"{name} was flattened or emptied by a sharding wrapper, so its matrices are gone: use "
            "fully_shard (FSDP2), which keeps shapes, in place of FSDP1 or ZeRO-3"
        )


def _matches(key: type | str, use: Use) -> bool:
    """Tell whether a key of ``matrices`` names this use: its class, or the end of its name."""
    path, module, name = use
    if isinstance(key, type):
        return isinstance(module, key)
    return f".{path}".endswith(f".{key}") or f".{path}.{name}".endswith(f".{key}")


def _check_keys(matrices: Mapping, uses: Mapping[Tensor, list[Use]]) -> None:
    every = [use for found in uses.values() for use in found]
    for key in matrices:
        if not any(_matches(key, use) for use in every):
            known = sorted({path.split(".")[-1] for path, _, _ in every})
            near = difflib.get_close_matches(str(key), known, 3, 0.4) or known[:5]
            raise ValueError(f"matrices names {key!r}, which this model lacks; near: {near}")


def _said(uses: list[Use], p: Tensor, matrices: Mapping) -> tuple[bool, Mapping | None]:
    """Return whether the caller speaks of this parameter, and what; names go before classes."""
    for key in sorted(matrices, key=lambda key: isinstance(key, type)):
        if p.ndim > 1 and any(_matches(key, use) for use in uses):
            return True, matrices[key]
    return False, None


def _known(uses: list[Use], p: Tensor, heads: list) -> dict | None:
    """Return Muon's options for a parameter whose module is known to multiply by it, or None."""
    _, module, name = uses[0]
    if p.ndim < 2 or any(m in heads or isinstance(m, NOT_MATRICES) for _, m, _ in uses):
        return None
    if isinstance(module, nn.MultiheadAttention) and p.ndim == 2:
        return {"heads": 3} if name == "in_proj_weight" else {"kernels": True}
    if isinstance(module, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)) and name == "weight":
        parts = getattr(module, "groups", 1)
        if parts == 1:
            return {"kernels": True}
        several_rows = isinstance(module, CONVOLUTIONS) and len(p) > parts
        return {"kernels": True, "heads": parts} if several_rows else None
    return {"kernels": False} if p.ndim == 3 and len(p) in _expert_counts(module) else None


def _expert_counts(module: nn.Module) -> set[int]:
    """Return how many experts a module, or its configuration, says that it has."""
    places = module, getattr(module, "config", None)
    return {getattr(place, name, None) for place in places for name in EXPERT_COUNTS} - {None}


def _looks_like_a_matrix(uses: list[Use], p: Tensor, heads: list) -> bool:
    """Tell whether a parameter left to AdamW has a matrix's shape and no reason to be left."""
    name = uses[0][2]
    explained = (*NOT_MATRICES, *CONVOLUTIONS, *TRANSPOSED, nn.MultiheadAttention)
    if p.ndim < 2 or min(p.shape[-2:]) < 2 or TABLE_NAME.search(name):
        return False
    return not any(m in heads or isinstance(m, explained) for _, m, _ in uses)


def _looks_fused(uses: list[Use], p: Tensor, model: nn.Module) -> bool:
    """Tell whether a name suggests several matrices in one, or the shapes of attention do."""
    path, module, name = uses[0]
    if FUSED_NAME.search(name) or FUSED_NAME.search(path.rpartition(".")[2]):
        return not isinstance(module, nn.MultiheadAttention)
    if not isinstance(module, nn.Linear):
        return False
    parent = model.get_submodule(path.rpartition(".")[0])
    shapes = [tuple(m.weight.shape) for m in parent.children() if isinstance(m, nn.Linear)]
    rows, columns = p.shape
    return rows > columns and sorted(shapes) == [(columns, columns), (rows, columns)]


def _warn(groups: list[dict], left: list[str], fused: list[str]) -> None:
    sizes = {True: 0, False: 0}
    for group in groups:
        sizes[group["use_muon"]] += sum(p.numel() for p in group["params"])
    share = sizes[True] / max(1, sum(sizes.values()))
    said = []
    if left:
        said.append(f"left to AdamW, though of a matrix's shape: {_some(left)}")
    if fused:
        said.append(f"taken as one matrix, though perhaps several in one: {_some(fused)}")
    if said:
        warnings.warn(
            f"split_parameters gives Muon {share:.0%} of the model's numbers. {'; '.join(said)}. "
            "Say what they are with matrices={class or name: options, or None for AdamW}",
            stacklevel=3,
        )


def _some(lines: list[str]) -> str:
    return ", ".join(lines[:4]) + f" and {len(lines) - 4} more" * (len(lines) > 4)
