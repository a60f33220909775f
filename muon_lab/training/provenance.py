"""What is said of a run: where it was made, the text that its model writes, a summary."""

import math
import os
import platform
import subprocess
import textwrap
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from muon_lab.model.gpt import GPT
from muon_lab.runs.record import Run
from muon_lab.training.config import TrainConfig
from muon_lab.training.data import xz_bits_per_byte
from muon_lab.training.optimizers import source_sha256
from muon_lab.training.ranks import ranks
from muon_lab.training.spectra import describe_spectra
from muon_lab.training.state import Training

PROMPT = b"def "


def describe(training: Training) -> dict[str, Any]:
    """Say where and on what a run was made: its provenance."""
    device, corpus = torch.device(training.config.device), training.corpus
    cpu = f"{processor()}, torch threads: {torch.get_num_threads()}"
    about = environment() | {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "command": training.config.command().replace("python", launcher(), 1),
        "spectra": describe_spectra(training.model),
        "corpus": {
            "name": corpus.name,
            "sha256": corpus.sha256,
            "train_bytes": corpus.train.numel(),
            "valid_bytes": corpus.valid.numel(),
            "xz_bits_per_byte": round(xz_bits_per_byte(corpus.valid), 4),
        },
    }
    source = source_sha256(training.config.optimizer)
    return about if source is None else about | {"optimizer_sha256": source}


def launcher() -> str:
    """Return the program that starts a run on as many ranks as this one has."""
    return "python" if ranks() == 1 else f"torchrun --nproc-per-node={ranks()}"


def environment() -> dict[str, Any]:
    """Say when, with which Python and from which commit of the package a run is made."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "python": platform.python_version(), "commit": _commit()}


def processor() -> str:
    """Name the processor as Linux does, or by its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """Name the clone's commit, "+ changes" if the package was edited since.

    Where there is no clone or no git, as on a machine that got a copy of the files, it is the value
    of the variable MUON_LAB_COMMIT, or None.
    """
    package, given = Path(__file__).parents[1], os.environ.get("MUON_LAB_COMMIT")
    if not (package.parent / ".git").exists():
        return given
    try:
        ask = partial(subprocess.run, cwd=package, capture_output=True, text=True, check=True)
        commit = ask(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
        edited = ask(["git", "status", "--porcelain", "--untracked-files=no", "."]).stdout
    except (OSError, subprocess.CalledProcessError):
        return given
    return commit + " + changes" * bool(edited)


def write_text(model: GPT, count: int) -> str:
    """Let the model continue PROMPT for ``count`` bytes, always with the same random numbers."""
    device = next(model.parameters()).device
    prompt = torch.tensor([list(PROMPT)], device=device)
    generator = torch.Generator(device).manual_seed(0)
    written = model.generate(prompt, count, temperature=0.8, generator=generator)
    text = bytes(written[0].tolist()).decode("utf-8", errors="replace")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def progress_line(training: Training, about: dict[str, Any]) -> str:
    """Put the last validation into words, beside what xz makes of the same text."""
    loss, xz = training.curves["valid_loss"][-1], about["corpus"]["xz_bits_per_byte"]
    return (
        f"step {training.step:>5}: validation {loss:.3f} nats = {loss / math.log(2):.3f} bits per "
        f"byte (xz -9: {xz:.3f}), {training.seconds:.1f} s of training"
    )


def summary(run: Run) -> str:
    """Put a finished run into words."""
    curves, corpus = run.curves, run.provenance["corpus"]
    return (
        f"{run.label}: validation loss {run.final_loss:.3f} nats per byte\n"
        f"  = {run.bits_per_byte:.3f} bits per byte; xz -9 needs {corpus['xz_bits_per_byte']:.3f} "
        "for the same held-out text\n"
        f"  {curves['loss'].size} steps, {int(curves['valid_bytes'][-1]):,} bytes read of "
        f"{corpus['train_bytes']:,}, {run.seconds:.1f} s on {run.provenance['device']}\n"
        f"what it writes:\n{textwrap.indent(run.samples['after'], '  | ')}"
    )


def file_name(config: TrainConfig) -> str:
    """Name a run's file by the settings that most often differ between runs.

    >>> file_name(TrainConfig(optimizer="muon", lr=0.02, seed=1))
    'muon-mha-lr0.02-decay0.1-seed1.json'
    >>> file_name(TrainConfig(optimizer="entries/my_optimizer.py:MyMuon"))
    'my_optimizer.MyMuon-mha-lr0.01-decay0.1-seed0.json'
    """
    form = "{name}-{attention}-lr{lr:g}-decay{weight_decay:g}-seed{seed}.json"
    name = Path(config.optimizer).name.replace(".py:", ".") + "-per-head" * config.per_head
    return form.format(name=name, **vars(config))
