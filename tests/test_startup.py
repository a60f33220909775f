"""Every way of installing uses one list of versions, and `make` explains what goes wrong."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from jupyter_browser import LAB_FLAGS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from muon_lab.training.config import parse

ROOT = Path(__file__).parent.parent
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M
    )
}


def needed(package, extras=("",)):
    """Return the names of an installed package and of everything that it needs on this machine."""
    found, waiting = set(), [(canonicalize_name(package), frozenset({*extras, ""}))]
    while waiting:
        asked = waiting.pop()
        if asked in found:
            continue
        found.add(asked)
        for requirement in map(Requirement, importlib.metadata.requires(asked[0]) or []):
            marker = requirement.marker
            if not marker or any(marker.evaluate({"extra": extra}) for extra in asked[1]):
                name = canonicalize_name(requirement.name)
                waiting.append((name, frozenset({*requirement.extras, ""})))
    return {name for name, _ in found}


def cuda_part(name):
    """Return whether torch's wheel for Linux with CUDA pins this package exactly."""
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def test_the_lock_names_every_package_that_is_needed():
    packages = {name for name in needed("muon-lab", ["test"]) if not cuda_part(name)}
    assert packages - {"muon-lab"} <= LOCK.keys()


def test_the_lock_is_what_is_installed():
    installed_versions = {
        name: importlib.metadata.version(name)
        for name in needed("muon-lab", ["test"]) & LOCK.keys()
    }
    assert {name: Version(version).public for name, version in installed_versions.items()} == {
        name: LOCK[name] for name in installed_versions
    }


def test_the_lock_satisfies_what_the_project_requires():
    project = METADATA["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = [text for texts in lists for text in texts]
    outside = [Requirement(text) for text in asked if not text.startswith("muon-lab")]
    assert [str(r) for r in outside if LOCK[canonicalize_name(r.name)] not in r.specifier] == []


def test_conda_installs_the_same():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python, pip = lines[0], lines[-1]["pip"]
    assert python == f"python={METADATA['project']['requires-python'].removeprefix('>=')}"
    assert pip == ["-c requirements.lock", "-e .[lab]"]
    assert "lab" in METADATA["project"]["optional-dependencies"]


@pytest.fixture
def clone(tmp_path):
    """Make a folder, with a space in its name, with the files that `make` reads and no .venv."""
    folder = tmp_path / "muon lab"
    (folder / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


def fake(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def make(folder, *arguments, **variables):
    """Run make with the folder's bin first on the path; return its result and all its output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "DISPLAY"))}
    environment |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"} | variables
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def installed(folder):
    """Make a folder look like a finished installation."""
    fake(folder / ".venv/bin/python", 'echo ran "$@"')
    for mark in (".venv/bin/pip", ".venv/has-lab", ".venv/has-test"):
        (folder / mark).touch()


def test_help_lists_every_target(clone):
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    lines = make(clone).stdout.splitlines()
    assert [line.split()[1] for line in lines] == targets
    assert {"help", "lab", "test", "check", "bench", "store", "clean"} <= set(targets)


@pytest.mark.parametrize(
    ("script", "options", "sentence"),
    [
        (
            '[ "$1" = --version ] && echo Python 3.10.13; exit 1',
            [],
            "Muon Lab needs Python 3.11 or later, and python3 is Python 3.10.13",
        ),
        ("exit 1", ["PYTHON=nosuchpython"], "3.11 or later, and nosuchpython is missing"),
        (
            'case "$2" in *venv*) echo No module named ensurepip; exit 1;; esac',
            [],
            "python3 has no venv module: on Debian and Ubuntu, sudo apt install python3-venv",
        ),
    ],
)
def test_a_bad_interpreter_is_reported_in_one_sentence(clone, script, options, sentence):
    for name in ("python3", "python3.13", "python3.12", "python3.11", "python"):
        fake(clone / "bin" / name, script)
    result = make(clone, "lab", *options)
    assert result.returncode != 0
    assert len(result.stdout.splitlines()) == 1
    assert sentence in result.stdout


FULL_DISK = "echo Available; echo disk 9 9 120 99%"


@pytest.mark.parametrize("half_done", [False, True])
def test_a_full_disk_is_reported_before_anything_is_written(clone, half_done):
    fake(clone / "bin/df", FULL_DISK)
    if half_done:
        fake(clone / ".venv/bin/pip", "exit 1")
    result = make(clone, "lab")
    assert result.returncode != 0
    assert len(result.stdout.splitlines()) == 1
    assert "needs 2,000 MB of disk, 8,000 with CUDA, and 120 are free here" in result.stdout
    assert (clone / ".venv").exists() == half_done


def test_an_update_does_not_check_the_disk(clone):
    installed(clone)
    fake(clone / "bin/df", FULL_DISK)
    os.utime(clone / "requirements.lock", (4e9, 4e9))
    assert "ran -m pip install" in make(clone, "lab").stdout


@pytest.mark.parametrize("target", ["lab", "test", "check"])
def test_an_environment_that_lost_its_python_is_reported_in_one_sentence(clone, target):
    installed(clone)
    (clone / ".venv/bin/python").unlink()
    (clone / ".venv/bin/python").symlink_to(clone / "gone")
    result = make(clone, target)
    assert result.returncode != 0
    assert len(result.stdout.splitlines()) == 1
    assert "The Python that made .venv is gone: run make clean lab" in result.stdout


def test_a_failed_installation_is_not_recorded(clone):
    fake(clone / ".venv/bin/python", "echo no such index; exit 1")
    (clone / ".venv/bin/pip").touch()
    result = make(clone, "lab")
    assert result.returncode != 0
    assert "no such index\nThe installation failed for the reason above" in result.stdout
    assert not (clone / ".venv/has-lab").exists()


def test_an_old_interpreter_is_passed_over(clone):
    fake(clone / "bin/python3", "exit 1")
    fake(clone / "bin/python3.13", 'case "$1" in -m) echo made by 3.13; exit 1;; esac')
    assert "made by 3.13" in make(clone, "lab").stdout


def test_a_second_start_installs_nothing(clone):
    installed(clone)
    result = make(clone, "lab", DISPLAY=":0")
    lines = result.stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["ran", "-m", "muon_lab.doctor"],
        ["ran", "-m", "muon_lab.my_course"],
        ["ran", "-m", "jupyterlab"],
    ]
    assert "--no-browser" not in result.stdout
    assert "--ip=127.0.0.1" in lines[2]
    assert "/lab/tree/my_course/00_start_here.ipynb" in lines[2]


def test_a_fresh_copy_is_asked_for_and_progress_is_kept_with_the_copies(clone):
    installed(clone)
    fake(clone / ".venv/bin/python", 'echo "$MUON_LAB_PROGRESS" "$@"')
    lines = make(clone, "lab", "FRESH=03 05").stdout.splitlines()
    assert lines[1] == f"{clone}/my_course/progress.json -m muon_lab.my_course 03 05"
    assert lines[2].startswith(f"{clone}/my_course/progress.json -m jupyterlab")


def test_the_browser_tests_start_jupyterlab_as_make_lab_does():
    text = (ROOT / "Makefile").read_text().replace('"$(CURDIR)', str(ROOT)).replace('"', "")
    assert [flag for flag in LAB_FLAGS if flag not in text] == []


def test_clean_lab_starts_again(clone):
    installed(clone)
    fake(clone / "bin/python3", 'case "$1" in -m) echo a new one; exit 1;; esac')
    assert "a new one" in make(clone, "clean", "lab").stdout
    assert not (clone / ".venv").exists()


def test_clean_deletes_only_the_environment_and_caches(clone):
    kept = clone / "notebooks/my notes/mine.ipynb"
    (kept.parent / ".ipynb_checkpoints").mkdir(parents=True)
    kept.touch()
    assert make(clone, "clean").returncode == 0
    assert [path.name for path in kept.parent.iterdir()] == ["mine.ipynb"]


def test_changed_versions_are_installed(clone):
    installed(clone)
    os.utime(clone / "requirements.lock", (4e9, 4e9))
    assert "ran -m pip install" in make(clone, "lab").stdout


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac always has a display")
def test_without_a_display_no_browser_is_opened(clone):
    installed(clone)
    assert "--no-browser" in make(clone, "lab", WAYLAND_DISPLAY="").stdout


@pytest.mark.parametrize("step", ["ruff check", "ruff format", "pytest"])
def test_a_failure_anywhere_fails_make_test(clone, step):
    installed(clone)
    assert make(clone, "test").returncode == 0
    fake(clone / ".venv/bin/python", f'case "$*" in *"{step}"*) exit 1;; esac')
    assert make(clone, "test").returncode != 0


README = (ROOT / "README.md").read_text()


def test_the_readme_shows_code_that_runs():
    [example] = re.findall(r"```python\n(.*?)```", README, re.S)
    names = {}
    exec(example, names)
    assert {group["use_muon"] for group in names["optimizer"].param_groups} == {True, False}


def test_the_readme_links_to_files_and_to_every_notebook():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    notebooks = {f"notebooks/{path.name}" for path in ROOT.glob("notebooks/*.ipynb")}
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert notebooks <= set(links)


def test_the_readme_names_targets_and_options_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    [options] = re.findall(r"-m muon_lab.training (.*)", README)
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M)) <= targets
    assert [config.optimizer for config in parse(options.split())[0]] == ["muon"]
