"""Build the course as static pages that need no kernel and no network: `make site`.

Sphinx, MyST-NB and Furo make the pages from the stored notebooks. This script prepares the
notebooks for them: each picture gets its caption as alternative text, each explorer its script and
its traits, each exercise its hints and its solution.
"""

import importlib
import json
import re
import shutil
import tempfile
import time
from html import escape
from pathlib import Path

import mathjax
import matplotlib
import nbformat
from explorer_cells import run_explorers
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output
from sphinx.application import Sphinx

from muon_lab.exercises.reply import marked
from muon_lab.explorers.base.explorer import Explorer

ROOT = Path(__file__).parents[1]
ASSETS = Path(__file__).parent / "site"
MATHJAX = Path(mathjax.__file__).parent / "static" / "mathjax" / "es5" / "tex-svg.js"
CAPTION = re.compile(r"\*(?!\*)(.+?)\*(?=\s|$)", re.S)
TITLE = re.compile(r"# (?:\d\d · )?(.+)")
CHECK = re.compile(r"\b(e\d\d)\.(q\d+)\.check\(")
PICTURE = re.compile(r"(?:\]\(|src=\")([^)\":]+\.(?:png|gif|svg|jpg))")
NOTE = """```{note}
This page shows the notebook with its stored results. The explorers work here. Running the code and
checking your answers needs a kernel: open the notebook with `make lab`.
```"""
SETTINGS = {
    "project": "Muon Lab",
    "html_title": "Muon Lab",
    "extensions": ["myst_nb"],
    "nb_execution_mode": "off",
    "nb_render_markdown_format": "myst",
    "myst_enable_extensions": ["dollarmath", "html_image"],
    "html_theme": "furo",
    "html_theme_options": {"top_of_page_buttons": []},
    "html_static_path": ["_static"],
    "html_css_files": ["explorer.css", "site.css"],
    "html_js_files": ["live.js"],
    "mathjax_path": "tex-svg.js",
    "html_copy_source": False,
    "html_use_index": False,
    "html_show_copyright": False,
}


def build(out: Path) -> None:
    """Write the pages into the folder `out`; raise an error where Sphinx finds a fault."""
    with tempfile.TemporaryDirectory() as folder:
        source, doctrees = Path(folder) / "source", Path(folder) / "doctrees"
        write_sources(source)
        app = Sphinx(
            source, None, out, doctrees, "html", SETTINGS, status=None, exception_on_warning=True
        )
        app.build()


def write_sources(source: Path) -> None:
    """Write what Sphinx reads: a front page, the notebooks, styles and scripts."""
    static, notebooks = source / "_static", source / "notebooks"
    shutil.copytree(ASSETS, static)
    shutil.copy(MATHJAX, static)
    (static / "explorer.css").write_text(Explorer._css, encoding="utf-8")
    notebooks.mkdir()
    entries = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title = TITLE.match(notebook.cells[0].source).group(1)
        entries.append(f"{path.stem[:2]} · {title} <notebooks/{path.stem}>")
        live = {position: live_data(explorer) for position, explorer in run_explorers(path)}
        nbformat.write(prepared(notebook, live), notebooks / path.name)
    write_front(source, entries)


def write_front(source: Path, entries: list[str]) -> None:
    """Make the README the front page, with what it links to, and list the notebooks after it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    contents = "\n".join(["```{toctree}", ":hidden:", "", *entries, "```"])
    (source / "index.md").write_text(f"{readme}\n{contents}\n", encoding="utf-8")
    for name in {*PICTURE.findall(readme), "data/README.md"}:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    about_data = source / "data" / "README.md"
    text = about_data.read_text(encoding="utf-8")
    about_data.write_text(f"---\norphan: true\n---\n\n{text}", encoding="utf-8")


def live_data(explorer: Explorer) -> dict:
    """Return what live.js needs to bring an explorer to life: its script and its traits."""
    return {"script": explorer._esm, "traits": explorer.state()}


def prepared(notebook: NotebookNode, live: dict[int, dict]) -> NotebookNode:
    """Return the notebook as a page shows it; `live` holds explorers' data by their cells."""
    cells = []
    for position, cell in enumerate(notebook.cells):
        cells.append(cell)
        if position == 0:
            cell.source = TITLE.sub(rf"\g<0>\n\n{NOTE}", cell.source, count=1)
        if cell.cell_type != "code":
            continue
        if position in live:
            cell.outputs.append(live_output(live[position]))
        if has_picture(cell):
            alt = caption(notebook.cells[position + 1 :])
            if not alt and position not in live:
                raise ValueError(f"cell {position} has a picture, but no caption in *...* follows")
            alt = alt or live[position]["traits"]["title"]
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
        if checks := CHECK.findall(cell.source):
            cell.outputs = []
            cells += [new_markdown_cell(help_with(*check)) for check in checks]
    notebook.cells = cells
    return notebook


def has_picture(cell: NotebookNode) -> bool:
    """Tell whether a picture is stored in a code cell."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def caption(following: list[NotebookNode]) -> str:
    """Return the text in *...* that begins a cell after a picture and before the next picture."""
    for cell in following:
        if has_picture(cell):
            return ""
        if cell.cell_type == "markdown":
            found = CAPTION.match(cell.source)
            return re.sub(r"[`$\\]", "", found.group(1).replace("\n", " ")) if found else ""
    return ""


def live_output(data: dict) -> NotebookNode:
    """Return an output that holds an explorer's data for live.js."""
    text = json.dumps(data, allow_nan=False).replace("</", r"<\/")  # "</script>" would end it
    html = f'<script type="application/json" class="explorer-data">{text}</script>'
    return new_output("display_data", {"text/html": f'<div class="explorer">{html}</div>'})


def help_with(module: str, name: str) -> str:
    """Write an exercise's hints and solution as Markdown, each folded until it is asked for."""
    exercise = getattr(importlib.import_module(f"muon_lab.exercises.{module}"), name)
    hints = [
        f"<details><summary>Hint {i} of {len(exercise.hints)}</summary><p>{marked(hint)}</p>"
        "</details>"
        for i, hint in enumerate(exercise.hints, start=1)
    ]
    solution = exercise.solution()
    return "\n\n".join(
        [
            f'<div class="exercise" data-name="{escape(exercise.name)}">',
            "<p>A check needs a kernel. On this page you can look up hints and a solution.</p>",
            *hints,
            "<details><summary>Solution</summary>",
            f"```python\n{solution.code}\n```",
            f"<p>{marked(solution.text)}</p>",
            "</details>",
            "</div>",
        ]
    )


def main() -> None:
    """Build the pages in build/site; print how large they are and how long it took."""
    matplotlib.use("agg")
    out, began = ROOT / "build" / "site", time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    build(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    seconds = time.monotonic() - began
    print(f"{out / 'index.html'}: {size / 1e6:.1f} MB in all, built in {seconds:.0f} s")


if __name__ == "__main__":
    main()
