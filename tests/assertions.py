"""Assertions in the terms of the course; each shows what it got when it fails."""

import numpy as np


def as_array(value):
    """Convert an array or torch tensor to a NumPy array, floats of a tensor to float64."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    return np.asarray(value)


def assert_close(got, expected, *, atol=0.0, rtol=0.0):
    """Assert that two arrays or tensors of any kind are equal within the tolerances."""
    np.testing.assert_allclose(as_array(got), as_array(expected), atol=atol, rtol=rtol)


def assert_orthogonal(matrix, *, atol):
    """Assert that the Gram matrix on the shorter side of `(..., m, n)` is the identity."""
    matrix = as_array(matrix)
    if matrix.shape[-2] > matrix.shape[-1]:
        matrix = matrix.swapaxes(-2, -1)
    gram = matrix @ matrix.swapaxes(-2, -1)
    assert_close(gram, np.broadcast_to(np.eye(gram.shape[-1]), gram.shape), atol=atol)


def assert_unchanged(before, after):
    """Assert that an argument is bit for bit what it was before a call."""
    np.testing.assert_array_equal(as_array(after), as_array(before))
