"""What holds for every test: no window for a figure, and what nbval does not compare."""

import os

os.environ.setdefault("MPLBACKEND", "agg")


def pytest_collectstart(collector):
    """Leave warnings, progress bars and HTML out of nbval's comparison: text is compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html")
