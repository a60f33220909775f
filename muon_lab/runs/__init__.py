"""Many runs: the record of each, fair comparison between optimizers, and tables.

Begin with ``record.py``, the file format. ``compare.py`` decides when a difference is a result, and
``python -m muon_lab.runs`` prints the tables of ``tables.py``.
"""

from muon_lab.runs.compare import best_of, compare
from muon_lab.runs.record import Run, load, load_all
from muon_lab.runs.tables import listing, report, verdicts

__all__ = ["Run", "best_of", "compare", "listing", "load", "load_all", "report", "verdicts"]
