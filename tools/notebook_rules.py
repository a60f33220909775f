"""Find what is wrong with a stored notebook, without running it.

Each rule is a generator that takes a notebook and yields one sentence per fault; `faults` applies
all of them.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MAX_BYTES = 1_000_000
MAX_LINES = 25
CHECK_OUTPUT = "nbval-check-output"
MAGICS = {"time", "timeit"}
PACKAGES = {
    "IPython",
    "anywidget",
    "ipywidgets",
    "matplotlib",
    "muon_lab",
    "numpy",
    "torch",
    "tqdm",
}
# These swallow exceptions, so that a broken explorer would pass every run of its notebook.
SWALLOW_EXCEPTIONS = {"interact", "interact_manual", "interactive", "interactive_output"}
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|root|Users|tmp|work|opt|usr|var|mnt|private)/|[A-Z]:\\Users"
)
NBVAL_COMMENT = re.compile(r"^\s*#+\s*(nbval|pytest_validate)[-_]\w+[-_\w]*\s*$", re.I | re.M)


def code_cells(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Yield (position among all cells, cell) for each code cell."""
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            yield position, cell


def syntax_tree(cell: NotebookNode) -> ast.Module | None:
    """Parse a cell with its magics turned into calls; return None if it is not Python."""
    try:
        return ast.parse(TransformerManager().transform_cell(cell.source))
    except SyntaxError:
        return None


def nodes(notebook: NotebookNode) -> Iterator[tuple[int, ast.AST]]:
    """Yield (position, syntax node) for every node of every code cell."""
    for position, cell in code_cells(notebook):
        for node in ast.walk(syntax_tree(cell) or ast.Module([], [])):
            yield position, node


def stored_text(output: NotebookNode) -> str:
    """Return an output's text: a stream's, or a result's as plain text and as HTML."""
    parts = [output.get("text", "")]
    parts += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join("".join(part) for part in parts)


def python_faults(notebook):
    """Cells that are not Python."""
    for position, cell in code_cells(notebook):
        if syntax_tree(cell) is None:
            yield f"cell {position} is not Python"


def magic_faults(notebook):
    """Shell commands, and magics that are not allowed: nbval passes a cell with an unknown one."""
    for position, node in nodes(notebook):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if ast.unparse(node.func.value) != "get_ipython()":
            continue
        name = ast.literal_eval(node.args[0]) if node.args else ""
        if node.func.attr not in {"run_line_magic", "run_cell_magic"}:
            yield f"cell {position} runs a shell command: {name}"
        elif name not in MAGICS:
            yield f"cell {position} uses the magic %{name}; allowed are {sorted(MAGICS)}"


def import_faults(notebook):
    """Imports from outside the course's packages and the standard library."""
    for position, node in nodes(notebook):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "."]
        else:
            continue
        for package in {module.split(".")[0] for module in modules}:
            if package not in PACKAGES and package not in sys.stdlib_module_names:
                yield f"cell {position} imports {package!r}, which the course does not install"


def environment_faults(notebook):
    """Cells that change where Python looks for modules or files, or swallow exceptions."""
    for position, node in nodes(notebook):
        text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        if text in {"sys.path", "os.chdir"}:
            yield f"cell {position} uses {text}"
        names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
        for word in {text.split(".")[-1], *names} & SWALLOW_EXCEPTIONS:
            yield f"cell {position} uses {word}, which swallows exceptions"


def length_faults(notebook):
    """Code cells too long to read at a glance, and empty ones."""
    for position, cell in code_cells(notebook):
        lines = len(cell.source.strip().splitlines())
        if lines > MAX_LINES:
            yield f"cell {position} has {lines} lines, over {MAX_LINES}"
        if not lines:
            yield f"cell {position} is empty"


def count_faults(notebook):
    """Execution counts other than 1, 2, 3, ...: not one clean run from top to bottom."""
    for expected, (position, cell) in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != expected:
            yield f"cell {position} has execution count {cell.execution_count}, not {expected}"


def output_faults(notebook):
    """Errors stored as outputs or printed by a thread, and missing outputs."""
    for position, cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {position} holds an error: {output.ename}: {output.evalue}"
            elif "Traceback (most recent call last)" in stored_text(output):
                yield f"cell {position} prints a traceback"
        if not cell.outputs and shows_something(cell):
            yield f"cell {position} shows something when run, but no output is stored"


def shows_something(cell: NotebookNode) -> bool:
    """Return whether a cell must have an output: it prints, ends in a name, or is compared."""
    statements = (syntax_tree(cell) or ast.Module([], [])).body
    expressions = [node.value for node in statements if isinstance(node, ast.Expr)]
    prints = any(
        isinstance(value, ast.Call) and ast.unparse(value.func) in {"print", "display"}
        for value in expressions
    )
    ends_in_name = bool(statements) and isinstance(
        getattr(statements[-1], "value", None) if expressions else None, ast.Name
    )
    marked = CHECK_OUTPUT in cell.metadata.get("tags", [])
    quiet = cell.source.rstrip().endswith(";")
    return prints or marked or (ends_in_name and not quiet and statements[-1].value in expressions)


def widget_faults(notebook):
    """Stored widget views: without a kernel JupyterLab shows an error in their place."""
    if "widgets" in notebook.metadata:
        yield "the notebook's metadata hold widget state"
    for position, cell in code_cells(notebook):
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.outputs):
            yield f"cell {position} holds a widget view"


def path_faults(notebook):
    """Paths of somebody's machine, in sources or in outputs."""
    for position, cell in enumerate(notebook.cells):
        texts = [cell.source, *(stored_text(output) for output in cell.get("outputs", []))]
        found = MACHINE_PATH.search("\n".join(texts))
        if found:
            yield f"cell {position} names a path of a machine: {found.group()}..."


def marker_faults(notebook):
    """Instructions for nbval other than the tag that compares outputs: they switch tests off."""
    for position, cell in code_cells(notebook):
        if NBVAL_COMMENT.search(cell.source):
            yield f"cell {position} holds an nbval comment; `make store` turns it into a tag"
        for tag in cell.metadata.get("tags", []):
            if tag != CHECK_OUTPUT:
                yield f"cell {position} has the tag {tag!r}; only {CHECK_OUTPUT!r} is allowed"


def size_faults(notebook):
    """Notebooks too large to read on the web or to keep in a repository."""
    size = len(json.dumps(notebook, ensure_ascii=False, indent=1).encode())
    if size > MAX_BYTES:
        yield f"the notebook takes {size:,} bytes, over {MAX_BYTES:,}"


RULES = (
    python_faults,
    magic_faults,
    import_faults,
    environment_faults,
    length_faults,
    count_faults,
    output_faults,
    widget_faults,
    path_faults,
    marker_faults,
    size_faults,
)


def faults(notebook: NotebookNode) -> list[str]:
    """Return a sentence for every fault that a rule finds in a notebook."""
    return [sentence for rule in RULES for sentence in rule(notebook)]
