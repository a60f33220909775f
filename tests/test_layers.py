"""Imports go one way between the package's parts, and light parts import nothing heavy."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "muon_lab"
OPTIMIZER = "polynomials split sharing orthogonalize options muon clip after_muon"
# Each part may import the parts named behind it, which all come before it in this list.
MAY_IMPORT = {
    "polynomials": "",
    "symmetric": "",
    "split": "",
    "sharing": "",
    "problems": "",
    "model": "",
    "runs": "",
    "doctor": "",
    "my_course": "runs",
    "orthogonalize": "polynomials symmetric",
    "options": "polynomials split",
    "muon": "polynomials split sharing orthogonalize options",
    "clip": "muon",
    "after_muon": "muon",
    "descent": "polynomials problems orthogonalize",
    "training": f"{OPTIMIZER} model runs",
    "plots": "polynomials runs",
    "roofline": "training plots",
    "exercises": f"{OPTIMIZER} model runs problems descent training",
    "explorers": f"{OPTIMIZER} model runs problems descent training plots",
}
# Training must run on a machine that has only these installed.
THIRD_PARTY = {part: {"numpy", "torch", "tqdm"} for part in MAY_IMPORT}
THIRD_PARTY["symmetric"] |= {"triton"}  # where torch brings it
THIRD_PARTY["plots"] |= {"matplotlib"}
THIRD_PARTY["roofline"] |= {"matplotlib"}
THIRD_PARTY["exercises"] |= {"IPython"}
THIRD_PARTY["explorers"] |= {"matplotlib", "anywidget", "ipywidgets", "traitlets", "IPython"}
THIRD_PARTY["doctor"] |= {"packaging", "jupyter_core"}


def imports(text):
    """Yield what a module's text imports, at its top or in a function: "numpy", "muon_lab.runs"."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "muon_lab":
            names = [f"muon_lab.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["a relative import" if node.level else node.module]
        else:
            continue
        for name in names:
            yield ".".join(name.split(".")[: 1 + name.startswith("muon_lab.")])


def forbidden(part, text):
    """Return what a module of this part imports and may not import."""
    inside = {f"muon_lab.{name}" for name in (part, *MAY_IMPORT[part].split())}
    return set(imports(text)) - inside - THIRD_PARTY[part] - sys.stdlib_module_names


def test_the_list_has_every_part_and_goes_one_way():
    parts = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    parts |= {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert set(MAY_IMPORT) == parts
    order = list(MAY_IMPORT)
    for part, below in MAY_IMPORT.items():
        assert set(below.split()) <= set(order[: order.index(part)])


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_one_way(part):
    files = [PACKAGE / f"{part}.py", *(PACKAGE / part).rglob("*.py")]
    found = {str(file): forbidden(part, file.read_text()) for file in files if file.exists()}
    assert found and set().union(*found.values()) == set(), found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from muon_lab import plots", {"muon_lab.plots"}),
        ("def draw():\n    import ipywidgets", {"ipywidgets"}),
        ("from . import plots", {"a relative import"}),
        ("import torch, math\nfrom muon_lab.muon import Muon", set()),
    ],
)
def test_a_forbidden_import_is_found(text, found):
    assert forbidden("clip", text) == found


LIGHT = "problems polynomials descent runs training plots exercises exercises.overview doctor"


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (["muon_lab"], {"numpy", "torch"}),
        ([f"muon_lab.{name}" for name in LIGHT.split()], {"torch", "ipywidgets", "anywidget"}),
        (["muon_lab.my_course"], {"torch", "matplotlib"}),
    ],
)
def test_light_modules_load_nothing_heavy(modules, heavy):
    script = f"import sys, {', '.join(modules)}; print(sorted({heavy} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_what_tests_and_tools_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {canonicalize_name(Requirement(text).name) for texts in lists for text in texts}
    declared |= {"traitlets"}  # anywidget's own classes
    files = [ROOT / "conftest.py", *ROOT.glob("tests/**/*.py"), *ROOT.glob("tools/*.py")]
    modules = {name.split(".")[0] for file in files for name in imports(file.read_text())}
    found = {
        module: set(map(canonicalize_name, names))
        for module, names in packages_distributions().items()
        if module in modules
    }
    assert found and [module for module, names in found.items() if not names & declared] == []
