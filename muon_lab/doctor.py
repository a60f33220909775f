"""Report what this machine can do, and how to fix what the course needs and lacks.

`python -m muon_lab.doctor` prints the report and exits with 1 if there is something to fix; in a
notebook, `doctor.examine()` shows it. It also runs, and says so, if torch or JupyterLab is missing.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

REINSTALL = "`make clean lab`"  # `make lab` alone takes the installation to be complete
ENOUGH_BYTES = 3 * 2**30  # for JupyterLab, two kernels and one training run
# A widget is half Python in a kernel, half JavaScript in the browser: the versions must match.
WIDGET_PACKAGES = ("jupyterlab", "ipywidgets", "jupyterlab_widgets", "anywidget")
BROWSER_PARTS = ("@jupyter-widgets/jupyterlab-manager", "anywidget")


@dataclass(frozen=True)
class Finding:
    """One check: its subject, what was found, and how to fix it ("" if nothing is wrong)."""

    subject: str
    text: str
    fix: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """All findings; the representation is the report."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that need fixing."""
        return tuple(finding for finding in self.findings if finding.fix)

    def __repr__(self):
        width = max(len(finding.subject) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = "✗" if finding.fix else "✓"
            lines.append(f"{mark} {finding.subject:{width}}  {finding.text}")
            if finding.fix:
                lines.append(f"  {'':{width}}  to fix it: {finding.fix}")
        count = len(self.problems)
        verdict = f"{count} problem{'s' * (count > 1)} to fix."
        return "\n".join([*lines, "", verdict if count else "Ready for the course."])


def examine() -> Report:
    """Check this machine; takes about three seconds, most of them to import torch."""
    try:
        import torch
    except (ImportError, OSError):  # OSError: a library that torch needs is missing
        torch = None
    findings = [python_version(sys.version_info[:3]), package(), torch_version(torch)]
    findings += [cores(torch), memory(memory_bytes())]
    if torch:
        findings += [gpu(torch), bf16(torch)]
    return Report((*findings, *widgets()))


def python_version(version: tuple[int, ...]) -> Finding:
    """Check that Python is new enough."""
    fix = "" if version >= (3, 11) else f"install Python 3.11 or later, then {REINSTALL}"
    return Finding("Python", ".".join(map(str, version)), fix)


def package() -> Finding:
    """Check that a notebook's kernel, which starts in another folder, would import this package."""
    script = "import muon_lab; print(muon_lab.__version__, muon_lab.__file__)"
    # -P: do not look in the current folder.
    result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    version, _, path = result.stdout.strip().partition(" ")
    if path and Path(path).parent.samefile(Path(__file__).parent):
        return Finding("Muon Lab", version)
    text = "notebooks would import another copy" if path else "notebooks could not import it"
    return Finding("Muon Lab", f"{text}: was this folder moved?", REINSTALL)


def torch_version(torch: ModuleType | None) -> Finding:
    """Check that PyTorch is there, and new enough to have its own Muon to compare with."""
    if torch is None:
        return Finding("PyTorch", "missing", REINSTALL)
    new_enough = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 9)
    return Finding("PyTorch", torch.__version__, "" if new_enough else REINSTALL)


def cores(torch: ModuleType | None) -> Finding:
    """Count the processor cores that this process may use, and torch's threads."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        count = os.cpu_count() or 1
    threads = f", {torch.get_num_threads()} torch threads" if torch else ""
    return Finding("Cores", f"{count} ({platform.machine()}){threads}")


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or its container's if less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return total if text == "max" else min(total, int(text))


def memory(count: int) -> Finding:
    """Report the memory, with advice if there is little; the course runs all the same."""
    advice = "" if count >= ENOUGH_BYTES else ": keep only one notebook open at a time"
    return Finding("Memory", f"{count / 2**30:.1f} GiB{advice}")


def gpu(torch: ModuleType) -> Finding:
    """Name the GPU that torch can use."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Finding("GPU", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple, through MPS")
    return Finding("GPU", "none: every notebook runs in its CPU size")


def bf16(torch: ModuleType) -> Finding:
    """Report whether the hardware computes in bf16, and measure how much faster that is."""
    if torch.cuda.is_available():
        device, native = "cuda", torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        device, native = "mps", True
    else:
        device, native = "cpu", cpu_has_bf16(torch)
    speed = matmul_seconds(torch, device, "float32") / matmul_seconds(torch, device, "bfloat16")
    kind = "native" if native else "emulated"
    return Finding("bf16", f"{kind}; a matrix product has {speed:.1f} times the speed of fp32")


def cpu_has_bf16(torch: ModuleType) -> bool:
    """Return whether the CPU has bf16 instructions; on x86 torch's own flag is always true."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, flag, bool)() for flag in flags)


def matmul_seconds(torch: ModuleType, device: str, dtype: str, size: int = 768) -> float:
    """Return the shortest of 20 times that a square matrix product took."""
    matrix = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # reading a number waits for the device
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def widgets() -> list[Finding]:
    """Check that JupyterLab and the packages behind the explorers are there and fit together."""
    versions = {name: version_of(name) for name in WIDGET_PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return [Finding("Widgets", f"missing: {', '.join(missing)}", REINSTALL)]
    found = ", ".join(f"{name} {versions[name]}" for name in WIDGET_PACKAGES[1:])
    conflicts = [*version_conflicts(versions), *browser_conflicts(versions["anywidget"])]
    lab = versions["jupyterlab"]
    return [
        Finding("JupyterLab", lab, "" if lab.startswith("4.") else REINSTALL),
        Finding("Widgets", "; ".join([found, *conflicts]), REINSTALL if conflicts else ""),
    ]


def version_of(package: str) -> str | None:
    """Return an installed package's version, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_conflicts(versions: dict[str, str]) -> Iterator[str]:
    """Yield a sentence for each requirement of one of these packages that another does not meet."""
    from packaging.requirements import Requirement  # comes with JupyterLab

    for name in versions:
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            version = versions.get(requirement.name)
            optional = requirement.marker and not requirement.marker.evaluate({"extra": ""})
            if version and not optional and not requirement.specifier.contains(version):
                yield f"{name} needs {requirement}, but {version} is installed"


def browser_conflicts(anywidget_version: str) -> Iterator[str]:
    """Yield a sentence for each browser part that JupyterLab lacks or has in another version."""
    from jupyter_core.paths import jupyter_path  # comes with JupyterLab

    for part in BROWSER_PARTS:
        files = [Path(folder, part, "package.json") for folder in jupyter_path("labextensions")]
        file = next((file for file in files if file.exists()), None)
        version = json.loads(file.read_text())["version"] if file else None
        if version is None:
            yield f"JupyterLab has no {part} to load"
        elif part == "anywidget" and version != anywidget_version:
            yield f"JupyterLab would load {part} {version}"


def main() -> int:
    """Print the report; return 1 if there is something to fix."""
    report = examine()
    print(report)
    return int(bool(report.problems))


if __name__ == "__main__":
    raise SystemExit(main())
