"""Every notebook keeps the course's rules, and runs with its exercises solved.

In `make test` nbval also runs every cell as it is and compares what it shows.
"""

import ast
import base64
import importlib
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbconvert import ScriptExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import CHECK_OUTPUT, WIDGET_VIEW, code_cells, faults
from PIL import Image
from store_notebook import clean, execute, shrink

from muon_lab.exercises.exercise import Exercise

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def exercises_of(path):
    """Return the exercises of a notebook, name by name: e04.py belongs to 04_polynomials.ipynb."""
    module = importlib.import_module(f"muon_lab.exercises.e{path.stem[:2]}")
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


def checked(source):
    """Return the exercise that a cell checks, such as "e04.q1", or None."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "check":
            return ast.unparse(node.value)
    return None


def replies(notebook):
    """Return the reply stored in each cell that checks an answer, in order."""
    cells = [cell for _, cell in code_cells(notebook) if checked(cell.source)]
    last = [cell.outputs[-1] if cell.outputs else {} for cell in cells]
    return [output.get("data", {}).get("text/plain", "nothing") for output in last]


def wrong_replies(notebook):
    """Return every stored reply that is not "correct"."""
    return [reply for reply in replies(notebook) if not reply.startswith("✓ correct")]


@each_notebook
def test_a_notebook_has_no_fault(path):
    assert faults(read(path)) == []


@each_notebook
def test_a_notebook_is_as_the_store_tool_leaves_it(path):
    assert clean(read(path)) == read(path)


@each_notebook
def test_a_notebook_checks_each_of_its_exercises_once(path):
    sources = [cell.source for _, cell in code_cells(read(path))]
    asked = [checked(source) for source in sources if checked(source)]
    assert sorted(asked) == sorted(exercise.name for exercise in exercises_of(path).values())


@each_notebook
def test_each_exercise_is_announced_before_its_cell(path):
    number, pairs = None, []
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            number = [number, *re.findall(r"\*\*Exercise (\d+)", cell.source)][-1]
        elif asked := checked(cell.source):
            pairs.append((asked.split(".")[1], f"q{number}"))
    assert pairs == [(name, name) for name in exercises_of(path)]


@each_notebook
def test_an_untouched_exercise_is_not_attempted(path):
    stored = replies(read(path))
    assert [reply for reply in stored if not reply.startswith("○ not attempted")] == []


@each_notebook
def test_each_link_leads_to_a_file(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", text)
    assert links and [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.notebook
@pytest.mark.timeout(600)  # a machine busy with other things takes four times as long
@each_notebook
def test_a_notebook_runs_with_its_exercises_solved(path):
    notebook = read(path)
    solutions = {e.name: e.solution().code for e in exercises_of(path).values()}
    for _, cell in code_cells(notebook):
        cell.source = solutions.get(checked(cell.source), cell.source)
    ran = execute(notebook, path.parent, cell_timeout=180)
    assert wrong_replies(ran) == []


# The tests above could pass by finding nothing, so each fault is made once and must be found.


def stored(*sources, outputs=(), **metadata):
    """Make a notebook of code cells that ran in order; the last one has the outputs."""
    cells = [new_code_cell(text, execution_count=i) for i, text in enumerate(sources, start=1)]
    cells[-1].outputs = list(outputs)
    return new_notebook(cells=[new_markdown_cell("# Why?"), *cells], metadata=metadata)


def printed(text):
    return new_output("stream", name="stdout", text=text)


def shown(**data):
    return new_output("display_data", data={k.replace("_", "/"): v for k, v in data.items()})


def with_counts(notebook, *counts):
    for count, (_, cell) in zip(counts, code_cells(notebook), strict=True):
        cell.execution_count = count
    return notebook


def with_tags(notebook, *tags):
    notebook.cells[-1].metadata.tags = list(tags)
    return notebook


ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])
VIEW = new_output("display_data", data={WIDGET_VIEW: {"model_id": "1"}, "text/plain": "x"})
BAD = {
    "no Python": (stored("for"), "is not Python"),
    "unknown magic": (stored("%nosuchmagic 3"), "magic %nosuchmagic"),
    "magic that changes the folder": (stored("%cd .."), "magic %cd"),
    "cell magic": (stored("%%bash\nls"), "magic %bash"),
    "help": (stored("print?"), "magic %pinfo"),
    "pip": (stored("!pip install muon"), "shell command: pip install muon"),
    "pip as a magic": (stored("%pip install muon"), "magic %pip"),
    "captured shell": (stored("files = !ls"), "shell command: ls"),
    "undeclared import": (stored("import pandas"), "imports 'pandas'"),
    "undeclared import in a function": (
        stored("def f():\n    from scipy.linalg import svd"),
        "'scipy'",
    ),
    "relative import": (stored("from . import x"), "imports ''"),
    "sys.path": (stored("import sys\nsys.path.append('..')"), "uses sys.path"),
    "chdir": (stored("import os\nos.chdir('..')"), "uses os.chdir"),
    "interact": (stored("from ipywidgets import interact"), "uses interact,"),
    "interactive": (stored("import ipywidgets as w\nw.interactive(len)"), "uses interactive,"),
    "long cell": (stored("\n".join(["x = 1"] * 26)), "has 26 lines"),
    "empty cell": (stored(""), "is empty"),
    "never ran": (with_counts(stored("x = 1"), None), "execution count None"),
    "out of order": (with_counts(stored("x = 1", "y = 2"), 2, 1), "execution count 2, not 1"),
    "ran twice": (with_counts(stored("x = 1", "y = 2"), 1, 3), "execution count 3, not 2"),
    "stored error": (stored("x", outputs=[ERROR]), "holds an error: ValueError: no"),
    "error of a thread": (
        stored("go()", outputs=[printed("Traceback (most recent call last)\n")]),
        "prints a traceback",
    ),
    "missing print": (stored("print(1)"), "no output is stored"),
    "missing value": (stored("x = 1\nx"), "no output is stored"),
    "missing comparison": (with_tags(stored("go()"), CHECK_OUTPUT), "no output is stored"),
    "widget view": (stored("x", outputs=[VIEW]), "holds a widget view"),
    "widget state": (stored("x = 1", widgets={"state": {}}), "widget state"),
    "path in a source": (stored("open('/Users/me/data.txt')"), "path of a machine: /Users/"),
    "path in an output": (
        stored("go()", outputs=[printed("/tmp/ipykernel_7/1.py: UserWarning")]),
        "path of a machine: /tmp/",
    ),
    "skipped cell": (stored("# NBVAL_SKIP\nx = 1"), "holds an nbval comment"),
    "comment in place of a tag": (stored("# nbval-check-output\nx = 1"), "nbval comment"),
    "expected exception": (with_tags(stored("x = 1"), "raises-exception"), "'raises-exception'"),
    "too large": (stored("go()", outputs=[shown(image_png="A" * 1_000_001)]), "over 1,000,000"),
}


@pytest.mark.parametrize(("notebook", "sentence"), BAD.values(), ids=BAD)
def test_each_fault_is_found(notebook, sentence):
    seen = [fault for fault in faults(notebook) if sentence in fault]
    assert len(seen) == 1


def test_a_good_notebook_has_no_fault():
    picture = shown(image_png="iVBORw0KGgo=", text_plain="<Figure>")
    sources = ["from muon_lab import problems\nimport torch, math", "%timeit 1 + 1", "1 / 2;"]
    notebook = stored(*sources, "print('see https://example.org/usr/x')", outputs=[picture])
    assert faults(notebook) == []


def test_a_reply_that_is_not_correct_is_found():
    cells = {
        "e01.q1.check(____)": "○ not attempted: fill it in",
        "e01.q2.check(2)": "✓ correct: it",
    }
    notebook = new_notebook()
    for source, reply in cells.items():
        output = new_output("execute_result", data={"text/plain": reply})
        notebook.cells.append(new_code_cell(source, outputs=[output]))
    notebook.cells.append(new_code_cell("e01.q3.check(2)"))
    assert wrong_replies(notebook) == ["○ not attempted: fill it in", "nothing"]


def test_cleaning_keeps_pictures_and_drops_widgets_and_times():
    picture = shown(image_png="iVBORw0KGgo=", text_plain="Explorer()")
    picture.data[WIDGET_VIEW] = {"model_id": "1"}
    bar = [printed("\r 50%"), printed("\r100%\n")]
    notebook = stored("# nbval-check-output\nx", outputs=[VIEW, picture, *bar], widgets={"a": 1})
    notebook.cells[-1].metadata.execution = {"iopub.execute_input": "2026"}
    cell = clean(notebook).cells[-1]
    assert cell.outputs == [
        shown(image_png="iVBORw0KGgo=", text_plain="Explorer()"),
        printed("100%\n"),
    ]
    assert (cell.source, cell.metadata) == ("x", {"tags": [CHECK_OUTPUT]})
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_a_cleaned_notebook_exports_as_a_python_script():
    _, resources = ScriptExporter().from_notebook_node(clean(stored("x = 1")))
    assert resources["output_extension"] == ".py"


def test_stored_pictures_are_small_and_keep_their_colours():
    colours = np.random.default_rng(0).choice([[0, 114, 178], [213, 94, 0]], size=(64, 64))
    sheet = io.BytesIO()
    Image.fromarray(colours.astype("uint8")).save(sheet, "png", compress_level=0)
    picture = base64.b64encode(sheet.getvalue()).decode()
    data = shrink(stored("x", outputs=[shown(image_png=picture)])).cells[-1].outputs[0].data
    kept = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert np.abs(np.array(kept.convert("RGB")).astype(int) - colours).max() <= 8
    assert len(data["image/png"]) < len(picture) / 4


def test_a_cell_keeps_its_id_when_others_come_before_it():
    before, after = clean(stored("y = 2")), clean(stored("x = 1", "y = 2", "y = 2"))
    ids = [cell.id for cell in after.cells]
    assert before.cells[-1].id == ids[2]
    assert len(set(ids)) == len(ids)
