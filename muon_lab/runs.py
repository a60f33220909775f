"""A run's record: what was asked, where it ran, what every step gave; saved as one small text file.

Curves are rounded to six digits when the record is made, so that a saved and loaded record is the
very record that was in memory.
"""

import json
import math
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

VERSION = 2  # 1 had no costs; it is still read
READS = (1, 2)
NEEDED = ("loss", "valid_step", "valid_loss", "valid_bytes", "valid_seconds")
DIGITS = 6


@dataclass(frozen=True, eq=False)
class Run:
    """Keep one training run's configuration, provenance, curves, samples and costs.

    Curves every run has: ``loss`` (steps,), nats per byte on each step's own batch; and, at each
    validation, ``valid_step``, ``valid_loss`` in nats per byte, ``valid_bytes`` read so far and
    ``valid_seconds`` of training so far, validation excluded. Runs that watch attention have
    ``max_logit``, and those that clip it ``gamma``, both (steps, layers, heads).
    """

    config: dict[str, Any]
    provenance: dict[str, Any]
    curves: dict[str, np.ndarray]
    samples: dict[str, str] = field(default_factory=dict)  # text the model wrote: before, after
    costs: dict[str, Any] = field(default_factory=dict)  # what it took; empty in version 1

    def __post_init__(self) -> None:
        """Check that the curves are there and finite, and round them."""
        missing = [name for name in NEEDED if name not in self.curves]
        if missing:
            raise ValueError(
                f"the curves {', '.join(missing)} are missing: a run needs {', '.join(NEEDED)}; "
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
        """Return the bytes or seconds at which the validation loss first met ``target``.

        Between two validations the curve is taken as straight; None where it never got there.
        """
        losses, along = self.curves["valid_loss"], self.curves[f"valid_{axis}"]
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
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"format": "muon_lab run", "version": VERSION}
        head |= {"config": self.config, "provenance": self.provenance}
        head |= {"samples": self.samples, "costs": self.costs}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        curves = [f"  {json.dumps(key)}: {_numbers(value)}" for key, value in self.curves.items()]
        text = "{\n" + ",\n".join(lines) + ',\n"curves": {\n' + ",\n".join(curves) + "\n}}\n"
        beside = path.with_name(path.name + ".part")
        beside.write_text(text, encoding="utf-8")
        return beside.replace(path)


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
    except ValueError as error:
        raise ValueError(f"{path.name} is cut short or no run file ({error}); {again}") from error
    if not isinstance(data, dict) or data.get("format") != "muon_lab run":
        raise ValueError(f"{path.name} is JSON but no run file of muon_lab; {again}")
    if data.get("version") not in READS:
        raise ValueError(
            f"{path.name} has version {data.get('version')!r} and this muon_lab reads "
            f"{' and '.join(map(str, READS))}: update muon_lab, or {again}"
        )
    try:
        parts = {key: data[key] for key in ("config", "provenance", "curves", "samples")}
        return Run(**parts, costs=data["costs"] if data["version"] > 1 else {})
    except KeyError as error:
        raise ValueError(f"{path.name} has no {error} part; {again}") from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def load_all(folder: str | Path, pattern: str = "*.json") -> list[Run]:
    """Read every run file of a folder whose name fits ``pattern``, sorted by name."""
    paths = sorted(Path(folder).glob(pattern))
    if not paths:
        raise ValueError(f"no run file named {pattern} in {Path(folder).name!r}")
    return [load(path) for path in paths]


@dataclass(frozen=True)
class Comparison:
    """Tell how a challenger did against a baseline at the same seeds and bytes.

    ``gap`` is the baseline's mean final loss minus the challenger's, ``error`` its standard error
    from the seeds' spread (None with fewer than two seeds), both in nats per byte. The factors are
    how much more the baseline took to its own final loss than the challenger took to that loss:
    None where a challenger never got there, or where seconds come from different devices.
    """

    seeds: int
    gap: float
    error: float | None
    bytes_factor: float | None
    seconds_factor: float | None

    @property
    def verdict(self) -> str:
        """Claim a win only where the gap is more than three standard errors."""
        if self.error is None:
            return "no claim: one seed tells nothing of the spread"
        if abs(self.gap) <= 3 * self.error:
            return "no claim: the gap is within three standard errors"
        return "the challenger wins" if self.gap > 0 else "the baseline wins"


def compare(baseline: Sequence[Run], challenger: Sequence[Run]) -> Comparison:
    """Compare two optimizers' runs, which must share corpus, bytes and seeds."""
    ours, theirs = _setting(baseline), _setting(challenger)
    differ = [
        f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]
    ]
    if differ:
        raise ValueError(f"these runs cannot be compared, they differ in {'; '.join(differ)}")
    losses = [[run.final_loss for run in side] for side in (baseline, challenger)]
    count = len(losses[0])
    spread = [stdev(side) for side in losses] if count > 1 else None
    return Comparison(
        seeds=count,
        gap=mean(losses[0]) - mean(losses[1]),
        error=math.hypot(*spread) / math.sqrt(count) if spread else None,
        bytes_factor=_factor(baseline, challenger, "bytes"),
        seconds_factor=_factor(baseline, challenger, "seconds"),
    )


def _factor(baseline: Sequence[Run], challenger: Sequence[Run], axis: str) -> float | None:
    devices = {run.provenance.get("device") for run in (*baseline, *challenger)}
    target = mean(run.final_loss for run in baseline)
    needed = [run.to_loss(target, axis) for run in challenger]
    if None in needed or (axis == "seconds" and len(devices) > 1):
        return None
    return mean(float(run.curves[f"valid_{axis}"][-1]) for run in baseline) / mean(needed)


def _setting(side: Sequence[Run]) -> dict[str, list]:
    """What runs must share with those they are compared with."""
    return {
        "corpus": sorted({run.provenance["corpus"]["sha256"] for run in side}),
        "seeds": sorted(run.config["seed"] for run in side),
        "bytes": sorted({float(run.curves["valid_bytes"][-1]) for run in side}),
    }


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
    """Name the clone's commit, "+ changes" if the package was edited since; else None."""
    package = Path(__file__).parent
    if not (package.parent / ".git").exists():
        return None
    try:
        ask = partial(subprocess.run, cwd=package, capture_output=True, text=True, check=True)
        commit = ask(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
        edited = ask(["git", "status", "--porcelain", "--untracked-files=no", "."]).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + " + changes" * bool(edited)
