"""Muon Lab: the Muon optimizer, its ideas one by one, and a course that moves.

Importing the package costs nothing: each module is imported by its own name
(``from muon_lab.muon import Muon``), so that the NumPy parts never load torch.
"""

__version__ = "0.1.0"
