import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from muon_lab import doctor
from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.training.config import PRESETS


@pytest.fixture(scope="module")
def report():
    return doctor.examine()


def test_this_machine_is_ready(report):
    assert report.faults == ()
    assert repr(report).endswith("Ready for the course.")


def test_every_question_is_answered(report):
    subjects = [finding.subject for finding in report.findings]
    assert subjects == [
        *("Python", "Muon Lab", "PyTorch", "Cores", "Memory"),
        *("GPU", "bf16", "JupyterLab", "Widgets"),
    ]


def test_a_fault_is_marked_and_its_mend_said():
    findings = (doctor.Finding("Memory", "1 GiB", "close something"), doctor.Finding("GPU", "none"))
    lines = repr(doctor.Report(findings)).splitlines()
    assert [line[:1] for line in lines[:3]] == ["✗", " ", "✓"]
    assert lines[1].strip() == "to mend it: close something"
    assert lines[-1] == "1 thing to mend."


@pytest.mark.parametrize(
    ("finding", "wrong"),
    [
        (doctor.python_version((3, 10, 13)), True),
        (doctor.python_version((3, 11, 0)), False),
        (doctor.torch_version(None), True),
        (doctor.torch_version(SimpleNamespace(__version__="2.8.1+cu128")), True),
        (doctor.torch_version(SimpleNamespace(__version__="2.10.0")), False),
    ],
)
def test_limits(finding, wrong):
    assert bool(finding.mend) == wrong


def test_an_nvidia_gpu_is_named():
    properties = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    cuda = SimpleNamespace(
        is_available=lambda: True, get_device_properties=lambda index: properties
    )
    assert doctor.device(SimpleNamespace(cuda=cuda)).seen == "NVIDIA H100, 80 GiB"


def test_a_missing_widget_package_is_named(monkeypatch):
    version_of = doctor.version_of
    monkeypatch.setattr(
        doctor, "version_of", lambda name: None if name == "anywidget" else version_of(name)
    )
    [finding] = doctor.widgets()
    assert (finding.seen, finding.mend) == ("missing: anywidget", doctor.INSTALL)


def test_widgets_that_do_not_fit_together_are_seen():
    versions = {name: doctor.version_of(name) for name in doctor.WIDGET_PACKAGES}
    assert list(doctor.misfits(versions)) == []
    [sentence] = doctor.misfits(versions | {"jupyterlab_widgets": "1.1.0"})
    assert sentence.startswith("ipywidgets wants jupyterlab_widgets")
    assert sentence.endswith("and 1.1.0 is here")


def test_a_stale_part_in_the_browser_is_seen(tmp_path, monkeypatch):
    assert list(doctor.browser_misfits(doctor.version_of("anywidget"))) == []
    part = tmp_path / "labextensions/anywidget/package.json"
    part.parent.mkdir(parents=True)
    part.write_text('{"version": "0.0.1"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert list(doctor.browser_misfits("0.11.0")) == ["JupyterLab would load anywidget 0.0.1"]


def test_a_part_that_is_not_in_the_browser_is_seen(monkeypatch):
    monkeypatch.setattr(doctor, "BROWSER_PARTS", ("nosuchpart",))
    assert list(doctor.browser_misfits("0.11.0")) == ["JupyterLab has no nosuchpart to load"]


def test_without_torch_it_says_so_and_exits_with_1():
    script = (
        "import sys; sys.modules['torch'] = None; from muon_lab import doctor; "
        "raise SystemExit(doctor.main())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1
    assert "✗ PyTorch     missing\n" in result.stdout
    # Within an installation `make lab` installs nothing, and it is what called the doctor.
    assert "to mend it: `make clean lab`" in result.stdout


def test_every_notebook_is_in_the_plan_and_none_that_is_not_there():
    folder = Path(__file__).parent.parent / "notebooks"
    assert [path.stem for path in sorted(folder.glob("*.ipynb"))] == list(doctor.NOTEBOOKS)


def test_a_machine_half_as_fast_is_told_twice_the_time(monkeypatch):
    monkeypatch.setattr(doctor, "NOTEBOOKS", {"07_training_run": ("two runs", 60)})
    assert list(doctor.plan(pace=1.0)) == ["     60 s  07_training_run  two runs"]
    assert list(doctor.plan(pace=2.0)) == ["    2 min  07_training_run  two runs"]


def test_with_cuda_the_training_run_is_the_large_one_and_no_seconds_are_promised():
    [other] = set(doctor.plan(pace=1.0, cuda=True)) - set(doctor.plan(pace=1.0))
    assert other.split()[:2] == ["minutes", "07_training_run"]
    size = GPTConfig(**{k: PRESETS["gpu"][k] for k in ("layers", "width", "heads", "context")})
    with torch.device("meta"):
        millions = GPT(size).parameter_count() / 1e6
    assert f"{millions:.0f} million parameters" in other


def test_little_memory_is_said_and_no_reason_to_stop():
    little, enough = doctor.memory(2**31), doctor.memory(2**33)
    assert (little.seen, little.mend) == (
        "2.0 GiB: little, so keep one notebook open at a time",
        "",
    )
    assert enough.seen == "8.0 GiB"
