"""Record the course's runs on a GPU: ``make gpu``, or ``python tools/record_gpu.py --minutes 9``.

The stages run in order, the most valuable first, until the minutes are over. A training run that is
not done by then saves its checkpoint, and the next call continues it. What is recorded already is
not run again. Files carry the name of the GPU, so that two GPUs' results never mix.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from benchmarks import CASES

from muon_lab import runs
from muon_lab.runs.tables import table
from muon_lab.training.config import TrainConfig
from muon_lab.training.device import default_device
from muon_lab.training.provenance import environment, file_name

ROOT = Path(__file__).parents[1]
EXPLOSION_FACTOR = 5.0  # of the learning rate: far too high, on purpose


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what is recorded, on which device, in which folder and under which name of the GPU."""

    data: Path
    gpu: str
    device: str
    corpus: Path | None = None
    preset: str = "gpu"
    large_preset: str = "gpu-124m"
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # multiples of the preset's learning rate
    seeds: tuple[int, ...] = (0, 1, 2)
    attentions: tuple[str, ...] = ("mha", "gqa", "mla")
    taus: tuple[float, ...] = (30.0, 100.0)
    explosion_steps: int = 300
    widths: tuple[int, ...] = (768, 2048, 4096)
    benchmark_seconds: float = 10.0  # per table

    def runs(self, kind: str) -> Path:
        """Return the folder of one kind of run."""
        return self.data / "runs" / f"{kind}-{self.gpu}"

    @property
    def benchmarks(self) -> Path:
        """The record of the benchmarks; not among the runs, whose tables read every JSON file."""
        return self.data / "benchmarks" / f"{self.gpu}.json"


TINY = {
    "preset": "tiny", "large_preset": "tiny", "factors": (1.0,), "seeds": (0,),
    "attentions": ("mla",), "taus": (0.05,), "explosion_steps": 4, "widths": (64,),
    "benchmark_seconds": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A command and the file that it leaves when it succeeds; a ``.txt`` is what it printed."""

    command: tuple[str, ...]
    result: Path
    checkpoint: Path | None = None

    @property
    def failure(self) -> Path:
        """The file that says why the command failed."""
        return self.result.with_suffix(".failed.txt")

    @property
    def is_recorded(self) -> bool:
        """Whether the command has succeeded or failed."""
        return self.result.is_file() or self.failure.is_file()


def cuda_tests(plan: Plan) -> list[Task]:
    """Run the tests that need a GPU."""
    words = "-m pytest -q --color=no -m gpu -p no:cacheprovider tests/test_gpu.py tests/model"
    result = plan.benchmarks.with_name(f"{plan.gpu}-tests.txt")
    return [Task((sys.executable, *words.split()), result)]


def benchmarks(plan: Plan) -> list[Task]:
    """Time Muon's step and Newton–Schulz against torch's own, in one process."""
    words = f"tools/benchmarks.py --device {plan.device} --seconds {plan.benchmark_seconds}"
    presets = [name for name in (plan.preset, plan.large_preset) if name in CASES]
    cases = ["--case", *presets, "--compiled"] if presets else []
    words = [*words.split(), "--json", str(plan.benchmarks), "--width", *map(str, plan.widths)]
    return [Task((sys.executable, *words, *cases), plan.benchmarks)]


def learning_rates(plan: Plan) -> list[Task]:
    """Train AdamW and Muon in turns, at each learning rate, with the first seed."""
    return [
        training(plan, "gpu", factor, optimizer=optimizer, seed=plan.seeds[0])
        for factor in plan.factors
        for optimizer in ("adamw", "muon")
    ]


def three_seeds(plan: Plan) -> list[Task]:
    """Train AdamW, Muon and, at Muon's learning rate, MuonClip with every seed."""
    best = {name: best_factor(plan, name) for name in ("adamw", "muon")}
    return [
        training(plan, "gpu", factor, optimizer=optimizer, seed=seed)
        for seed in plan.seeds
        for optimizer, factor in (best | {"muonclip": best["muon"]}).items()
    ]


def explosion(plan: Plan) -> list[Task]:
    """Let Muon explode the logits of each kind of attention, and let MuonClip clip them."""
    variants = {"unclipped": {"optimizer": "muon", "watch_logits": True}}
    variants |= {f"tau{tau:g}": {"optimizer": "muonclip", "tau": tau} for tau in plan.taus}
    hot = {"schedule": "constant", "steps": plan.explosion_steps}
    return [
        training(plan, "muonclip-gpu", EXPLOSION_FACTOR, name, attention=kind, **hot, **variant)
        for kind in plan.attentions
        for name, variant in variants.items()
    ]


def large_model(plan: Plan) -> list[Task]:
    """Train the larger model with AdamW and Muon, at the multiples that won on the smaller one."""
    return [
        training(
            plan, "gpu-124m", best_factor(plan, name), optimizer=name, preset=plan.large_preset
        )
        for name in ("adamw", "muon")
    ]


STAGES = (cuda_tests, benchmarks, learning_rates, three_seeds, explosion, large_model)


def training(plan: Plan, kind: str, lr_factor: float, subfolder: str = "", **settings) -> Task:
    """Return the task of one run, at a multiple of its preset's learning rate."""
    config = TrainConfig(**{"preset": plan.preset, "device": plan.device} | settings)
    config = replace(config, lr=float(f"{lr_factor * config.lr:.6g}"))
    path = Path(f"{kind}-{plan.gpu}", subfolder, file_name(config))
    result, checkpoint = plan.data / "runs" / path, plan.data / "cache" / f"{path}.pt"
    files = {"--save": result, "--checkpoint": checkpoint}
    files |= {"--corpus": plan.corpus.resolve()} if plan.corpus else {}
    options = (str(word) for pair in files.items() for word in pair)
    command = (sys.executable, *shlex.split(config.command())[1:], *options)
    return Task(command, result, checkpoint)


def best_factor(plan: Plan, optimizer: str) -> float:
    """Return the best multiple of the learning rate; raise ValueError before all are recorded."""
    if not all(task.is_recorded for task in learning_rates(plan)):
        raise ValueError("needs the learning rates first")
    best = runs.best_of(runs.load_all(plan.runs("gpu")), optimizer)
    return best.lr / TrainConfig(preset=plan.preset, optimizer=optimizer).lr


def record(plan: Plan, minutes: float) -> list[str]:
    """Run what is not recorded until the minutes are over; return a line per unfinished stage."""
    deadline = time.monotonic() + 60 * minutes
    left = []
    for stage in STAGES:
        name = stage.__name__.replace("_", " ")
        try:
            tasks = stage(plan)
        except ValueError as reason:
            left.append(f"{name}: {reason}")
            continue
        for number, task in enumerate(tasks, start=1):
            if not task.is_recorded and time.monotonic() < deadline:
                title = f"\n# {name}, {number} of {len(tasks)}:"
                print(title, shlex.join(task.command), flush=True)
                print("#", run(task, deadline))
        missing = [task for task in tasks if not task.is_recorded]
        if missing:
            left.append(f"{name}: {len(missing)} of {len(tasks)} to run")
    return left


def run(task: Task, deadline: float) -> str:
    """Run a command until it ends or the deadline comes; keep its result, and say what happened.

    A failure, exit status 1, is recorded too. A command that ends in any other way runs again in
    the next call, from its checkpoint if it saved one.
    """
    task.result.parent.mkdir(parents=True, exist_ok=True)
    begun = task.checkpoint is not None and task.checkpoint.is_file()
    prints_result = task.result.suffix == ".txt"
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        files = {"stdout": printed if prints_result else None, "stderr": printed}
        with subprocess.Popen([*task.command, *begun * ["--resume"]], cwd=ROOT, **files) as process:
            status = wait(process, deadline)
        printed.seek(0)
        said = printed.read()
    print(said, end="")
    if status not in (0, 1):
        return f"stopped with exit status {status}: the next call continues"
    if status == 1:
        task.failure.write_text(said)
    elif prints_result:
        task.result.write_text(said)
    if task.checkpoint:
        task.checkpoint.unlink(missing_ok=True)
    return "failed" if status else "recorded"


def wait(process: subprocess.Popen, deadline: float) -> int:
    """Return a process's exit status; at the deadline ask it to stop, and let it save its state."""
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait()
    except KeyboardInterrupt:  # Ctrl-C in a terminal reaches the process, too
        process.wait()
        raise


def print_tables(plan: Plan) -> None:
    """Print everything that is recorded of this GPU."""
    for file in sorted(plan.benchmarks.parent.glob(f"{plan.gpu}*.json")):
        tables = json.loads(file.read_text())["tables"]
        print(*(one["text"] for one in tables), sep="\n\n", end="\n\n")
    for folder in (plan.runs("gpu"), plan.runs("gpu-124m")):
        if any(folder.glob("*.json")):
            runs.main([str(folder)])
    if exploded := sorted(plan.runs("muonclip-gpu").glob("*/*.json")):
        print(logit_table(exploded), end="\n\n")
    for failure in sorted(plan.data.rglob("*.failed.txt")):
        print(f"{failure} says why a command failed; it runs again if you delete this file")


def logit_table(paths: Sequence[Path]) -> str:
    """Tabulate each run's largest logit and the share of heads and steps that were clipped."""
    rows = [["attention", "τ", "largest logit", "heads clipped", "nats"]]
    for one in map(runs.load, paths):
        gamma = one.curves.get("gamma")  # (steps, layers, heads)
        tau = "none" if gamma is None else f"{one.config['tau']:g}"
        clipped = "-" if gamma is None else f"{(gamma < 1).mean():.1%}"
        largest = f"{one.curves['max_logit'].max():.4g}"
        rows.append([one.config["attention"], tau, largest, clipped, f"{one.final_loss:.3f}"])
    return table(rows)


def name_for_files(gpu: str) -> str:
    """Return the name of a GPU as files carry it.

    >>> name_for_files("NVIDIA H100 80GB HBM3")
    'h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower().removeprefix("nvidia")).strip("-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="to run for (default: 60)")
    parser.add_argument("--corpus", type=Path, help="text file or folder (default: Python's own)")
    parser.add_argument("--tiny", action="store_true", help="rehearse in a minute, on a CPU too")
    given = parser.parse_args(arguments)
    device = default_device()
    if device == "cpu" and not given.tiny:
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        print(f"torch {torch.__version__}, {build}, finds no NVIDIA GPU; --tiny rehearses on a CPU")
        return 1
    gpu = "CPU" if device == "cpu" else torch.cuda.get_device_name()
    commit = environment()["commit"] or "unknown (name it in the variable MUON_LAB_COMMIT)"
    data = ROOT / ("build/gpu-tiny" if given.tiny else "data")
    print(f"{gpu}, commit {commit}, recording in {data}")
    plan = Plan(data=data, gpu=name_for_files(gpu), device=device, corpus=given.corpus)
    plan = replace(plan, **(TINY if given.tiny else {}))
    try:
        left = record(plan, given.minutes)
    except KeyboardInterrupt:
        print("interrupted: the same command continues", file=sys.stderr)
        return 130
    print_tables(plan)
    print(*(["left for the next call:", *left] if left else ["everything is recorded"]), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
