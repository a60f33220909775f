"""A training's whole state in one file: written beside and renamed into place, read back exactly.

Kept apart from ``training.py``, so that the loop there can be read without it.
"""

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

KEPT = ("step", "seconds", "curves", "samples")
FREE = {"device"}  # may differ between the run that saved and the run that goes on


def save_checkpoint(training: Any, path: str | Path) -> None:
    """Write a ``training.Training`` to ``path``; an interrupted write leaves the old file whole."""
    path = Path(path)
    state = {name: getattr(training, name) for name in KEPT} | {"run": _identity(training)}
    state |= {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    torch.save(state, beside)
    beside.replace(path)


def load_checkpoint_(training: Any, path: str | Path) -> None:
    """Go on from a checkpoint; refuse one that is missing, cut short or of another run."""
    path = Path(path)
    mend = "begin without --resume, or name another --checkpoint"
    try:
        state = torch.load(path, map_location=training.config.device, weights_only=True)
        saved, asked = state["run"], _identity(training)
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint {path.name}: {mend}") from None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, TypeError) as error:
        what = type(error).__name__
        raise ValueError(
            f"checkpoint {path.name} is cut short or none of muon_lab's ({what}): {mend}"
        ) from error
    differ = [
        f"{name} {saved.get(name)!r}, not {value!r}" for name, value in asked.items()
        if name not in FREE and saved.get(name) != value
    ]  # fmt: skip
    if differ:
        raise ValueError(
            f"checkpoint {path.name} is of another run: it has {'; '.join(differ)}: {mend}"
        )
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    for name in KEPT:
        setattr(training, name, state[name])


def _identity(training: Any) -> dict[str, Any]:
    """What must be equal for one run to go on where another stopped."""
    return asdict(training.config) | {"corpus sha256": training.corpus.sha256}
