"""The optimizers that runs compare, and the schedules of their learning rates."""

import math

import torch

from muon_lab.clip import MuonClip
from muon_lab.model.gpt import GPT
from muon_lab.muon import Muon, split_parameters
from muon_lab.training.config import TrainConfig

BETAS = (0.9, 0.95)  # AdamW's, alone or beside Muon


def make_optimizer(model: GPT, config: TrainConfig) -> torch.optim.Optimizer:
    """Make AdamW for every parameter, or Muon for hidden matrices and AdamW for all others."""
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        fused = True if "cuda" in config.device else None  # torch's fastest on CUDA
        optimizer = torch.optim.AdamW(model.parameters(), betas=BETAS, fused=fused, **options)
    else:
        groups = split_parameters(model)
        for group in groups:
            if not group["use_muon"]:
                group |= {"lr": config.adamw_lr, "betas": BETAS}
        options["adjust_lr_fn"] = "match_rms_adamw"
        if config.optimizer == "muonclip":
            optimizer = MuonClip(model, params=groups, tau=config.tau, **options)
        else:
            optimizer = Muon(groups, **options)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


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
