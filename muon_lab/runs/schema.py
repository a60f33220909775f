"""What a run file holds: fields, their kinds, the curves' lengths; ``faults`` tells what is wrong.

The tables below are the format. Version 1 files have no costs and no spectra.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

VERSIONS = (1, 2)
NUMBER = (int, float)
ADDRESS = {"format": str, "version": int}
CONFIG = {
    "preset": str, "optimizer": str, "attention": str, "seed": int, "lr": NUMBER,
    "adamw_lr": NUMBER, "weight_decay": NUMBER, "schedule": str, "tau": NUMBER, "steps": int,
    "batch": int, "context": int, "layers": int, "width": int, "heads": int, "valid_every": int,
    "valid_windows": int, "precision": str, "device": str,
}  # fmt: skip
CONFIG_2 = {
    "accumulate": int, "warm_up": NUMBER, "clip_norm": (*NUMBER, type(None)), "compile": bool
}  # fmt: skip
PROVENANCE = {
    "date": str, "python": str, "torch": str, "device": str, "commit": (str, type(None)),
    "command": str, "corpus": dict,
}  # fmt: skip
CORPUS = {
    "name": str, "sha256": str, "train_bytes": int, "valid_bytes": int, "xz_bits_per_byte": NUMBER,
}  # fmt: skip
SAMPLES = {"before": str, "after": str}
COSTS = {
    "bytes_per_second": NUMBER, "optimizer_share": NUMBER, "peak_memory_bytes": int,
    "peak_memory_of": str, "state_bytes": dict, "flops_per_byte": NUMBER,
    "model_flops_utilisation": (*NUMBER, type(None)),
}  # fmt: skip
STATE_BYTES = {"weights": int, "gradients": int, "optimizer": int}
SPECTRA = {"matrices": list, "quantiles": list}

# Each curve's shape: what its axes count. A name in no table may have any shape.
VALIDATIONS = {name: ("validations",) for name in ("step", "loss", "bytes", "seconds")}
CURVES = {"loss": ("steps",)} | {f"valid_{name}": axes for name, axes in VALIDATIONS.items()}
SPECTRUM = ("spectra", "matrices", "quantiles")
CURVES_2 = {
    "grad_norm": ("steps",), "spectrum_step": ("spectra",), "momentum_spectrum": SPECTRUM,
    "update_spectrum": SPECTRUM, "rare_share": SPECTRUM[:2], "rare_share_momentum": SPECTRUM[:2],
}  # fmt: skip
LOGITS = {name: ("steps", "layers", "heads") for name in ("max_logit", "gamma")}


def faults(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for everything that is wrong with a run file's content.

    >>> list(faults({"format": "muon_lab run", "version": 1, "config": {}}))[:2]
    ['provenance is missing', 'curves is missing']
    """
    version = data["version"]
    parts = {"config": dict, "provenance": dict, "curves": dict, "samples": dict}
    parts |= {"costs": dict} if version > 1 else {}
    wrong = list(_fields("", data, ADDRESS | parts))
    yield from wrong
    if wrong:
        return
    config, provenance = data["config"], data["provenance"]
    yield from _fields("config.", config, CONFIG)
    yield from _fields("provenance.", provenance, PROVENANCE)
    yield from _fields("provenance.corpus.", provenance.get("corpus"), CORPUS)
    yield from _fields("samples.", data["samples"], SAMPLES)
    if version > 1:
        yield from _fields("config.", config, CONFIG_2)
        yield from _fields("costs.", data["costs"], COSTS)
        yield from _fields("costs.state_bytes.", data["costs"].get("state_bytes"), STATE_BYTES)
        yield from _fields("provenance.", provenance, {"spectra": dict})
        yield from _fields("provenance.spectra.", provenance.get("spectra"), SPECTRA)
    yield from _curves(data["curves"], _lengths(data), version)


def _fields(where: str, part: Any, wanted: Mapping[str, Any]) -> Iterator[str]:
    """Compare a part's fields with their kinds; a part that is not there is told elsewhere."""
    if not isinstance(part, Mapping):
        return
    for name, kind in wanted.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if name not in part:
            yield f"{where}{name} is missing"
        elif not isinstance(part[name], kinds) or (isinstance(part[name], bool) != (kind is bool)):
            names = " or ".join(each.__name__ for each in kinds)
            yield f"{where}{name} must be {names}; it is {part[name]!r:.40}"
        elif isinstance(part[name], float) and not math.isfinite(part[name]):
            yield f"{where}{name} must be finite; it is {part[name]}"


def _lengths(data: Mapping[str, Any]) -> dict[str, int | None]:
    """Tell how long each axis of the curves is; None where the file does not say."""
    curves, config = data["curves"], data["config"]
    spectra = data["provenance"].get("spectra") or {}
    counted = {
        "validations": curves.get("valid_step"), "spectra": curves.get("spectrum_step"),
        "matrices": spectra.get("matrices"), "quantiles": spectra.get("quantiles"),
    }  # fmt: skip
    lengths = {axis: len(c) if isinstance(c, list) else None for axis, c in counted.items()}
    return lengths | {axis: config.get(axis) for axis in ("steps", "layers", "heads")}


def _curves(
    curves: Mapping[str, Any], lengths: Mapping[str, int | None], version: int
) -> Iterator[str]:
    """Compare every curve's shape with what its axes count, and its items with numbers."""
    if lengths["validations"] == 0:
        yield "curves.valid_step is empty: a run has a validation before its first step"
    for name, curve in curves.items():
        if not (isinstance(curve, list) and _numeric(curve)):
            yield f"curves.{name} must be a list of numbers, or of lists of them"
    needed = CURVES | (CURVES_2 if version > 1 else {})
    for name, axes in (needed | LOGITS).items():
        if name not in curves:
            if name in needed:
                yield f"curves.{name} is missing"
            continue
        got, wanted = _shape(curves[name]), tuple(lengths[axis] for axis in axes)
        if None not in wanted and got != wanted:
            yield f"curves.{name} must have the shape {wanted}, ({', '.join(axes)}); it has {got}"


def _numeric(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_numeric, value))
    return isinstance(value, NUMBER) and not isinstance(value, bool)


def _shape(value: Any) -> tuple[int, ...]:
    """Give the shape of lists in lists, as far as their lengths agree."""
    if not isinstance(value, list):
        return ()
    inner = {_shape(item) for item in value}
    return (len(value), *inner.pop()) if len(inner) == 1 else (len(value),)
