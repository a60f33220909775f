"""Muon Lab: the Muon optimizer, and a hands-on course on it.

    polynomials, orthogonalize   coefficient schedules, and the Newton-Schulz iteration over them
    symmetric                    its symmetric products at about half the arithmetic
    split, options, muon, clip   the optimizer: open muon.py first
    sharing                      the same on many ranks: each matrix orthogonalized once
    after_muon                   what came after: each optimizer one change to the same rule
    model/                       attention (MHA, GQA, MLA) and a byte-level GPT
    runs/                        recorded runs: the file format, fair comparison, tables
    training/                    one training run, from its configuration to its record
    problems, descent            the lessons' test functions and NumPy update rules
    plots                        the lessons' figures
    roofline                     what orthogonalization costs by count, and what a machine can do
    explorers/                   live pictures for JupyterLab
    exercises/                   the exercises, and the engine that checks answers
    doctor, my_course            check this machine; give a learner a copy of the course

Modules import only from the lines above them. Importing the package itself loads nothing else.
"""

__version__ = "0.1.0"
