"""Matrices whose singular values the explorers start from."""

import functools
import itertools

import numpy as np

OWN = "your own"


def as_real(values, name: str = "matrix") -> np.ndarray:
    """Return numbers of any real type, a torch tensor's too, as an array of float64 of its own.

    Raises ValueError, with ``name`` in it, for complex numbers and for what is no array.
    """
    if hasattr(values, "detach"):  # a torch tensor: it may hang on a graph, or be in bfloat16
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        return np.array(values).astype(float, casting="same_kind")
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of real numbers, got {values!r:.80}") from None


def as_matrix(matrix) -> np.ndarray:
    """Return a matrix as an array of float64.

    Raises ValueError for anything but a finite matrix with at least one entry that is not zero.
    """
    array = as_real(matrix)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"matrix must have two sides of at least 1, got shape {array.shape}; "
            "for a list of singular values pass numpy.diag(values)"
        )
    if not np.isfinite(array).all():
        wrong = int((~np.isfinite(array)).sum())
        raise ValueError(f"matrix must be finite, got {wrong} entries that are NaN or infinite")
    if not array.any():
        raise ValueError("matrix is zero everywhere: it has no direction to orthogonalize")
    return array


def singular_values(matrix) -> np.ndarray:
    """Return a matrix's singular values after division by its Frobenius norm, largest first.

    Raises ValueError as `as_matrix` does.

    >>> singular_values(np.diag([3.0, 4.0])).tolist()
    [0.8, 0.6]
    """
    array = as_matrix(matrix)
    array = array / np.abs(array).max()  # so that no square under- or overflows
    return np.linalg.svd(array / np.linalg.norm(array), compute_uv=False)


def gaussian() -> np.ndarray:
    """Return a (64, 64) matrix of independent Gaussian numbers."""
    return np.random.default_rng(0).normal(size=(64, 64))


def nearly_low_rank() -> np.ndarray:
    """Return a (64, 64) matrix of rank four with a thousandth of noise."""
    generator = np.random.default_rng(0)
    tall, wide = generator.normal(size=(64, 4)), generator.normal(size=(4, 64))
    return tall @ wide + 1e-3 * generator.normal(size=(64, 64))


@functools.cache
def momentum(steps: int = 20) -> np.ndarray:
    """Return Muon's momentum (256, 64) for one matrix of a small transformer, after real steps.

    The transformer reads the text that the course trains on; it takes a few seconds, once.
    """
    import torch  # here, since most explorers need no torch

    from muon_lab.model.gpt import GPT, GPTConfig
    from muon_lab.muon import Muon
    from muon_lab.split import split_parameters
    from muon_lab.training import loop
    from muon_lab.training.data import batches, load_corpus

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(GPTConfig(layers=2, width=64, heads=4, context=64))
    optimizer = Muon(split_parameters(model), lr=1e-2, adjust_lr_fn="match_rms_adamw")
    stream = batches(load_corpus().train, batch=8, context=64, seed=0)
    for _ in loop.steps(model, optimizer, itertools.islice(stream, steps)):
        pass
    weight = model.blocks[-1].mlp.up.weight
    return optimizer.state[weight]["momentum_buffer"].numpy().astype(float)


MATRICES = {"gaussian": gaussian, "nearly low-rank": nearly_low_rank, "momentum": momentum}
