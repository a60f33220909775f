"""What came after Muon: a family of optimizers, each one change to the same rule.

Every member is a subclass of `Muon` that changes `Muon.update_`, the rule for a stack of matrices
of one shape. Groups, state, stacking and AdamW for all other parameters stay Muon's, and members
may be combined: ``class Both(NorMuon, Hyperball)``. Where Muon's own options can say the change, it
needs no class: `per_head` returns such options.
"""

import torch
from torch import Tensor, nn

from muon_lab.muon import Muon

TINY = 1e-30  # divides what is zero


def per_head(model: nn.Module) -> dict[str, dict]:
    """Return ``matrices`` for `split_parameters` that make each head's rows a matrix of their own.

    An attention layer says in ``head_rows`` which of its weights stack how many heads. Kimi K3,
    arXiv 2607.24653, section 2.5; GLM-5's Muon Split, arXiv 2602.15763.

    >>> from muon_lab.model.attention import MultiHeadAttention
    >>> per_head(nn.Sequential(MultiHeadAttention(width=32, heads=4, kv_heads=2)))
    {'0.query': {'heads': 4}, '0.key': {'heads': 2}, '0.value': {'heads': 2}}
    """
    return {
        f"{path}.{name}".lstrip("."): {"heads": heads}
        for path, module in model.named_modules()
        for name, heads in getattr(module, "head_rows", {}).items()
    }


class NorMuon(Muon):
    """Give every row of an update the same size in the long run; arXiv 2510.05491.

    A row of a Linear's weight makes one output, a neuron. Its mean square in past updates divides
    it, and the whole update keeps its norm. It remembers one number for each row.
    """

    remembers = True
    row_beta = 0.95

    def update_(self, params, grads, buffers, memories, *, orthogonalize, **rule) -> None:
        """Divide each row by the root of its average mean square."""

        def balanced(directions: Tensor) -> Tensor:  # (k, *shape)
            updates = orthogonalize(directions)
            squares = updates.float().square().mean(-1, keepdim=True)  # (k, ..., rows, 1)
            rows = updates / (average_(memories, "rows", squares, self.row_beta).sqrt() + 1e-8)
            return rows * (_norms(updates) / _norms(rows).clamp_min(TINY))

        super().update_(params, grads, buffers, memories, orthogonalize=balanced, **rule)


class Hyperball(Muon):
    """Hold the norm of every weight where it began, in place of decay; arXiv 2606.16899.

    A step moves a weight W by ``lr``·‖W‖ and pulls it back to its norm: ``lr`` is about the angle
    by which W turns. Scale and decay have no effect. A weight of zeros stays zero.
    """

    def update_(self, params, *others, orthogonalize, **rule) -> None:
        """Step by a share of each weight's norm, then restore the norm."""
        norms = _norms(torch.stack(params))  # (k, 1, ...)

        def sized(directions: Tensor) -> Tensor:  # (k, *shape)
            updates = orthogonalize(directions)
            return updates * (norms / _norms(updates).clamp_min(TINY))

        rule |= {"weight_decay": 0.0, "scale": 1.0}
        super().update_(params, *others, orthogonalize=sized, **rule)
        factors = norms / _norms(torch.stack(params)).clamp_min(TINY)
        torch._foreach_mul_(params, factors.unbind())


class Whitening(Muon):
    """Whiten with a memory of past gradients, as Shampoo and SOAP do; arXiv 2409.11321.

    On the smaller side of each matrix, say the rows, L averages G·Gᵀ, and the update is L^(-1/2)
    times the direction. Without memory and momentum L is G·Gᵀ and the update is G's polar factor:
    that is Muon. With them it takes one eigendecomposition per matrix and step.
    """

    remembers = True
    memory = 0.95

    def update_(self, params, grads, buffers, memories, **rule) -> None:
        """Replace the orthogonalization."""

        def whiten(directions: Tensor) -> Tensor:  # (k, rows, columns)
            tall = directions.shape[-2] > directions.shape[-1]
            now, ahead = torch.stack(grads).double(), directions.double()
            now, ahead = (now.mT, ahead.mT) if tall else (now, ahead)
            values, vectors = torch.linalg.eigh(
                average_(memories, "squares", now @ now.mT, self.memory)
            )
            values = values.clamp_min(1e-12 * values[..., -1:]).clamp_min(TINY)
            update = (vectors / values.sqrt()[..., None, :]) @ (vectors.mT @ ahead)
            return update.mT if tall else update

        super().update_(params, grads, buffers, memories, **rule | {"orthogonalize": whiten})


class SpectralMuon(Muon):
    """Scale updates by √(rows/columns), under which a learning rate should suit every width."""

    def add_param_group(self, param_group: dict) -> None:
        """Add a group with that scale."""
        super().add_param_group(param_group | {"adjust_lr_fn": "spectral_unclamped"})


def average_(memories: list[dict], name: str, values: Tensor, beta: float) -> Tensor:
    """Average ``values`` (k, ...) into the memories of k matrices; return the averages.

    An average starts at its first value.

    >>> memories = [{}, {}]
    >>> _ = average_(memories, "size", torch.tensor([2.0, 8.0]), beta=0.75)
    >>> average_(memories, "size", torch.tensor([6.0, 8.0]), beta=0.75)
    tensor([3., 8.])
    """
    for memory, value in zip(memories, values, strict=True):
        memory[name] = value.lerp(memory.get(name, value), beta)
    return torch.stack([memory[name] for memory in memories])


def _norms(stack: Tensor) -> Tensor:
    """Return the Frobenius norm of each of k matrices, in a shape that divides the stack."""
    norms = stack.flatten(1).norm(dim=1)
    return norms.view(-1, *[1] * (stack.ndim - 1))
