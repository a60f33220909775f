"""Set up every test: figures without windows, one thread, the same random numbers; and nbval.

The notebooks' kernels are processes of their own, which draw inline pictures and use all cores.
"""

import matplotlib
import numpy as np
import pytest
import torch


def pytest_configure():
    """Draw into memory, and compute on one thread: a second costs these small tests more."""
    matplotlib.use("agg")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    """Seed the global generators, so that a test does not depend on those that ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


def pytest_collectstart(collector):
    """Let nbval compare text only, not warnings, progress bars and HTML."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html")
