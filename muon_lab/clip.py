"""QK-Clip: after each step, scale down the heads whose attention logits have grown past τ.

Kimi K2, arXiv 2507.20534, section 2.1. The attention modules own the operation, since each knows
which of its weights make a head's logits; this file finds them, agrees on the maxima over all
ranks, and ends an optimizer's step with the clip. A model is anything with modules that have
``max_logits`` and ``clip_qk_(tau)``.
"""

import inspect
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from muon_lab.muon import Muon, split_parameters


def qk_clip_(model: nn.Module, tau: float = 100.0) -> dict[str, Tensor]:
    """Clip every attention layer in place; return each layer's γ (heads,) under its name.

    A head with γ < 1 had a largest logit of τ/γ; on the same inputs it is now τ. Call it after
    the optimizer's step, on every rank: under torch.distributed the maxima of all ranks count.
    Before any weight is touched it raises ValueError for a model without such layers,
    RuntimeError for a layer without a forward, FloatingPointError for maxima of NaN or Inf.

    >>> from muon_lab.model.gpt import GPT, GPTConfig
    >>> model = GPT(GPTConfig(layers=1, width=32, heads=2, context=8))
    >>> _ = model(torch.zeros(1, 8, dtype=torch.long))
    >>> qk_clip_(model, tau=100.0)
    {'blocks.0.attention': tensor([1., 1.])}
    """
    layers = _clippable(model, tau)
    _agree_on_maxima(layers)
    return {name: layer.clip_qk_(tau) for name, layer in layers.items()}


def _clippable(model: nn.Module, tau: float) -> dict[str, nn.Module]:
    """Find the layers that can be clipped, by their two members; refuse what cannot be clipped."""
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not tau > 0:
        raise ValueError(f"tau must be a positive logit, for example 100.0; got {tau!r}")
    if not isinstance(model, nn.Module):
        raise TypeError(f"QK-Clip works on a model's layers; got {type(model).__name__}")
    layers = {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "clip_qk_") and hasattr(module, "max_logits")
    }
    if not layers:
        raise ValueError(
            "no module of this model has both max_logits and clip_qk_(tau), so there is nothing to "
            "clip; the classes of muon_lab.model.attention have them"
        )
    normed = [name for name, layer in layers.items() if getattr(layer, "qk_norm", False)]
    if normed:
        raise ValueError(
            f"QK-Clip has no effect in {', '.join(normed)}: with qk_norm=True the logits ignore "
            "the scale of the query and key weights. Use Muon there, or drop qk_norm"
        )
    return layers


def _agree_on_maxima(layers: dict[str, nn.Module]) -> None:
    """Give every rank the largest maxima of all ranks; refuse, on every rank, what one lacks."""
    missing = [name for name, layer in layers.items() if layer.max_logits is None]
    maxima = [layer.max_logits for name, layer in layers.items() if name not in missing]
    wrong = bool(maxima) and not torch.cat(maxima).isfinite().all().item()
    distributed = dist.is_available() and dist.is_initialized()
    if distributed:
        device = next(next(iter(layers.values())).parameters()).device
        flags = torch.tensor([bool(missing), wrong], dtype=torch.uint8, device=device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        missing, wrong = missing or ["another rank"] * flags[0].item(), flags[1].item()
    if missing:
        raise RuntimeError(
            f"no logits were recorded since the last clip in {', '.join(missing)}: run a forward "
            "in training mode, with gradients and record_max_logits(True), before each clip"
        )
    if wrong:
        raise FloatingPointError(
            "a largest logit is NaN or Inf, which scaling weights cannot repair: skip this step, "
            "or go back to a checkpoint and lower lr"
        )
    if distributed:
        together = torch.cat(maxima)  # (layers · heads,)
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
        parts = together.split([len(each) for each in maxima])
        for layer, largest in zip(layers.values(), parts, strict=True):
            layer.max_logits = largest


class MuonClip(Muon):
    """Muon with decay, AdamW-sized updates, and a ``step`` that ends with the clip.

    Takes the model itself, since the clip works on layers and not on parameters. ``params`` may
    give parameter groups; by default they are ``split_parameters(model)``. All other options are
    Muon's. After each step ``gammas`` and ``max_logits`` hold each layer's (heads,) by name: what
    the clip did, and the logits that it was computed from (of the forwards since the last step, on
    all ranks). Only forwards in training mode with gradients enabled count.

    ``step`` raises, before any weight moves, as `qk_clip_` does. The model must record its maxima,
    as a new GPT does; one with ``qk_norm`` is refused.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float | Tensor = 1e-3,
        *,
        tau: float = 100.0,
        params: list[dict] | None = None,
        adjust_lr_fn: str | None = "match_rms_adamw",
        **options,
    ) -> None:
        """Collect the model's parameter groups; see the class."""
        _clippable(model, tau)
        groups = split_parameters(model) if params is None else params
        super().__init__(groups, lr=lr, adjust_lr_fn=adjust_lr_fn, **options)
        self.model, self.tau = model, tau
        self.gammas: dict[str, Tensor] = {}
        self.max_logits: dict[str, Tensor] = {}

    def __getstate__(self) -> dict:
        """Copy and pickle the model along, so that a copy clips its own."""
        kept = ("model", "tau", "gammas", "max_logits")
        return super().__getstate__() | {name: getattr(self, name) for name in kept}

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """Update every parameter, then clip; return the closure's loss."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        layers = _clippable(self.model, self.tau)
        recorded = any(layer.max_logits is not None for layer in layers.values())
        if recorded or any(float(group["lr"]) for group in self.param_groups):
            _agree_on_maxima(layers)
        else:  # a step at lr 0 moves nothing: torch.distributed.checkpoint makes the state by one
            layers = {}
        # torch wraps each class's step to run hooks; Muon's bare one keeps them from running twice.
        inspect.unwrap(Muon.step)(self)
        self.max_logits = {name: layer.max_logits for name, layer in layers.items()}
        self.gammas = {name: layer.clip_qk_(self.tau) for name, layer in layers.items()}
        return loss
