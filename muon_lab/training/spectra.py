"""Spectra of a few matrices' momentum, and of the update that the optimizer makes from it.

Is momentum nearly low-rank, and does Muon's update use the directions that are rare in it? Both are
read from the optimizer's state and the last step's gradients. Nothing is changed.
"""

import torch
from torch import Tensor, nn

from muon_lab.muon import Muon
from muon_lab.training.ranks import whole

QUANTILES = tuple(step / 10 for step in range(11))  # of the singular values, the smallest first
SPECTRA = ("momentum_spectrum", "update_spectrum", "rare_share", "rare_share_momentum")
PARTS = ("query", "query_content", "value", "output", "up", "down")


def watched_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return by name the matrices to measure: query, value, output and MLP of the middle block."""
    middle = f"blocks.{len(model.blocks) // 2}."
    ends = tuple(f".{part}.weight" for part in PARTS)
    return {
        name: p for name, p in model.named_parameters() if name.startswith(middle)
        and name.endswith(ends)
    }  # fmt: skip


def describe_spectra(model: nn.Module) -> dict[str, list]:
    """Name the axes of the curves that `spectra_of` returns, for a run's provenance."""
    return {"matrices": list(watched_matrices(model)), "quantiles": list(QUANTILES)}


@torch.no_grad()
def spectra_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list]:
    """Measure the watched matrices after a step, as plain lists.

    ``momentum_spectrum`` and ``update_spectrum`` (matrices, quantiles) are singular values divided
    by the largest. ``rare_share`` (matrices,) is the share of the update's energy ‖·‖² that lies in
    the momentum's rare directions, and ``rare_share_momentum`` the momentum's own share there. Rare
    are the singular vectors, on the matrix's smaller side, whose values are below the median: about
    half of all directions, so that an orthogonal update has a share of about a half.
    """
    found = {name: [] for name in SPECTRA}
    for parameter in watched_matrices(model).values():
        parts = momentum_and_update(optimizer, parameter)
        momentum, update = (wide(whole(part)).cpu() for part in parts)  # a GPU's SVD is slower
        U, S, _ = torch.linalg.svd(momentum, full_matrices=False)
        rare = U[:, S.quantile(0.5) > S]  # (m, about m/2)
        found["momentum_spectrum"].append(spectrum(S))
        found["update_spectrum"].append(spectrum(torch.linalg.svdvals(update)))
        found["rare_share"].append(share_within(rare, update))
        found["rare_share_momentum"].append(share_within(rare, momentum))
    return found


def momentum_and_update(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter
) -> tuple[Tensor, Tensor]:
    """Return a parameter's momentum and the direction of the last step, before scale and decay.

    For AdamW m̂ and m̂/(√v̂ + ε); for Muon the buffer B and its `Muon.direction`. Raises ValueError
    before the first step.
    """
    state = optimizer.state.get(parameter)  # indexing would make an entry
    if not state or parameter.grad is None:
        raise ValueError("there is no momentum yet: take a step, and measure before zero_grad")
    if isinstance(optimizer, Muon) and "momentum_buffer" in state:
        return state["momentum_buffer"], optimizer.direction(parameter)
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    (beta1, beta2), count = group["betas"], float(state["step"])
    momentum = state["exp_avg"] / (1 - beta1**count)
    variance = state["exp_avg_sq"] / (1 - beta2**count)
    return momentum, momentum / (variance.sqrt() + group["eps"])


def wide(matrix: Tensor) -> Tensor:
    """Return a matrix in float32, a tall one transposed, so that the rows are the smaller side."""
    return (matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix).float()


def spectrum(values: Tensor) -> list[float]:
    """Return singular values at QUANTILES, divided by the largest; zeros for a zero matrix.

    >>> spectrum(torch.tensor([4.0, 2.0, 1.0]))[::5]
    [0.25, 0.5, 1.0]
    """
    marks = torch.tensor(QUANTILES, device=values.device)
    return (values / values.max().clamp(min=torch.finfo().tiny)).quantile(marks).tolist()


def share_within(directions: Tensor, matrix: Tensor) -> float:
    """Return the share of a wide matrix's ‖·‖² along orthonormal columns (m, k); 0 for a zero one.

    >>> share_within(torch.eye(4)[:, 1:2], torch.eye(4))
    0.25
    """
    whole = matrix.square().sum()
    return ((directions.mT @ matrix).square().sum() / whole).item() if whole > 0 else 0.0
