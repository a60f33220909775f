"""Recorded runs: the file of each, fair comparisons between optimizers, and their tables.

Open ``record.py`` first: `Run` and its file. ``compare.py`` decides when a difference is a result;
``tables.py`` prints both, as ``python -m muon_lab.runs`` does.
"""

from muon_lab.runs.compare import best_of, compare
from muon_lab.runs.record import Run, load, load_all
from muon_lab.runs.tables import listing, main, report, verdicts

__all__ = ["Run", "best_of", "compare", "listing", "load", "load_all", "main", "report", "verdicts"]
