"""Give the learner a copy of the course in ``my_course/``, and never overwrite it.

``python -m muon_lab.my_course`` copies each notebook that is not there yet, without its outputs.
``python -m muon_lab.my_course 03`` copies ``03_matrices.ipynb`` again and keeps the learner's as
``03_matrices.before.ipynb``.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from muon_lab.runs.record import write_atomically

COURSE = Path(__file__).parents[1] / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
RUN_AGAIN = "Run this cell again to make it live."
# What a kernel tells JupyterLab: a notebook that says the same is not changed by being opened.
KERNEL_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "pygments_lexer": "ipython3",
    "version": platform.python_version(),
}


def copy_of(original: Path) -> dict:
    """Return a notebook without outputs that carries a hash of the cells it was copied from."""
    notebook = json.loads(original.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    cells = json.dumps(notebook["cells"], sort_keys=True).encode()
    notebook["metadata"]["copied_from"] = hashlib.sha256(cells).hexdigest()
    notebook["metadata"]["language_info"] |= KERNEL_INFO
    return notebook


def copy_course(folder: Path, fresh: Sequence[str] = (), course: Path = COURSE) -> Iterator[str]:
    """Copy the notebooks that ``folder`` lacks; yield a line for each that is out of date.

    ``fresh`` names notebooks ("03" or "03_matrices") to copy again beside the learner's own.
    Raises ValueError for a name that no notebook of the course has.
    """
    originals = sorted(course.glob("*.ipynb"))
    numbers = [path.stem[:2] for path in originals]
    if unknown := set(fresh) - {*numbers, *(path.stem for path in originals)}:
        raise ValueError(f"no notebook is called {min(unknown)}; there are {', '.join(numbers)}")
    folder.mkdir(exist_ok=True)
    for number, original in zip(numbers, originals, strict=True):
        mine, notebook = folder / original.name, copy_of(original)
        if mine.exists() and {number, original.stem} & set(fresh):
            kept = mine.rename(unused(mine))
            yield f"{mine.name} is a new copy; yours is now {kept.name}."
        if not mine.exists():
            with write_atomically(mine) as file:
                file.write(json.dumps(notebook, indent=1, ensure_ascii=False).encode())
        elif notebook["metadata"]["copied_from"] not in mine.read_text(encoding="utf-8"):
            yield (
                f"{mine.name} has changed in the course since you copied it. For a new copy, with "
                f"yours kept beside it: make lab FRESH={number}"
            )


def unused(path: Path) -> Path:
    """Return the first of x.before.ipynb, x.before2.ipynb, ... that does not exist."""
    number, free = 1, path.with_suffix(".before.ipynb")
    while free.exists():
        number += 1
        free = path.with_suffix(f".before{number}.ipynb")
    return free


def drop_dead_views(model: dict, **_) -> None:
    """Leave the picture of each widget that has no saved state: its view would show an error.

    Jupyter's server calls this ``pre_save_hook`` with the file that it is about to write. A kernel
    that was restarted before the file was saved leaves such widgets.
    """
    if model["type"] != "notebook":
        return
    state = model["content"]["metadata"].get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for cell in model["content"]["cells"]:
        for output in list(cell.get("outputs", [])):
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view and view["model_id"] not in state:
                del output["data"][WIDGET_VIEW]
                note = {"output_type": "stream", "name": "stdout", "text": RUN_AGAIN}
                cell["outputs"].append(note)


def main() -> int:
    """Copy the course into ``my_course/`` beside it; return 1 for a notebook that is unknown."""
    try:
        for line in copy_course(COURSE.parent / "my_course", sys.argv[1:]):
            print(line)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
