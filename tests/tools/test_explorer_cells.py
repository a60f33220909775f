"""The cells that explorers need are found, and run alone."""

import nbformat
from explorer_cells import needed_cells, run_explorers
from nbformat.v4 import new_code_cell, new_notebook


def notebook_of(*cells):
    return new_notebook(cells=[new_code_cell(cell) for cell in cells])


def test_only_the_needed_cells_are_kept():
    cells = ["import os", "x = 1", "y = 2", "e = SomeExplorer(x)\ne", "SomeExplorer(x)\nz = y"]
    assert needed_cells(notebook_of(*cells)) == {1: "x = 1", 3: "e = SomeExplorer(x)\ne"}


def test_explorers_are_found_by_their_cells_and_nothing_else_runs(tmp_path, capsys):
    cells = [
        "1 / 0",
        "from pathlib import Path",
        "class HomeExplorer:\n    home = Path.cwd()",
        "print('loud')\nshown = HomeExplorer()\nshown",
    ]
    path = tmp_path / "cells.ipynb"
    nbformat.write(notebook_of(*cells), path)
    found = run_explorers(path)
    assert {position: each.home for position, each in found.items()} == {3: tmp_path}
    assert capsys.readouterr().out == ""
