"""Run a notebook from top to bottom and store it as the course keeps it.

`python tools/store_notebook.py notebooks/01_descent.ipynb` writes the file only if no cell failed
and no rule of `notebook_rules` is broken.
"""

import argparse
import base64
import hashlib
import io
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from notebook_rules import CHECK_OUTPUT, WIDGET_VIEW, faults
from PIL import Image

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    # What nbconvert needs to export a script. The version belongs to one machine.
    "language_info": {
        "name": "python",
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "nbconvert_exporter": "python",
    },
}
# nbval reads this as a tag, which readers do not see, or as a comment, but then in capitals only.
CHECK_COMMENT = re.compile(r"^\s*#\s*nbval[-_]check[-_]output[ \t]*$", re.I | re.M)
TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def execute(notebook: NotebookNode, folder: Path, cell_timeout: float = 600) -> NotebookNode:
    """Run every cell in a new kernel started in `folder`; raise at the first cell that fails."""
    client = NotebookClient(
        notebook,
        timeout=cell_timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
    )
    return client.execute()


def collapse(text: str) -> str:
    r"""Return what a terminal shows in the end of lines that carriage returns rewrote.

    >>> collapse("\r 10%\r100%\ndone\n")
    '100%\ndone\n'
    """
    lines = TERMINAL_CODE.sub("", text).split("\n")
    return "\n".join(([part for part in line.split("\r") if part] or [""])[-1] for line in lines)


def clean_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join the pieces of a stream, collapse progress bars, drop widget views, keep pictures."""
    kept: list[NotebookNode] = []
    for output in outputs:
        data = output.get("data", {})
        if data.pop(WIDGET_VIEW, None) and set(data) <= {"text/plain"}:
            continue
        if output.output_type != "stream":
            kept.append(output)
        elif kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = collapse(output.text)
    return [output for output in kept if output.get("text", "kept").strip()]


def clean(notebook: NotebookNode) -> NotebookNode:
    """Strip a notebook, in place, of what depends on the machine or the moment; return it."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        marked = CHECK_OUTPUT in cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            marked = bool(CHECK_COMMENT.search(cell.source)) or marked
            cell.metadata = nbformat.from_dict({"tags": [CHECK_OUTPUT]} if marked else {})
            cell.source = CHECK_COMMENT.sub("", cell.source).strip("\n")
            cell.outputs = clean_outputs(cell.outputs)
        # From the text, so that a notebook stored again differs only where its cells do.
        name = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return notebook


def shrink(notebook: NotebookNode) -> NotebookNode:
    """Reduce each picture to 256 colours, in place: it looks the same in a quarter of the bytes."""
    octree = {"method": Image.Quantize.FASTOCTREE, "dither": Image.Dither.NONE}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            small = io.BytesIO()
            picture.convert("RGB").quantize(256, **octree).save(small, "png", optimize=True)
            output.data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return notebook


def store(path: Path) -> list[str]:
    """Run, clean and write one notebook; return its faults, and write nothing if it has any."""
    try:
        notebook = shrink(clean(execute(nbformat.read(path, as_version=4), path.parent)))
    except CellExecutionError as error:
        return [f"a cell failed:\n{TERMINAL_CODE.sub('', str(error))}"]
    found = faults(notebook)
    if not found:
        nbformat.write(notebook, path)
    return found


def main() -> int:
    """Store every notebook named on the command line; return 1 if one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    failed = False
    for path in parser.parse_args().notebooks:
        began = time.monotonic()
        found = store(path)
        for sentence in found:
            print(f"{path}: {sentence}", file=sys.stderr)
        if found:
            failed = True
            print(f"{path}: not stored", file=sys.stderr)
        else:
            size = path.stat().st_size
            print(f"{path}: stored, {size:,} bytes, ran in {time.monotonic() - began:.0f} s")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
