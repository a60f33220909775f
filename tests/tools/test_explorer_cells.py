"""The cells that explorers need are found, and run alone."""

import nbformat
from explorer_cells import needed_cells, run_explorers
from nbformat.v4 import new_code_cell, new_notebook


def notebook_of(*cells):
    return new_notebook(cells=[new_code_cell(cell) for cell in cells])


def test_only_the_needed_cells_are_kept():
    cells = ["import os", "x = 1", "y = 2", "e = SomeExplorer(x)\ne", "SomeExplorer(x)\nz = y"]
    assert needed_cells(notebook_of(*cells)) == {1: "x = 1", 3: "e = SomeExplorer(x)\ne"}


def test_explorers_come_as_they_are_when_shown_and_nothing_else_runs(tmp_path, capsys):
    cells = [
        "1 / 0",
        "from pathlib import Path\nfrom types import SimpleNamespace as AnExplorer",
        "print('loud')\nfirst = AnExplorer(lr=1, home=Path.cwd())\nfirst",
        "first.lr = 2\nlr = 3",
        "second = AnExplorer(lr=lr)\nsecond",
    ]
    path = tmp_path / "cells.ipynb"
    nbformat.write(notebook_of(*cells), path)
    found = [(position, each.lr, each) for position, each in run_explorers(path)]
    assert [each[:2] for each in found] == [(2, 1), (4, 3)]
    assert found[0][2].home == tmp_path
    assert capsys.readouterr().out == ""
