"""Muon Lab: the Muon optimizer, and a course on it that moves.

    muon, clip, split, orthogonalize, polynomials   the optimizer: begin with muon.py
    model/                       attention (MHA, GQA, MLA) and the byte-level GPT
    training/                    one run, from its configuration to its record
    runs/                        many runs: the file format, fair comparison, tables
    descent, problems, plots     the lessons' NumPy update rules, test functions and figures
    explorers/                   live pictures for JupyterLab
    exercises/                   the course's exercises and the engine that checks answers
    doctor                       what this machine can do

Imports go down this list, never up. Importing the package itself loads nothing else.
"""

__version__ = "0.1.0"
