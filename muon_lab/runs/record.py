"""One run's record: what was asked, where it ran, what every step gave; one small text file each.

Curves are rounded to six digits when the record is made, so that a saved and loaded record is the
very record that was in memory. What a file must hold stands in ``schema.py``.
"""

import json
import math
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from muon_lab.runs.files import whole_file
from muon_lab.runs.schema import CURVES, VERSIONS, faults

DIGITS = 6
AXES = {"bytes": "valid_bytes", "steps": "valid_step", "seconds": "valid_seconds"}


@dataclass(frozen=True, eq=False)
class Run:
    """Keep one training run's configuration, provenance, curves, samples and costs.

    Curves every run has: ``loss`` (steps,), nats per byte on each step's own batch; and, at each
    validation, ``valid_step``, ``valid_loss`` in nats per byte, ``valid_bytes`` read so far and
    ``valid_seconds`` of training so far, validation excluded. Runs that watch attention have
    ``max_logit``, and those that clip it ``gamma``, both (steps, layers, heads). Those of version 2
    have ``grad_norm`` (steps,) and, at ``spectrum_step``, the spectra of ``spectra.py``.
    """

    config: dict[str, Any]
    provenance: dict[str, Any]
    curves: dict[str, np.ndarray]
    samples: dict[str, str] = field(default_factory=dict)  # text the model wrote: before, after
    costs: dict[str, Any] = field(default_factory=dict)  # what it took; empty in version 1

    def __post_init__(self) -> None:
        """Check that the curves are there and finite, and round them."""
        missing = [name for name in CURVES if name not in self.curves]
        if missing:
            raise ValueError(
                f"the curves {', '.join(missing)} are missing: a run needs {', '.join(CURVES)}; "
                "record it again with python -m muon_lab.training --save FILE"
            )
        for name, values in self.curves.items():
            curve = np.asarray(values, dtype=np.float64)
            if not np.isfinite(curve).all():
                raise ValueError(f"curve {name!r} holds NaN or Inf: a run ends before such a step")
            rounded = [float(f"{value:.{DIGITS}g}") for value in curve.flat]
            self.curves[name] = np.array(rounded).reshape(curve.shape)

    @property
    def label(self) -> str:
        """Name the run by what tells it from others: optimizer, learning rate, seed."""
        return "{optimizer} lr {lr:g} seed {seed}".format(**self.config)

    @property
    def final_loss(self) -> float:
        """The last validation loss, nats per byte."""
        return float(self.curves["valid_loss"][-1])

    @property
    def bits_per_byte(self) -> float:
        """The last validation loss in bits per byte."""
        return self.final_loss / math.log(2)

    @property
    def seconds(self) -> float:
        """Seconds of training, validation excluded."""
        return float(self.curves["valid_seconds"][-1])

    def to_loss(self, target: float, axis: str = "bytes") -> float | None:
        """Return the bytes, steps or seconds at which the validation loss first met ``target``.

        Between two validations the curve is taken as straight; None where it never got there.
        """
        losses, along = self.curves["valid_loss"], self.curves[AXES[axis]]
        met = np.flatnonzero(losses <= target)
        if not met.size:
            return None
        after = met[0]
        if after == 0:
            return float(along[0])
        before = after - 1
        share = (losses[before] - target) / (losses[before] - losses[after])
        return float(along[before] + share * (along[after] - along[before]))

    def save(self, path: str | Path) -> Path:
        """Write the record beside ``path`` and rename it into place; one curve a line."""
        path = Path(path)
        head = {"format": "muon_lab run", "version": VERSIONS[-1]}
        head |= {"config": self.config, "provenance": self.provenance}
        head |= {"samples": self.samples, "costs": self.costs}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        curves = [f"  {json.dumps(key)}: {_numbers(value)}" for key, value in self.curves.items()]
        text = "{\n" + ",\n".join(lines) + ',\n"curves": {\n' + ",\n".join(curves) + "\n}}\n"
        with whole_file(path) as file:
            file.write(text.encode())
        return path


def _numbers(curve: np.ndarray) -> str:
    """Write an array as JSON, whole numbers without their '.0'."""
    text = json.dumps(curve.tolist(), separators=(",", ":"))
    return text.replace(".0,", ",").replace(".0]", "]")


def load(path: str | Path) -> Run:
    """Read a run file, or say what is wrong with it and what would work."""
    path = Path(path)
    again = "record it again with python -m muon_lab.training --save FILE"
    if not path.is_file():
        near = sorted(other.name for other in path.parent.glob("*.json"))
        raise ValueError(f"no run file {path.name}; beside it: {', '.join(near) or 'no run files'}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is cut short or no run file ({error}); {again}") from error
    if not isinstance(data, dict) or data.get("format") != "muon_lab run":
        raise ValueError(f"{path.name} is JSON but no run file of muon_lab; {again}")
    if data.get("version") not in VERSIONS:
        raise ValueError(
            f"{path.name} has version {data.get('version')!r} and this muon_lab reads "
            f"{' and '.join(map(str, VERSIONS))}: update muon_lab, or {again}"
        )
    wrong = list(faults(data))
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{path.name}: {wrong[0]}{more}; {again}")
    try:
        parts = {key: data[key] for key in ("config", "provenance", "curves", "samples")}
        return Run(**parts, costs=data.get("costs", {}))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def load_all(folder: str | Path, pattern: str = "*.json") -> list[Run]:
    """Read every run file of a folder whose name fits ``pattern``, sorted by name."""
    paths = sorted(Path(folder).glob(pattern))
    if not paths:
        raise ValueError(f"no run file named {pattern} in {Path(folder).name!r}")
    return [load(path) for path in paths]


def here() -> dict[str, Any]:
    """Say when, with which Python and from which commit of the package a run is made."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "python": platform.python_version(), "commit": _commit()}


def processor() -> str:
    """Name the processor as Linux does, or by its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """Name the clone's commit, "+ changes" if the package was edited since.

    Where there is no clone or no git, as on a machine that got a copy of the files, it is what the
    variable MUON_LAB_COMMIT says, or None.
    """
    package, told = Path(__file__).parents[1], os.environ.get("MUON_LAB_COMMIT")
    if not (package.parent / ".git").exists():
        return told
    try:
        ask = partial(subprocess.run, cwd=package, capture_output=True, text=True, check=True)
        commit = ask(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
        edited = ask(["git", "status", "--porcelain", "--untracked-files=no", "."]).stdout
    except (OSError, subprocess.CalledProcessError):
        return told
    return commit + " + changes" * bool(edited)
