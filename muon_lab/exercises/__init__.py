"""Exercises of the course, one module per notebook: ``from muon_lab.exercises import ____, e01``.

Open ``exercise.py`` first: what an exercise is and how an answer is judged.
"""

from muon_lab.exercises.blank import ____
from muon_lab.exercises.predictions import outcome, predict

__all__ = ["____", "outcome", "predict"]
