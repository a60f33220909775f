"""A training's whole state in one file: written atomically, checked, and read back exactly.

The schedule and the batches follow from the step's number, so that they need no state of their own.
"""

import fcntl
import glob
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from muon_lab.runs.record import check_writable, write_atomically
from muon_lab.training.config import OPTIMIZERS
from muon_lab.training.ranks import first_rank, like, whole
from muon_lab.training.state import Training

FIELDS = ("step", "seconds", "optimizer_seconds", "curves", "samples")
# Settings in which the run that saved and the run that continues may differ.
MAY_DIFFER = {"device", "accumulate", "compile", "corpus", "shard"}  # the text by its hash
START_OVER = "start without --resume, with another --checkpoint"


def save_checkpoint(training: Training, path: str | Path) -> None:
    """Write a training's state to ``path``, whole or not at all; see `write_atomically`.

    Every rank must call it; the first one writes what all of them hold.
    """
    state = _state(training)

    def write() -> None:
        with write_atomically(path) as file:
            torch.save(state, file)

    first_rank(write)


def _state(training: Training) -> dict[str, Any]:
    # Batches and samples have generators of their own, by seed; a model's dropout would use these.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {name: getattr(training, name) for name in FIELDS} | {
        "run": asdict(training.config) | {"corpus sha256": training.corpus.sha256},
        "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
        "model": tree_map(whole, training.model.state_dict()),
        "optimizer": tree_map(whole, training.optimizer.state_dict()),
    }


@contextmanager
def reserve_checkpoint(path: str | Path | None, resume: bool) -> Iterator[None]:
    """Keep a checkpoint's path for one run, before it starts and until it ends.

    Raises OSError for a path that cannot be written, and ValueError for one that another run is
    using, and for one that exists and is not to be resumed.
    """
    if path is None:
        if resume:
            raise ValueError("--resume (resume=True) needs --checkpoint, the file to continue from")
        yield
        return
    target = check_writable(path)
    lock = target.with_name(target.name + ".lock")
    with lock.open("w") as file:
        _lock(file, target.name)
        for part in target.parent.glob(f"{glob.escape(target.name)}.*.part"):
            part.unlink()  # of a run that was killed while it saved
        try:
            if target.exists() and not resume:
                raise ValueError(
                    f"checkpoint {target.name} exists already: continue from it with --resume "
                    "(resume=True), choose another --checkpoint, or delete it"
                )
            yield
        finally:
            lock.unlink(missing_ok=True)


def _lock(file: TextIO, name: str) -> None:
    try:
        fcntl.flock(
            file, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # released when the process ends, killed too
        if not os.fstat(file.fileno()).st_nlink:  # its last owner has just removed it
            raise BlockingIOError
    except BlockingIOError:
        raise ValueError(
            f"checkpoint {name} is in use by another run: wait until that ends, or choose another "
            "--checkpoint"
        ) from None
    except OSError:
        pass  # a file system without locks


def load_checkpoint_(training: Training, path: str | Path) -> None:
    """Continue from a checkpoint; raise ValueError for one that is damaged or of a different run.

    A refused checkpoint leaves the training as it was.
    """
    path = Path(path)
    state = _read(path)
    _check_same_run(path, state["run"], _state(training)["run"])
    wrong = _wrong_parts(state, training)
    if wrong:
        raise ValueError(
            f"checkpoint {path.name} does not fit this version of muon_lab (its "
            f"{', '.join(wrong)}): continue with the version that wrote it, or {START_OVER}"
        )
    own = training.model.state_dict()
    weights = {name: like(value, own[name]) for name, value in state["model"].items()}
    training.model.load_state_dict(weights)
    training.optimizer.load_state_dict(_sharded(state["optimizer"], training.optimizer))
    for name in FIELDS:
        setattr(training, name, state[name])
    torch.set_rng_state(state["random"]["cpu"])
    for device, random in enumerate(state["random"]["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(random, device)


def _sharded(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Shard a saved state as the optimizer's parameters are, in their order."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    shard = {number: partial(like, own=p) for number, p in enumerate(params)}
    state = {number: tree_map(shard[number], values) for number, values in saved["state"].items()}
    return saved | {"state": state}


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ValueError(
            f"there is no checkpoint {path.name}: start without --resume, or choose another "
            "--checkpoint"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare the checksums
        if damaged:
            raise ValueError(f"wrong checksum of {damaged}")
        # In main memory: loading moves each tensor to where the model or the optimizer has its own.
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: state[name] for name in (*FIELDS, "run", "random", "model", "optimizer")}
    except Exception as error:  # whatever a file that is no checkpoint makes its readers raise
        raise ValueError(
            f"checkpoint {path.name} is damaged or not a checkpoint of muon_lab "
            f"({type(error).__name__}): choose an intact one, or {START_OVER}"
        ) from error


def _check_same_run(path: Path, saved: Any, asked: dict[str, Any]) -> None:
    saved = saved if isinstance(saved, dict) else {}
    different = [
        name for name in asked if name not in MAY_DIFFER and saved.get(name) != asked[name]
    ]  # fmt: skip
    if not different:
        return
    values = "; ".join(f"{name} {saved.get(name)!r}, not {asked[name]!r}" for name in different)
    text = f", the text {saved.get('corpus')!r}" if "corpus sha256" in different else ""
    raise ValueError(
        f"checkpoint {path.name} belongs to a different run: it has {values}. To continue it, ask "
        f"for what it has{text}; or {START_OVER}"
    )


def _wrong_parts(state: dict[str, Any], training: Training) -> list[str]:
    """Name the parts of a saved state that this training could not continue with."""
    own, step = _state(training), state["step"]
    del own["run"], own["random"]["cuda"]  # compared already; a machine may have more GPUs
    if step and training.config.optimizer in OPTIMIZERS:  # of your own nothing is known
        own["optimizer"]["state"] = dict(enumerate(_optimizer_tensors(training.optimizer)))
    wrong = [name for name, part in own.items() if not _fits(state[name], part)]
    if "model" not in wrong and len(state["model"]) != len(own["model"]):
        wrong.append("model")
    if "curves" not in wrong:
        curves = state["curves"]
        if len(curves.get("loss", [])) != step or not all(map(_is_finite, curves.values())):
            wrong.append("curves")
    return wrong


def _fits(saved: Any, own: Any) -> bool:
    """Tell whether a saved value is of the same kind as the training's own, and all in it too."""
    if isinstance(own, Tensor):
        return isinstance(saved, Tensor) and (saved.shape, saved.dtype) == (own.shape, own.dtype)
    if isinstance(own, dict):
        return isinstance(saved, dict) and all(
            name in saved and _fits(saved[name], value) for name, value in own.items()
        )
    if isinstance(own, list):
        return isinstance(saved, list) and len(saved) == len(own) and all(map(_fits, saved, own))
    return type(saved) is type(own)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[dict[str, Tensor]]:
    """Yield, per parameter, tensors like those that a step leaves in the optimizer's state."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if group.get("use_muon"):
                yield {"momentum_buffer": p}
            else:
                yield {"exp_avg": p, "exp_avg_sq": p, "step": torch.tensor(0.0)}


def _is_finite(curve: Any) -> bool:
    try:
        return bool(np.isfinite(np.array(curve, dtype=float)).all())
    except (TypeError, ValueError):
        return False
