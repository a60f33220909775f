"""What a parameter group of `Muon` may hold, and the words for what it may not.

Every group is checked when it is added and when a state is loaded, before anything is changed.
"""

import difflib
import math
from numbers import Integral, Real
from typing import Literal, get_args

import torch
from torch import Tensor

from muon_lab.polynomials import resolve
from muon_lab.split import matrix_shape

Scale = Literal["original", "match_rms_adamw", "spectral_unclamped"]

# Each option: its kind, a test of its value, and both in words.
AT_LEAST_ZERO = (Real, lambda v: 0 <= v < math.inf, "a finite number of at least 0")
FLAG = (bool, lambda v: True, "True or False")
OPTIONS: dict[str, tuple] = {
    "lr": AT_LEAST_ZERO,
    "weight_decay": AT_LEAST_ZERO,
    "eps": AT_LEAST_ZERO,
    "momentum": (Real, lambda v: 0 <= v < 1, "a number in [0, 1), for example 0.95"),
    "nesterov": FLAG,
    "maximize": FLAG,
    "use_muon": FLAG,
    "transposed": FLAG,
    "kernels": (bool | None, lambda v: True, "True, False or None"),
    "ns_steps": (Integral | None, lambda v: v is None or v >= 1, "a whole number or None"),
    "heads": (Integral | None, lambda v: v is None or v >= 1, "a whole number or None"),
    "rows": (
        tuple | list | None,
        lambda v: v is None or (v and all(isinstance(n, Integral) and n > 0 for n in v)),
        "the rows of each matrix, for example (512, 128, 128), or None",
    ),
    "adjust_lr_fn": (
        str | None, lambda v: v in (None, *get_args(Scale)), f"one of {get_args(Scale)} or None"
    ),
    "ns_dtype": (
        torch.dtype | None, lambda v: v is None or v.is_floating_point, "a torch float or None"
    ),
    "betas": (
        tuple | list,
        lambda v: len(v) == 2 and all(isinstance(b, Real) and 0 <= b < 1 for b in v),
        "two numbers in [0, 1), for example (0.9, 0.999)",
    ),
}  # fmt: skip


def check_group(group: dict) -> None:
    """Raise TypeError or ValueError for an option, or a parameter, that cannot work."""
    for name, value in group.items():
        _check_option(name, value)
    resolve(group["ns_coefficients"], group["ns_steps"])
    names = group.get("names", group.get("param_names", ()))
    if len(names) != len(group["params"]):  # none given, or parameters taken out since
        names = range(len(group["params"]))
    for name, p in zip(names, group["params"], strict=True):
        _check_parameter(name, p, group)


def _check_option(name: str, value: object) -> None:
    """Refuse a value that the option cannot have, and a name that is nearly an option's."""
    if name not in OPTIONS:
        near = difflib.get_close_matches(name, [*OPTIONS, "ns_coefficients"], 1, 0.8)
        if near and near[0] != name:
            raise ValueError(f"Muon has no option {name!r}: did you mean {near[0]!r}?")
        return
    kind, fits, words = OPTIONS[name]
    if name == "lr" and isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"Tensor lr must be 1-element; got {tuple(value.shape)}")
        value = value.item()
    takes_bool = bool in (kind, *get_args(kind))  # to Python True is a number, to a reader not
    if not isinstance(value, kind) or (isinstance(value, bool) and not takes_bool):
        raise TypeError(f"{name} must be {words}; got {value!r}")
    if not fits(value):
        raise ValueError(f"{name} must be {words}; got {value!r}")


def _check_parameter(name: str | int, p: Tensor, group: dict) -> None:
    if not p.is_floating_point():
        raise TypeError(
            f"Muon takes real floating-point parameters; parameter {name!r} is {p.dtype}"
        )
    if not group["use_muon"]:
        return
    if p.ndim < 2:
        raise ValueError(
            f"Muon only supports 2D parameters, and stacks of them: parameter {name!r} has shape "
            f"{tuple(p.shape)}. Put it in a group with use_muon=False, or let "
            "muon_lab.muon.split_parameters(model) make the groups"
        )
    shape = p.mT.shape if group["transposed"] else p.shape
    if group["rows"] and sum(group["rows"]) != shape[-2]:
        raise ValueError(f"rows={group['rows']} must add up to the {shape[-2]} rows of {name!r}")
    matrix_shape(shape, group["kernels"], group["heads"])
