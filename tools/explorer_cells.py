"""Which cells of a notebook show an explorer, and what running them alone gives."""

import ast
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
from nbformat import NotebookNode
from notebook_rules import code_cells


def shows_explorer(source: str) -> bool:
    """Tell whether a cell makes an explorer and ends in an expression."""
    statements = ast.parse(source).body
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    makes = any(isinstance(call, ast.Name) and call.id.endswith("Explorer") for call in calls)
    return makes and isinstance(statements[-1], ast.Expr)


def names(source: str) -> tuple[set[str], set[str]]:
    """Return the names that a cell reads and those that it makes."""
    reads, makes = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (reads if isinstance(node.ctx, ast.Load) else makes).add(node.id)
        elif isinstance(node, ast.alias):
            makes.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            makes.add(node.name)
    return reads, makes


def needed_cells(notebook: NotebookNode) -> dict[int, str]:
    """Return the cells that show an explorer and those that they depend on, by position."""
    kept, needed = {}, set()
    for position, cell in reversed(list(code_cells(notebook))):
        reads, makes = names(cell.source)
        if shows_explorer(cell.source) or makes & needed:
            kept[position] = cell.source
            needed |= reads
    return dict(sorted(kept.items()))


def run_explorers(path: Path) -> Iterator[tuple[int, object]]:
    """Run only the cells that explorers need; yield (position, explorer) as each is shown.

    The cells run in this process, in the notebook's folder; what they print is dropped.
    """
    variables = {"__name__": "__main__"}
    for position, source in needed_cells(nbformat.read(path, as_version=4)).items():
        tree = ast.parse(source)
        last = ast.Expression(tree.body.pop().value) if shows_explorer(source) else None
        with contextlib.chdir(path.parent), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, path.name, "exec"), variables)
            explorer = last and eval(compile(last, path.name, "eval"), variables)
        plt.close("all")  # the pictures of these cells are stored already
        if last:
            yield position, explorer
