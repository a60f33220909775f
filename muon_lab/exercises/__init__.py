"""Exercises of the course, one module a notebook: ``from muon_lab.exercises import ____, e01``."""

from muon_lab.exercises.blank import ____

__all__ = ["____"]
