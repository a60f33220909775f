"""The optimizers that runs compare, your own among them, and the schedules of learning rates."""

import hashlib
import math
import runpy
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from muon_lab.after_muon import per_head
from muon_lab.clip import MuonClip
from muon_lab.model.gpt import GPT
from muon_lab.muon import Muon, split_parameters
from muon_lab.training.config import OPTIMIZERS, TrainConfig
from muon_lab.training.ranks import ranks

BETAS = (0.9, 0.95)  # AdamW's, alone or beside Muon


def make_optimizer(model: GPT, config: TrainConfig) -> torch.optim.Optimizer:
    """Make AdamW for every parameter, or Muon for hidden matrices and AdamW for all others.

    Your own gets the same groups as Muon; see `own_optimizer`.
    """
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        fused = True if "cuda" in config.device else None  # torch's fastest on CUDA
        optimizer = torch.optim.AdamW(model.parameters(), betas=BETAS, fused=fused, **options)
    else:
        groups = split_parameters(model, matrices=per_head(model) if config.per_head else None)
        for group in groups:
            rest = {"lr": config.adamw_lr, "betas": BETAS}
            group |= {"adjust_lr_fn": "match_rms_adamw"} if group["use_muon"] else rest
        shared = {"process_group": dist.group.WORLD} if ranks() > 1 and not config.shard else {}
        if config.optimizer == "muonclip":
            optimizer = MuonClip(model, params=groups, tau=config.tau, **shared, **options)
        elif config.optimizer == "muon":
            optimizer = Muon(groups, **shared, **options)
        else:
            optimizer = own_optimizer(config.optimizer, groups, **options)
            _check_own(config.optimizer, optimizer, model)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def own_optimizer(name: str, groups: list[dict], **options: float) -> torch.optim.Optimizer:
    """Make the optimizer that ``FILE.py:NAME`` names: ``NAME(groups, lr=..., weight_decay=...)``.

    ``groups`` are those of `split_parameters`: with ``use_muon=True`` the hidden matrices, with
    False the rest, which has a learning rate and betas of its own. NAME may be a class or a
    function. Raises ValueError that says which of file, name and call failed, and why.
    """
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise ValueError(f"optimizer {name}: there is no file {path!r} in {str(Path.cwd())!r}")
    try:
        found = runpy.run_path(path)
    except Exception as error:
        raise ValueError(f"optimizer {name}: the file raised {_words(error)}") from error
    make: Callable | None = found.get(attribute)
    if not callable(make):
        own = (n for n, v in found.items() if getattr(v, "__module__", "") == found["__name__"])
        offered = ", ".join(own) or "none"
        raise ValueError(f"optimizer {name}: no such class or function; in the file are: {offered}")
    try:
        return make(groups, **options)
    except Exception as error:
        raise ValueError(
            f"optimizer {name}: {attribute}(groups, lr=..., weight_decay=...) raised "
            f"{_words(error)}. It must take parameter groups, and lr and weight_decay by name"
        ) from error


def source_sha256(name: str) -> str | None:
    """Return the hash of the file with an optimizer of your own; None for the package's."""
    path = Path(name.rpartition(":")[0])
    package = Path(__file__).parents[1]
    if name in OPTIMIZERS or path.resolve().is_relative_to(package) or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_own(name: str, optimizer: object, model: GPT) -> None:
    """Refuse what is no optimizer, and one that leaves parameters out or has no learning rate."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(
            f"optimizer {name}: expected a torch.optim.Optimizer; got {type(optimizer).__name__}"
        )
    taken = {p for group in optimizer.param_groups for p in group["params"]}
    left = [n for n, p in model.named_parameters() if p not in taken]
    if left:
        raise ValueError(
            f"optimizer {name} leaves {', '.join(left[:3])}{' ...' * (len(left) > 3)} untrained: "
            "pass all groups on to Optimizer.__init__"
        )
    if any("lr" not in group for group in optimizer.param_groups):
        raise ValueError(
            f'optimizer {name}: the schedule sets group["lr"] before each step, and a group has '
            'none: put "lr" into the defaults'
        )


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def lr_factor(step: int, steps: int, schedule: str, warm_up: float = 1 / 20) -> float:
    """Return the share of the peak learning rate at a step, counted from 0.

    >>> [lr_factor(step, 100, "linear") for step in (0, 4, 52)]
    [0.2, 1.0, 0.5052631578947369]
    >>> [lr_factor(step, 100, "wsd") for step in (50, 80, 90)]
    [1.0, 1.0, 0.5]
    """
    rising = math.ceil(warm_up * steps)
    if step < rising:
        return (step + 1) / rising
    left = 1 - (step - rising) / (steps - rising)  # 1 … 0
    shapes = {
        "linear": left,
        "cosine": (1 - math.cos(math.pi * left)) / 2,
        "constant": 1.0,
        "wsd": min(1.0, 5 * (steps - step) / steps),  # warm-up, stable, decay over the last fifth
    }
    return shapes[schedule]
