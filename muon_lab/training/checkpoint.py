"""A training's whole state in one file: written beside and renamed into place, read back exactly.

Kept apart from ``training.py``, so that the loop there can be read without it. The schedule and the
batches follow from the step's number alone, so that the step says where in both a run stopped.
"""

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muon_lab.runs.files import check_writable, whole_file

KEPT = ("step", "seconds", "optimizer_seconds", "curves", "samples")
# May differ between the run that saved and the run that goes on. The corpus is known by its hash.
FREE = {"device", "accumulate", "compile", "corpus"}
AFRESH = "begin without --resume, under another --checkpoint"


def save_checkpoint(training: Any, path: str | Path) -> None:
    """Write a ``training.Training`` to ``path``, whole or not at all; see `files.whole_file`."""
    state = {name: getattr(training, name) for name in KEPT}
    state |= {"run": _identity(training), "random": _random_states()}
    state |= {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
    with whole_file(path) as file:
        torch.save(state, file)


def check_checkpoint(path: str | Path | None, resume: bool) -> None:
    """Refuse before the training what would end it, or what would cost an earlier one's state."""
    if path is None:
        if resume:
            raise ValueError("resume needs a checkpoint, the file to go on from")
        return
    path = Path(path)
    if path.is_file() and not resume:
        raise ValueError(
            f"checkpoint {path.name} is there already: go on from it with --resume (resume=True), "
            "or name another --checkpoint, or delete it"
        )
    check_writable(path)


def load_checkpoint_(training: Any, path: str | Path) -> None:
    """Go on from a checkpoint; refuse one that is missing, cut short or of another run.

    What it refuses it leaves as it was, and the training too. Raises ValueError.
    """
    path = Path(path)
    state = _read(path)
    _check_same_run(path, state["run"], _identity(training))
    try:
        training.model.load_state_dict(state["model"])
        training.optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"checkpoint {path.name} does not fit the model of this muon_lab: go on with the "
            f"muon_lab that wrote it, or {AFRESH}"
        ) from error
    for name in KEPT:
        setattr(training, name, state[name])
    _set_random_states(state["random"])


def _read(path: Path) -> dict[str, Any]:
    try:  # to main memory: loading puts each tensor where the model or the optimizer has its own
        state = torch.load(path, map_location="cpu", weights_only=True)
        parts = (*KEPT, "run", "random", "model", "optimizer")
        return {name: state[name] for name in parts}
    except FileNotFoundError:
        raise ValueError(
            f"there is no checkpoint {path.name}: begin without --resume, or name another "
            "--checkpoint"
        ) from None
    except (
        RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        raise ValueError(
            f"checkpoint {path.name} is cut short or none of muon_lab's ({type(error).__name__}): "
            f"name a whole one, or {AFRESH}"
        ) from error


def _check_same_run(path: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    different = [
        name for name in asked if name not in FREE and saved.get(name) != asked[name]
    ]  # fmt: skip
    if not different:
        return
    differ = "; ".join(f"{name} {saved.get(name)!r}, not {asked[name]!r}" for name in different)
    text = f", the text {saved.get('corpus')!r}" if "corpus sha256" in different else ""
    raise ValueError(
        f"checkpoint {path.name} is of another run: it has {differ}. To go on with it ask for "
        f"what it has{text}; or {AFRESH}"
    )


def _identity(training: Any) -> dict[str, Any]:
    """What must be equal for one run to go on where another stopped."""
    corpus = {"corpus": training.corpus.name, "corpus sha256": training.corpus.sha256}
    return asdict(training.config) | corpus


def _random_states() -> dict[str, Tensor | list[Tensor]]:
    """Where torch's generators are. Batches and samples have generators of their own, by seed."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)
