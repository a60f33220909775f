"""Which parameters of a model are hidden matrices, and so Muon's, of what shape, and which AdamW's.

The number of axes does not tell: an embedding and an output head have two, as hidden matrices do.
What a parameter's module is does.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor, nn

LAYERS = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d


def split_parameters(model: nn.Module, head: str | Sequence[str] | None = None) -> list[dict]:
    """Return parameter groups for `Muon`: the hidden matrices, then what is left to AdamW.

    What a parameter's modules are decides: weights of Linear and ungrouped convolution layers get
    Muon, and so do the projections of nn.MultiheadAttention, query, key and value each a matrix.
    Embeddings, the output head, gains, biases and whatever else there is get AdamW. The head is a
    Linear that shares an embedding's weight or that the model ends with; else name it in ``head``,
    it or a module that holds it, or say ``head=()`` if there is none. Print `describe(groups)` to
    see what went where.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5), nn.Linear(5, 9))
    >>> print(describe(split_parameters(model)))
    1.weight  (5, 4)  Muon   Linear
    0.weight  (9, 4)  AdamW  Embedding
    1.bias    (5,)    AdamW  Linear
    2.weight  (9, 5)  AdamW  Linear, output head
    2.bias    (9,)    AdamW  Linear, output head
    """
    if head is None:
        heads = [_last_layer(model)]
    else:
        named = [head] if isinstance(head, str) else head
        heads = [part for name in named for part in model.get_submodule(name).modules()]
    owners = defaultdict(list)
    for module in model.modules():
        for p in module.parameters(recurse=False):
            owners[p].append(module)
    groups = {
        "matrix": {"use_muon": True, "kernels": True},
        "three matrices": {"use_muon": True, "heads": 3},
        "other": {"use_muon": False},
    }
    for name, p in model.named_parameters():  # each once, however often it is shared
        group = groups[_role(p, owners[p], heads)]
        kind = " and ".join(type(m).__name__ + ", output head" * (m in heads) for m in owners[p])
        for key, value in {"params": p, "names": name, "kinds": kind}.items():
            group.setdefault(key, []).append(value)
    return [group for group in groups.values() if "params" in group]


def describe(groups: list[dict]) -> str:
    """Return a table of groups from `split_parameters`: name, shape, rule and kind of layer."""
    rows = [
        (name, str(tuple(p.shape)), "Muon " if group["use_muon"] else "AdamW", kind)
        for group in groups
        for name, p, kind in zip(group["names"], group["params"], group["kinds"], strict=True)
    ]
    wide, wider = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    return "\n".join(f"{n:{wide}}  {s:{wider}}  {rule}  {kind}" for n, s, rule, kind in rows)


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


def _role(p: Tensor, modules: list[nn.Module], heads: list[nn.Module]) -> str:
    """Say which group a parameter of these modules belongs to."""
    if p.ndim < 2 or any(m in heads or isinstance(m, nn.Embedding) for m in modules):
        return "other"
    module = modules[0]
    if isinstance(module, nn.MultiheadAttention) and p.ndim == 2:
        return "three matrices" if p is module.in_proj_weight else "matrix"
    plain = isinstance(module, LAYERS) and getattr(module, "groups", 1) == 1
    return "matrix" if plain and p is module.weight else "other"


def _last_layer(model: nn.Module) -> nn.Module | None:
    """Return the Linear that a model ends with, in a Sequential or not; None where it has none."""
    parts = [part for part in model.children() if list(part.parameters())]
    last = parts[-1] if parts else None
    if isinstance(last, nn.Linear):
        return last
    wraps = len(parts) == 1 and not isinstance(model, nn.ModuleList)  # as DDP and compile do
    return _last_layer(last) if wraps or isinstance(last, nn.Sequential) else None
