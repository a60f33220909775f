"""The record of one training run, and the JSON file that holds it.

Curves are rounded to six digits when a `Run` is created, so that a loaded run equals the saved one.
``FIELDS`` and ``CURVES`` define the file format.
"""

import json
import math
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

FORMAT = {"format": "muon_lab run", "version": 2}
NUMBER = int | float
# The parts of a file, their fields and the types of these. Further fields are allowed.
FIELDS: dict[str, dict[str, Any]] = {
    "config": {
        "preset": str, "optimizer": str, "attention": str, "seed": int, "lr": NUMBER,
        "adamw_lr": NUMBER, "weight_decay": NUMBER, "schedule": str, "warm_up": NUMBER,
        "clip_norm": NUMBER | None, "tau": NUMBER, "steps": int, "batch": int, "accumulate": int,
        "context": int, "layers": int, "width": int, "heads": int, "valid_every": int,
        "valid_windows": int, "precision": str, "compile": bool, "device": str,
    },
    "provenance": {
        "date": str, "python": str, "torch": str, "device": str, "commit": str | None,
        "command": str, "spectra": {"matrices": list, "quantiles": list},
        "corpus": {
            "name": str, "sha256": str, "train_bytes": int, "valid_bytes": int,
            "xz_bits_per_byte": NUMBER,
        },
    },
    "curves": {},
    "samples": {"before": str, "after": str},
    "costs": {
        "bytes_per_second": NUMBER, "optimizer_share": NUMBER, "peak_memory_bytes": int,
        "peak_memory_of": str, "flops_per_byte": NUMBER, "model_flops_utilisation": NUMBER | None,
        "state_bytes": {"weights": int, "gradients": int, "optimizer": int},
    },
}  # fmt: skip
# The shape of each curve, by what its axes count. Further curves may have any shape.
REQUIRED = {"loss": ("steps",)} | {  # by `Run` itself
    f"valid_{name}": ("validations",) for name in ("step", "loss", "bytes", "seconds")
}
SPECTRUM = ("spectra", "matrices", "quantiles")
CURVES = REQUIRED | {"grad_norm": ("steps",)}
OPTIONAL_CURVES = {
    "max_logit": ("steps", "layers", "heads"), "gamma": ("steps", "layers", "heads"),
    "spectrum_step": ("spectra",), "momentum_spectrum": SPECTRUM, "update_spectrum": SPECTRUM,
    "rare_share": SPECTRUM[:2], "rare_share_momentum": SPECTRUM[:2],
}  # fmt: skip
AXES = {"bytes": "valid_bytes", "steps": "valid_step", "seconds": "valid_seconds"}
RECORD_AGAIN = "record it again with python -m muon_lab.training --save FILE"


@dataclass(frozen=True, eq=False)
class Run:
    """One training run: configuration, provenance, curves, samples of text, and costs.

    Every run has the curves ``loss`` (steps,), in nats per byte on each step's own batch; and, per
    validation, ``valid_step``, ``valid_loss`` in nats per byte, ``valid_bytes`` read so far and
    ``valid_seconds`` of training so far, without validation. Recorded runs also have ``grad_norm``
    (steps,) and, unless the optimizer is the reader's own, at each ``spectrum_step`` the spectra of
    ``training/spectra.py``; with attention
    watched ``max_logit`` and with attention clipped ``gamma``, both (steps, layers, heads).

    Raises ValueError for missing curves and for curves that are not arrays of finite numbers.
    """

    config: dict[str, Any]
    provenance: dict[str, Any]
    curves: dict[str, np.ndarray]
    samples: dict[str, str] = field(default_factory=dict)  # text the model wrote: before, after
    costs: dict[str, Any] = field(default_factory=dict)  # time and memory

    def __post_init__(self) -> None:
        """Check the curves and round them to six digits."""
        missing = [name for name in REQUIRED if name not in self.curves]
        if missing:
            raise ValueError(f"a run needs the curves {', '.join(missing)}; {RECORD_AGAIN}")
        for name, values in self.curves.items():
            curve = _finite_array(values)
            if curve is None:
                raise ValueError(f"curve {name!r} must hold finite numbers only; {RECORD_AGAIN}")
            rounded = [float(f"{value:.6g}") for value in curve.flat]
            self.curves[name] = np.array(rounded).reshape(curve.shape)

    @property
    def optimizer(self) -> str:
        """The optimizer's name, without its file's folder: "muon", "my_optimizer.py:MyMuon"."""
        per_head = " per head" * self.config.get("per_head", False)
        return self.config["optimizer"].rpartition("/")[2] + per_head

    @property
    def label(self) -> str:
        """Optimizer, learning rate and seed in one line."""
        return f"{self.optimizer} lr {self.config['lr']:g} seed {self.config['seed']}"

    @property
    def final_loss(self) -> float:
        """The last validation loss, in nats per byte."""
        return float(self.curves["valid_loss"][-1])

    @property
    def bits_per_byte(self) -> float:
        """The last validation loss, in bits per byte."""
        return self.final_loss / math.log(2)

    @property
    def started(self) -> datetime:
        """When the run was started, in UTC."""
        return datetime.fromisoformat(self.provenance["date"]).astimezone(UTC)

    @property
    def seconds(self) -> float:
        """Seconds of training, without validation."""
        return float(self.curves["valid_seconds"][-1])

    def to_loss(self, target: float, axis: str = "bytes") -> float | None:
        """Return the bytes, steps or seconds at which the validation loss first reached ``target``.

        Between validations the curve is interpolated linearly. None if it never got there.
        """
        if axis not in AXES:
            raise ValueError(f"axis must be one of {', '.join(AXES)}; got {axis!r}")
        losses, along = self.curves["valid_loss"], self.curves[AXES[axis]]
        reached = np.flatnonzero(losses <= target)
        if not reached.size:
            return None
        around = slice(max(reached[0] - 1, 0), reached[0] + 1)
        return float(np.interp(-target, -losses[around], along[around]))

    def save(self, path: str | Path) -> Path:
        """Write the run to ``path`` as JSON, one curve per line; see `write_atomically`."""
        head = FORMAT | {part: getattr(self, part) for part in FIELDS if part != "curves"}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        curves = [f"  {json.dumps(key)}: {_curve_json(c)}" for key, c in self.curves.items()]
        text = "{\n" + ",\n".join(lines) + ',\n"curves": {\n' + ",\n".join(curves) + "\n}}\n"
        with write_atomically(path) as file:
            file.write(text.encode())
        return Path(path)


def _curve_json(curve: np.ndarray) -> str:
    """Write an array as JSON, whole numbers without their '.0'."""
    text = json.dumps(curve.tolist(), separators=(",", ":"))
    return text.replace(".0,", ",").replace(".0]", "]")


def load(path: str | Path) -> Run:
    """Read a run file. Raises ValueError that says what is wrong with the file and what to do."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a regular file")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        beside = ", ".join(sorted(other.name for other in path.parent.glob("*.json"))) or "none"
        reason = error.strerror or error
        raise ValueError(f"cannot read {path}: {reason}; run files beside it: {beside}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is cut short or not JSON ({error}); {RECORD_AGAIN}") from error
    head = {key: data.get(key) for key in FORMAT} if isinstance(data, dict) else type(data)
    if head != FORMAT:
        raise ValueError(f"{path} must have {FORMAT}; got {head!s:.80}; {RECORD_AGAIN}")
    problems = list(problems_in(data))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ValueError(f"{path}: {problems[0]}{more}; {RECORD_AGAIN}")
    return Run(**{name: data[name] for name in FIELDS})


def load_all(folder: str | Path, pattern: str = "*.json") -> list[Run]:
    """Read every run file in a folder whose name matches ``pattern``, sorted by name."""
    paths = sorted(Path(folder).glob(pattern))
    if not paths:
        raise ValueError(f"no run file named {pattern} in {folder}")
    return [load(path) for path in paths]


def problems_in(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for everything that is wrong with the content of a run file.

    >>> list(problems_in({"config": {}, "curves": {}}))[-3:]
    ['provenance is missing', 'samples is missing', 'costs is missing']
    """
    yield from list(_wrong_fields(data, FIELDS)) or _wrong_curves(data)


def _wrong_fields(part: Mapping[str, Any], fields: Mapping[str, Any], path="") -> Iterator[str]:
    for name, kind in fields.items():
        field, value = path + name, part.get(name)
        if name not in part:
            yield f"{field} is missing"
        elif isinstance(kind, dict) and isinstance(value, dict):
            yield from _wrong_fields(value, kind, f"{field}.")
        elif isinstance(kind, dict) or not _has_type(value, kind):
            expected = "dict" if isinstance(kind, dict) else getattr(kind, "__name__", kind)
            yield f"{field} must be {expected}; got {value!r:.40}"
        elif isinstance(value, NUMBER) and not abs(value) <= sys.float_info.max:
            yield f"{field} must be a finite number"
        elif name == "date" and not _is_time(value):
            yield f"{field} must be like 2026-01-31T12:00:00+00:00; got {value!r:.40}"


def _has_type(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _is_time(value: str) -> bool:
    try:
        return bool(datetime.fromisoformat(value).astimezone(UTC))
    except (ValueError, OverflowError):
        return False


def _wrong_curves(data: Mapping[str, Any]) -> Iterator[str]:
    """Compare the shape of each curve with what its axes count."""
    arrays = {name: _finite_array(curve) for name, curve in data["curves"].items()}
    for name, array in arrays.items():
        if array is None:
            yield f"curves.{name} must be a list of finite numbers, or of lists equal in length"
    config, spectra = data["config"], data["provenance"]["spectra"]
    sizes = {axis: config[axis] for axis in ("steps", "layers", "heads")}
    sizes |= {axis: len(spectra[axis]) for axis in ("matrices", "quantiles")}
    for axis, name in {"validations": "valid_step", "spectra": "spectrum_step"}.items():
        sizes[axis] = None if arrays.get(name) is None else len(arrays[name])
    if sizes["validations"] == 0:
        yield "curves.valid_step is empty: a run starts with a validation"
    for name, axes in (CURVES | OPTIONAL_CURVES).items():
        expected = tuple(sizes[axis] for axis in axes)
        if name not in arrays:
            if name in CURVES:
                yield f"curves.{name} is missing"
        elif arrays[name] is not None and None not in expected and arrays[name].shape != expected:
            got = arrays[name].shape
            yield f"curves.{name} must have shape {expected}, ({', '.join(axes)}); got {got}"


def _finite_array(values: Any) -> np.ndarray | None:
    """Return an array of finite numbers as float64, None for anything else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of unequal length
        return None
    numeric = array.ndim > 0 and array.dtype.kind in "iuf" and np.isfinite(array).all()
    return array.astype(np.float64) if numeric else None


@contextmanager
def write_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, and rename it to ``path`` if the block succeeds.

    Readers of ``path`` see the old content or the new, never a part or a mixture, and a write that
    fails leaves the old content. A link is followed: what it points to is replaced. Raises OSError
    as `check_writable` does, and with the cause when the disk is full.
    """
    target = check_writable(path)
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # otherwise a power cut could leave an empty file
        temporary.replace(target)
    except (OSError, RuntimeError) as error:
        cause = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__  # torch.save raises RuntimeError for a full disk
        if cause is None:
            raise
        raise _cannot_write(target, cause) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> Path:
    """Create the folder of ``path``, check that a file can be written there, and follow links.

    Raises OSError where ``path`` is a folder, device or pipe, or where its folder is read-only.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            raise OSError("it is a folder, device or pipe, not a regular file")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent) as probe:
            probe.write(b"room for a few bytes")
    except OSError as error:
        raise _cannot_write(target, error) from error
    return target


def _cannot_write(target: Path, cause: OSError) -> OSError:
    intact = "; the previous file is intact" if target.is_file() else ""
    return OSError(
        f"cannot write {target.name} in {str(target.parent)!r}: {cause.strerror or cause}{intact}. "
        "Free some space, or choose another file in a folder that you may write to"
    )
