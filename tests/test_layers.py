"""A module imports only from the floors below it, and a light one costs no heavy package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "muon_lab"
GROUND = {
    "problems": "",
    "polynomials": "",
    "schema": "",
    "attention": "",
    "corpus": "",
    "split": "",
    "files": "",
    "cores": "",
    "doctor": "",
}
# The ground floor first. What stands behind a name is what that module may import of the package.
MAY_IMPORT = GROUND | {
    "orthogonalize": "polynomials",
    "descent": "problems polynomials orthogonalize",
    "muon": "polynomials orthogonalize split cores",
    "gpt": "attention",
    "clip": "muon",
    "records": "schema files",
    "comparison": "records",
    "runs": "records comparison",
    "device": "",
    "prefetch": "",
    "presets": "",
    "meters": "",
    "options": "gpt device presets",
    "optimizers": "clip gpt muon options",
    "checkpoints": "files",
    "spectra": "orthogonalize",
    "faults": "",
    "reports": "corpus gpt options runs spectra",
    "training": "gpt muon clip corpus runs options checkpoints spectra faults files device "
    "prefetch meters optimizers reports",
    "sweep": "corpus runs options reports training",
    "plots": "polynomials runs",
}
MAY_IMPORT["benchmarks"] = " ".join(MAY_IMPORT.keys() - {"doctor", "plots"})
MAY_IMPORT["explorers"] = f"{MAY_IMPORT['benchmarks']} benchmarks plots"
MAY_IMPORT["exercises"] = f"{MAY_IMPORT['benchmarks']} benchmarks"
BARE = {"numpy", "torch", "tqdm"}  # training must run with these alone
ALSO = {
    "plots": {"matplotlib"},
    "explorers": {"matplotlib", "anywidget", "ipywidgets", "traitlets", "IPython"},
    "doctor": {"packaging", "jupyter_core"},
}


def modules():
    """Yield (floor, file) for every module; a subpackage is one floor."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.name != "__init__.py" or file.parent != PACKAGE:
            yield file.relative_to(PACKAGE).parts[0].removesuffix(".py"), file


def imports(text):
    """Yield the dotted name of everything that a module's text imports, wherever it stands."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = node.module == "muon_lab"  # "from muon_lab import plots"
            names = [f"muon_lab.{alias.name}" for alias in node.names] if inside else [node.module]
            yield from names if not node.level else ["." * node.level + (node.module or "")]


def strays(floor, text):
    """Return what a module of this floor imports and may not."""
    allowed = {floor, *MAY_IMPORT[floor].split()}
    packages = BARE | ALSO.get(floor, set()) | set(sys.stdlib_module_names)
    found = set()
    for name in imports(text):
        package, _, rest = name.partition(".")
        inside = package == "muon_lab" and rest.split(".")[0] in allowed
        if not inside and package not in packages:
            found.add(name)
    return found


@pytest.mark.parametrize(("floor", "file"), [pytest.param(*m, id=m[1].stem) for m in modules()])
def test_a_module_imports_only_from_the_floors_below(floor, file):
    assert strays(floor, file.read_text()) == set()


@pytest.mark.parametrize(
    ("floor", "text", "found"),
    [
        ("gpt", "from muon_lab.muon import Muon", {"muon_lab.muon"}),
        ("gpt", "from muon_lab import plots", {"muon_lab.plots"}),
        ("gpt", "from . import plots", {"."}),
        ("plots", "def draw():\n    import ipywidgets", {"ipywidgets"}),
        ("training", "import matplotlib.pyplot as plt", {"matplotlib.pyplot"}),
        ("clip", "import torch, math\nfrom muon_lab.muon import Muon", set()),
    ],
)
def test_a_stray_import_is_seen(floor, text, found):
    assert strays(floor, text) == found


def test_the_plan_is_no_circle():
    order, waiting = set(), dict(MAY_IMPORT)
    while ready := {floor for floor, below in waiting.items() if set(below.split()) <= order}:
        order |= ready
        waiting = {floor: below for floor, below in waiting.items() if floor not in ready}
    assert waiting == {}


def test_light_modules_load_no_heavy_package():
    light = {"problems", "polynomials", "descent", "runs", "plots", "exercises", "doctor"}
    script = "\n".join(
        [
            "import sys, muon_lab",
            "assert 'numpy' not in sys.modules",
            *(f"import muon_lab.{name}" for name in sorted(light)),
            "print(sorted({'torch', 'ipywidgets', 'anywidget'} & sys.modules.keys()))",
        ]
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")
