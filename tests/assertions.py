"""What tests of this project assert, in its own words; each says what it saw when it fails."""

import numpy as np


def as_array(value):
    """Return a NumPy array, in float64 where it holds floats, of an array or a torch tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    return np.asarray(value)


def assert_close(got, wanted, *, atol=0.0, rtol=0.0):
    """Hold arrays or tensors, of whatever kinds, to be equal within the tolerances given."""
    np.testing.assert_allclose(as_array(got), as_array(wanted), atol=atol, rtol=rtol)


def assert_orthogonal(matrix, *, atol):
    """Hold the Gram matrix on the shorter side of `(..., m, n)` to be the identity."""
    matrix = as_array(matrix)
    if matrix.shape[-2] > matrix.shape[-1]:
        matrix = matrix.swapaxes(-2, -1)
    gram = matrix @ matrix.swapaxes(-2, -1)
    assert_close(gram, np.broadcast_to(np.eye(gram.shape[-1]), gram.shape), atol=atol)


def assert_unchanged(before, after):
    """Hold an argument to be what it was, bit for bit: the function worked on a copy."""
    np.testing.assert_array_equal(as_array(after), as_array(before))
