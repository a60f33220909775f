import subprocess
import sys
from types import SimpleNamespace

import pytest

from muon_lab import doctor


@pytest.fixture(scope="module")
def report():
    return doctor.examine()


def test_this_machine_is_ready(report):
    assert report.problems == ()
    assert repr(report).endswith("Ready for the course.")


def test_every_check_is_in_the_report(report):
    subjects = [finding.subject for finding in report.findings]
    assert subjects == [
        *("Python", "Muon Lab", "PyTorch", "Cores", "Memory"),
        *("GPU", "bf16", "JupyterLab", "Widgets"),
    ]


def test_a_problem_is_marked_and_its_fix_follows():
    findings = (doctor.Finding("Memory", "1 GiB", "close something"), doctor.Finding("GPU", "none"))
    lines = repr(doctor.Report(findings)).splitlines()
    assert [line[:1] for line in lines[:3]] == ["✗", " ", "✓"]
    assert lines[1].strip() == "to fix it: close something"
    assert lines[-1] == "1 problem to fix."


@pytest.mark.parametrize(
    ("finding", "is_problem"),
    [
        (doctor.python_version((3, 10, 13)), True),
        (doctor.python_version((3, 11, 0)), False),
        (doctor.torch_version(None), True),
        (doctor.torch_version(SimpleNamespace(__version__="2.8.1+cu128")), True),
        (doctor.torch_version(SimpleNamespace(__version__="2.10.0")), False),
    ],
)
def test_oldest_versions(finding, is_problem):
    assert bool(finding.fix) == is_problem


def test_an_nvidia_gpu_is_named():
    properties = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    cuda = SimpleNamespace(
        is_available=lambda: True, get_device_properties=lambda index: properties
    )
    assert doctor.gpu(SimpleNamespace(cuda=cuda)).text == "NVIDIA H100, 80 GiB"


def test_a_missing_widget_package_is_named(monkeypatch):
    version_of = doctor.version_of
    monkeypatch.setattr(
        doctor, "version_of", lambda name: None if name == "anywidget" else version_of(name)
    )
    [finding] = doctor.widgets()
    assert (finding.text, finding.fix) == ("missing: anywidget", doctor.REINSTALL)


def test_widget_packages_that_do_not_fit_together_are_named():
    versions = {name: doctor.version_of(name) for name in doctor.WIDGET_PACKAGES}
    assert list(doctor.version_conflicts(versions)) == []
    [sentence] = doctor.version_conflicts(versions | {"jupyterlab_widgets": "1.1.0"})
    assert sentence.startswith("ipywidgets needs jupyterlab_widgets")
    assert "1.1.0" in sentence


def test_an_outdated_browser_part_is_named(tmp_path, monkeypatch):
    assert list(doctor.browser_conflicts(doctor.version_of("anywidget"))) == []
    part = tmp_path / "labextensions/anywidget/package.json"
    part.parent.mkdir(parents=True)
    part.write_text('{"version": "0.0.1"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert list(doctor.browser_conflicts("0.11.0")) == ["JupyterLab would load anywidget 0.0.1"]


def test_a_missing_browser_part_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "BROWSER_PARTS", ("nosuchpart",))
    assert list(doctor.browser_conflicts("0.11.0")) == ["JupyterLab has no nosuchpart to load"]


def test_without_torch_it_still_reports_and_exits_with_1():
    script = (
        "import sys; sys.modules['torch'] = None; from muon_lab import doctor; "
        "raise SystemExit(doctor.main())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1
    assert "✗ PyTorch     missing\n" in result.stdout
    # `make lab`, which called the doctor, would install nothing.
    assert "to fix it: `make clean lab`" in result.stdout


def test_little_memory_is_mentioned_but_is_no_problem():
    little, enough = doctor.memory(2**31), doctor.memory(2**33)
    assert (little.text, little.fix) == ("2.0 GiB: keep only one notebook open at a time", "")
    assert enough.text == "8.0 GiB"
