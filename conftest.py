"""What holds for every test: no window for a figure, one thread, the same dice; and for nbval.

The notebooks' kernels are processes of their own: they keep the inline pictures and all cores.
"""

import matplotlib
import numpy as np
import pytest
import torch


def pytest_configure():
    """Draw into memory, and on one thread: here a second one costs more than it does."""
    matplotlib.use("agg")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def dice():
    """Let a test that names no seed draw the same numbers, whichever tests ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


def pytest_collectstart(collector):
    """Leave warnings, progress bars and HTML out of nbval's comparison: text is compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html")
