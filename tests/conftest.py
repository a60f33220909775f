"""One thread for the unit tests: on matrices this small a second one costs more than it does.

The notebooks' kernels are processes of their own and keep all cores.
"""

import torch


def pytest_configure():
    """Set the threads before any test runs."""
    torch.set_num_threads(1)
