"""Say what this machine can do, what each notebook will do on it, and what to mend.

`python -m muon_lab.doctor` prints the report and exits with 1 where something is wrong; in a
notebook, `doctor.examine()` shows it. It runs where torch or JupyterLab are missing, and says so.
"""

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

INSTALL = "`make clean lab`, which installs it"  # `make lab` alone believes that all is there
ENOUGH_BYTES = 3 * 2**30  # for JupyterLab, two kernels and one training run
# A page in the browser and a kernel in Python meet in these packages, so they must fit together.
WIDGET_PACKAGES = ("jupyterlab", "ipywidgets", "jupyterlab_widgets", "anywidget")
BROWSER_PARTS = ("@jupyter-widgets/jupyterlab-manager", "anywidget")

# What a notebook computes, and the seconds of one core that it took from top to bottom, measured
# with one thread on an AMD EPYC with AVX-512, on which the step in `pace` took PACE_SECONDS.
PACE_SECONDS = 0.0022
NOTEBOOKS = {
    "00_start_here": ("a path down a valley", 5),
    "01_descent": ("paths of three rules, and learning rates tried by the hundred", 8),
    "02_adaptive": ("races of five rules", 12),
    "03_matrices": ("ten training steps of a small network, and SVDs", 10),
    "04_polynomials": ("polynomials of matrices, and a Remez", 10),
    "05_muon": ("small problems, learning rates swept for every optimizer", 13),
    "06_attention": ("a small GPT's parts, and their logits", 13),
    "07_training_run": ("a GPT trained twice, by AdamW and by Muon", 75),
    "08_muonclip": ("a GPT whose logits explode, with the clip and without", 46),
}
# What takes another size where torch has CUDA; how long depends on the GPU more than on the core.
ON_CUDA = {"07_training_run": "a GPT of 32 million parameters, trained twice on the GPU"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at, what was seen, and how to mend it ("" where nothing is wrong)."""

    subject: str
    seen: str
    mend: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """All findings, and what each notebook will do and take; it shows itself as text."""

    findings: tuple[Finding, ...]
    plan: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that need mending."""
        return tuple(finding for finding in self.findings if finding.mend)

    def __repr__(self):
        width = max(len(finding.subject) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = "✗" if finding.mend else "✓"
            lines.append(f"{mark} {finding.subject:{width}}  {finding.seen}")
            if finding.mend:
                lines.append(f"  {'':{width}}  to mend it: {finding.mend}")
        if self.plan:
            lines += ["", "From top to bottom the notebooks will run here for about", *self.plan]
        count = len(self.faults)
        verdict = f"{count} thing{'s' * (count > 1)} to mend." if count else "Ready for the course."
        return "\n".join([*lines, "", verdict])


def examine() -> Report:
    """Look at this machine; takes about three seconds, most of them to load torch."""
    torch = load_torch()
    findings = [python_version(sys.version_info[:3]), package(), torch_version(torch)]
    findings += [cores(torch), memory(memory_bytes())]
    if torch:
        findings += [device(torch), bf16(torch)]
    findings += widgets()
    planned = plan(pace(torch), torch.cuda.is_available()) if torch else ()
    return Report(tuple(findings), tuple(planned))


def load_torch() -> ModuleType | None:
    """Return torch, or None where it is missing or broken."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    return torch


def python_version(version: tuple[int, ...]) -> Finding:
    """Judge the interpreter."""
    mend = "" if version >= (3, 11) else "install Python 3.11 or later, then `make clean lab`"
    return Finding("Python", ".".join(map(str, version)), mend)


def package() -> Finding:
    """Judge whether a notebook's kernel, which starts elsewhere, would find this package."""
    ask = "import muon_lab; print(muon_lab.__version__, muon_lab.__file__)"
    # -P: not from the folder that the doctor happens to stand in.
    answer = subprocess.run([sys.executable, "-P", "-c", ask], capture_output=True, text=True)
    version, _, place = answer.stdout.strip().partition(" ")
    if place and Path(place).parent.samefile(Path(__file__).parent):
        return Finding("Muon Lab", version)
    seen = "notebooks would find another copy" if place else "notebooks would not find it"
    return Finding("Muon Lab", f"{seen}: was this folder moved?", "`make clean lab`")


def torch_version(torch: ModuleType | None) -> Finding:
    """Judge PyTorch: there, and new enough to have its own Muon to compare with."""
    if torch is None:
        return Finding("PyTorch", "missing", INSTALL)
    new_enough = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 9)
    return Finding("PyTorch", torch.__version__, "" if new_enough else "`make clean lab`")


def cores(torch: ModuleType | None) -> Finding:
    """Count the processor cores that this process may use, and torch's threads."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity to ask for
        count = os.cpu_count() or 1
    threads = f", {torch.get_num_threads()} of torch's threads" if torch else ""
    return Finding("Cores", f"{count} ({platform.machine()}){threads}")


def memory_bytes() -> int:
    """Return the memory this process may use: the machine's, or its container's if less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return whole if text == "max" else min(whole, int(text))


def memory(count: int) -> Finding:
    """Say how much memory there is, and what to do with little: no reason not to begin."""
    advice = "" if count >= ENOUGH_BYTES else ": little, so keep one notebook open at a time"
    return Finding("Memory", f"{count / 2**30:.1f} GiB{advice}")


def device(torch: ModuleType) -> Finding:
    """Name what torch can compute on."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Finding("GPU", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple's, by MPS")
    return Finding("GPU", "none: every notebook runs in its CPU size")


def bf16(torch: ModuleType) -> Finding:
    """Say whether bf16 is in hardware here, and measure whether it pays."""
    if torch.cuda.is_available():
        place, native = "cuda", torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        place, native = "mps", True
    else:
        place, native = "cpu", cpu_has_bf16(torch)
    ratio = matmul_seconds(torch, place, "bfloat16") / matmul_seconds(torch, place, "float32")
    pays = f"{1 / ratio:.1f} times as fast as" if ratio < 1 else f"{ratio:.1f} times slower than"
    return Finding("bf16", f"{'native' if native else 'emulated'}; a product is {pays} in fp32")


def cpu_has_bf16(torch: ModuleType) -> bool:
    """Ask torch for the instructions; on an x86 its own flag is true without them too."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def matmul_seconds(torch: ModuleType, place: str, dtype: str, size: int = 768) -> float:
    """Return the time of a square matrix product."""
    matrix = torch.ones(size, size, device=place, dtype=getattr(torch, dtype))

    def product():
        (matrix @ matrix)[0, 0].item()  # reading a number waits for the device

    return best_seconds(product)


def best_seconds(action: Callable[[], object], repeats: int = 20) -> float:
    """Return the least of some timings of an action: what it takes where nothing else is busy."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def pace(torch: ModuleType) -> float:
    """Return how long a small network's step takes a core, as a multiple of where it was measured.

    One thread and a short step, many times: some then fall between what else the machine does.
    """
    layers = [torch.nn.Linear(128, 512), torch.nn.GELU(), torch.nn.Linear(512, 128)]
    network, tokens = torch.nn.Sequential(*layers), torch.ones(256, 128)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = best_seconds(lambda: network(tokens).square().mean().backward(), repeats=60)
    torch.set_num_threads(threads)
    return seconds / PACE_SECONDS


def plan(pace: float, cuda: bool = False) -> Iterator[str]:
    """Yield a line for each notebook: its seconds at this pace, and what they are spent on."""
    for name, (work, seconds) in NOTEBOOKS.items():
        if cuda and name in ON_CUDA:
            yield f"  minutes  {name:15}  {ON_CUDA[name]}"
        else:
            yield f"  {in_words(seconds * pace):>7}  {name:15}  {work}"


def in_words(seconds: float) -> str:
    """Round to what an estimate can promise.

    >>> in_words(4), in_words(37), in_words(200)
    ('10 s', '40 s', '3 min')
    """
    if seconds > 90:
        return f"{seconds / 60:.0f} min"
    return f"{10 * math.ceil(seconds / 10)} s"


def widgets() -> list[Finding]:
    """Judge JupyterLab and the live widgets: there, and fitting together."""
    versions = {name: version_of(name) for name in WIDGET_PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    labels = ("JupyterLab", "Widgets")
    if missing:
        return [Finding(labels[1], f"missing: {', '.join(missing)}", INSTALL)]
    seen = ", ".join(f"{name} {versions[name]}" for name in WIDGET_PACKAGES[1:])
    wrong = [*misfits(versions), *browser_misfits(versions["anywidget"])]
    mend, lab = "`make clean lab`" if wrong else "", versions["jupyterlab"]
    return [
        Finding(labels[0], lab, "" if lab.startswith("4.") else "`make clean lab`"),
        Finding(labels[1], "; ".join([seen, *wrong]), mend),
    ]


def version_of(package: str) -> str | None:
    """Return an installed package's version, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def misfits(versions: dict[str, str]) -> Iterator[str]:
    """Yield what the packages themselves ask of one another and do not get."""
    from packaging.requirements import Requirement  # comes with JupyterLab

    for name in versions:
        requirements = [Requirement(text) for text in importlib.metadata.requires(name) or []]
        for requirement in requirements:
            version = versions.get(requirement.name)
            optional = requirement.marker and not requirement.marker.evaluate({"extra": ""})
            if version and not optional and not requirement.specifier.contains(version):
                yield f"{name} wants {requirement}, and {version} is here"


def browser_misfits(anywidget_version: str) -> Iterator[str]:
    """Yield the widgets' parts in the browser that JupyterLab lacks, or has in another version."""
    from jupyter_core.paths import jupyter_path  # comes with JupyterLab

    for part in BROWSER_PARTS:
        described = [Path(folder, part, "package.json") for folder in jupyter_path("labextensions")]
        found = next((path for path in described if path.exists()), None)
        if found is None:
            yield f"JupyterLab has no {part} to load"
        elif part == "anywidget":
            version = json.loads(found.read_text())["version"]
            if version != anywidget_version:
                yield f"JupyterLab would load {part} {version}"


def main() -> int:
    """Print the report; return 1 where something is to be mended."""
    report = examine()
    print(report)
    return int(bool(report.faults))


if __name__ == "__main__":
    raise SystemExit(main())
