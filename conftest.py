"""What holds for every test: no window for a figure, one thread, and what nbval does not compare.

The notebooks' kernels are processes of their own: they keep the inline pictures and all cores.
"""

import matplotlib
import torch


def pytest_configure():
    """Draw into memory, and on one thread: here a second one costs more than it does."""
    matplotlib.use("agg")
    torch.set_num_threads(1)


def pytest_collectstart(collector):
    """Leave warnings, progress bars and HTML out of nbval's comparison: text is compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html")
