import json
import subprocess
import sys

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from store_notebook import METADATA

from muon_lab.my_course import WIDGET_STATE, WIDGET_VIEW, copy_course, drop_dead_views


@pytest.fixture
def course(tmp_path):
    """Make a course of two notebooks that have been run."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("03_matrices", "04_polynomials"):
        write(folder / f"{name}.ipynb", f"print({name[:2]})")
    return folder


@pytest.fixture
def mine(tmp_path, course):
    """Copy the course."""
    folder = tmp_path / "my_course"
    assert list(copy_course(folder, course=course)) == []
    return folder


def write(path, source, text="an answer"):
    output = new_output("stream", name="stdout", text=text)
    cell = new_code_cell(source, id="one", outputs=[output], execution_count=1)
    notebook = new_notebook(cells=[new_markdown_cell("# Why?", id="two"), cell], metadata=METADATA)
    path.write_text(json.dumps(notebook))


def sources(path):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]


def test_a_copy_has_the_cells_without_their_outputs(mine):
    notebook = json.loads((mine / "03_matrices.ipynb").read_text())
    assert sources(mine / "03_matrices.ipynb") == ["# Why?", "print(03)"]
    assert (notebook["cells"][1]["outputs"], notebook["cells"][1]["execution_count"]) == ([], None)
    assert [path.name for path in sorted(mine.iterdir())] == [
        "03_matrices.ipynb",
        "04_polynomials.ipynb",
    ]


def test_a_copy_says_what_a_kernel_would_write_into_it(mine):
    script = "from ipykernel.ipkernel import IPythonKernel as k; print(k().language_info)"
    wanted = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    notebook = json.loads((mine / "03_matrices.ipynb").read_text())
    assert notebook["metadata"]["language_info"] == eval(wanted)


def test_what_is_there_is_never_overwritten(course, mine):
    write(mine / "03_matrices.ipynb", "my own work")
    (mine / "04_polynomials.ipynb").unlink()
    lines = list(copy_course(mine, course=course))
    assert sources(mine / "03_matrices.ipynb") == ["# Why?", "my own work"]
    assert sources(mine / "04_polynomials.ipynb") == ["# Why?", "print(04)"]
    assert len(lines) == 1  # this work is of unknown origin


def test_a_changed_original_is_named_and_new_outputs_are_no_change(course, mine):
    write(course / "03_matrices.ipynb", "print(3.1)")
    write(course / "04_polynomials.ipynb", "print(04)", text="stored again")
    [line] = copy_course(mine, course=course)
    assert line.startswith("03_matrices.ipynb has changed")
    assert line.endswith("make lab FRESH=03")
    assert sources(mine / "03_matrices.ipynb") == ["# Why?", "print(03)"]


@pytest.mark.parametrize("name", ["03", "03_matrices"])
def test_a_fresh_copy_is_laid_beside_the_old_as_often_as_asked(course, mine, name):
    for turn, kept in enumerate(["03_matrices.before.ipynb", "03_matrices.before2.ipynb"]):
        write(mine / "03_matrices.ipynb", f"work {turn}")
        [line] = copy_course(mine, [name], course)
        assert kept in line
        assert sources(mine / kept) == ["# Why?", f"work {turn}"]
        assert sources(mine / "03_matrices.ipynb") == ["# Why?", "print(03)"]
    assert list(copy_course(mine, course=course)) == []


def test_an_unknown_name_changes_nothing(course, mine):
    write(mine / "03_matrices.ipynb", "my own work")
    with pytest.raises(ValueError, match=r"called 12.*03, 04"):
        list(copy_course(mine, ["03", "12"], course))
    assert len(list(mine.iterdir())) == 2


def saved(state, *data):
    """Return what JupyterLab sends to be saved: one cell with these outputs."""
    outputs = [new_output("display_data", data=one) for one in data]
    metadata = {"widgets": {WIDGET_STATE: {"state": state}}} if state is not None else {}
    content = new_notebook(cells=[new_code_cell("x", outputs=outputs)], metadata=metadata)
    return {"type": "notebook", "content": content}


@pytest.mark.parametrize("state", [None, {}, {"another": {}}])
def test_a_view_without_its_state_leaves_its_picture_and_a_note(state):
    model = saved(state, {WIDGET_VIEW: {"model_id": "a"}, "image/png": "iVBORw0KGgo="})
    drop_dead_views(model, path="x.ipynb", contents_manager=None)
    picture, note = model["content"]["cells"][0]["outputs"]
    assert picture["data"] == {"image/png": "iVBORw0KGgo="}
    assert note["text"] == "Run this cell again to make it live."


def test_a_view_with_its_state_and_other_files_are_left_alone():
    view = {WIDGET_VIEW: {"model_id": "a"}, "text/plain": "Explorer()"}
    for model in (saved({"a": {}}, view), {"type": "file", "content": "text"}):
        before = json.dumps(model)
        drop_dead_views(model, path="x", contents_manager=None)
        assert json.dumps(model) == before
