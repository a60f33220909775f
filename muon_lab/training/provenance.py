"""What is told of a run: text that its model writes, where it was made, how it went in words."""

import math
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from muon_lab.model.gpt import GPT
from muon_lab.runs.record import Run, here, processor
from muon_lab.training.config import TrainConfig
from muon_lab.training.data import xz_bits_per_byte
from muon_lab.training.spectra import describe_spectra

PROMPT = b"def "


def write_text(model: GPT, count: int) -> str:
    """Let the model go on from PROMPT for ``count`` bytes, always with the same dice."""
    device = next(model.parameters()).device
    prompt = torch.tensor([list(PROMPT)], device=device)
    dice = torch.Generator(device).manual_seed(0)
    written = model.generate(prompt, count, temperature=0.8, generator=dice)
    text = bytes(written[0].tolist()).decode("utf-8", errors="replace")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def describe(training: Any) -> dict[str, Any]:
    """Say where and on what a run was made: its provenance."""
    device, corpus = torch.device(training.config.device), training.corpus
    cuda = device.type == "cuda"
    cpu = f"{processor()}, torch threads: {torch.get_num_threads()}"
    return (
        here()
        | training.adapted
        | {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if cuda else cpu,
            "command": training.config.command(),
            "spectra": describe_spectra(training.model),
            "corpus": {
                "name": corpus.name,
                "sha256": corpus.sha256,
                "train_bytes": corpus.train.numel(),
                "valid_bytes": corpus.valid.numel(),
                "xz_bits_per_byte": round(xz_bits_per_byte(corpus.valid), 4),
            },
        }
    )


def progress_line(training: Any, about: dict[str, Any]) -> str:
    """Put the last validation into words, beside what xz makes of the same text."""
    loss, xz = training.curves["valid_loss"][-1], about["corpus"]["xz_bits_per_byte"]
    return (
        f"step {training.step:>5}: validation {loss:.3f} nats = {loss / math.log(2):.3f} bits a "
        f"byte (xz -9: {xz:.3f}), {training.seconds:.1f} s of training"
    )


def summary(run: Run) -> str:
    """Put a finished run into words."""
    curves, corpus = run.curves, run.provenance["corpus"]
    return (
        f"{run.label}: validation loss {run.final_loss:.3f} nats a byte\n"
        f"  = {run.bits_per_byte:.3f} bits a byte; xz -9 takes {corpus['xz_bits_per_byte']:.3f} "
        "for the same held-out text\n"
        f"  {curves['loss'].size} steps, {int(curves['valid_bytes'][-1]):,} bytes read of "
        f"{corpus['train_bytes']:,}, {run.seconds:.1f} s on {run.provenance['device']}\n"
        f"what it writes:\n{textwrap.indent(run.samples['after'], '  | ')}"
    )


def file_name(config: TrainConfig) -> str:
    """Name a run's file by what most often tells it from its neighbours.

    >>> file_name(TrainConfig(optimizer="muon", lr=0.02, seed=1))
    'muon-mha-lr0.02-decay0.1-seed1.json'
    """
    form = "{optimizer}-{attention}-lr{lr:g}-decay{weight_decay:g}-seed{seed}.json"
    return form.format(**vars(config))


def file_for(config: TrainConfig, path: Path, several: bool) -> Path:
    """Name a run's file: ``path`` itself, or one inside it where it is a folder."""
    if path.suffix == ".json" and not several:
        return path
    return path / file_name(config)


def how_to_go_on(checkpoint: Path | None, arguments: Sequence[str] | None) -> str:
    """Write the command with which an interrupted run goes on, or say why there is none."""
    if checkpoint is None:
        return "without --checkpoint FILE nothing of it is kept"
    if not checkpoint.is_file():
        return "it had no step to keep: begin again"
    words = sys.orig_argv if arguments is None else ["python", "-m", "muon_lab.training"]
    words = [*words, *(arguments or ())]
    return "go on with: " + shlex.join(words + ["--resume"] * ("--resume" not in words))
