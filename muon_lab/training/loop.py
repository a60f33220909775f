"""Train the byte-level GPT: `steps` is the loop of any model, `train` a whole recorded run.

Losses are nats per byte.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grads_with_norm_
from tqdm import tqdm

from muon_lab.clip import MuonClip
from muon_lab.runs.record import Run
from muon_lab.training.checkpoint import load_checkpoint_, reserve_checkpoint, save_checkpoint
from muon_lab.training.config import OPTIMIZERS, TrainConfig
from muon_lab.training.costs import costs, forget_peak_memory, gradient_norm
from muon_lab.training.data import windows
from muon_lab.training.device import now
from muon_lab.training.interrupts import (
    Stopped,
    check_gradients,
    check_validation,
    memory_explained,
    signals_noted,
)
from muon_lab.training.optimizers import lr_factor
from muon_lab.training.provenance import describe, progress_line, write_text
from muon_lab.training.ranks import (
    check_joined,
    first_rank,
    lost_ranks_explained,
    rank,
    reduced,
    share,
)
from muon_lab.training.spectra import spectra_of
from muon_lab.training.state import Batch, Training, new_training, remaining_batches


def steps(
    model: Callable[..., Any],
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    parts: int = 1,
    before_step: Callable[[float], object] | None = None,
) -> Iterator[float]:
    """Take one optimizer step per batch (inputs, targets), and yield each batch's mean loss.

    ``model(inputs, targets)`` returns (logits, loss). ``parts`` reads a batch in so many equal
    parts, which saves memory and changes no mean. ``before_step(loss)`` is called when the
    gradients are there and the weights have not moved: to check, clip or schedule.

    >>> from muon_lab.model.gpt import GPT, GPTConfig
    >>> model = GPT(GPTConfig(layers=1, width=32, heads=2, context=8))
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    >>> tokens = torch.arange(9).repeat(4, 1)
    >>> losses = list(steps(model, optimizer, 20 * [(tokens[:, :-1], tokens[:, 1:])]))
    >>> len(losses), losses[-1] < losses[0] - 1
    (20, True)
    """
    for batch in batches:
        optimizer.zero_grad()
        loss = backward(model, batch, parts)
        if before_step is not None:
            before_step(loss)
        optimizer.step()
        yield loss


def backward(model: Callable[..., Any], batch: Batch, parts: int = 1) -> float:
    """Add the gradients of a batch's mean loss, part by part, and return that loss."""
    total = 0.0
    for inputs, targets in zip(*(tensor.chunk(parts) for tensor in batch), strict=True):
        loss = model(inputs, targets)[1] / parts
        loss.backward()
        total = total + loss.detach()
    return total.item()


def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    corpus: str | Path | None = None,
) -> Run:
    """Train as ``config`` says, on the text at the path ``corpus``, and return the record.

    ``checkpoint`` names a file to which the state is saved every ``checkpoint_every`` steps (None:
    after each validation), and when Ctrl-C or SIGTERM asks the run to stop, which then raises
    `interrupts.Stopped`. With ``resume`` the run continues from that file, on a CPU bit for bit.
    Raises FloatingPointError before a step whose loss or gradient is NaN or Inf, ValueError for a
    checkpoint that does not fit or is in use, OSError for one that cannot be written, MemoryError.
    Under torchrun every rank calls it, and the first writes; ConnectionError for a rank that is
    gone.

    >>> run = train(TrainConfig(preset="tiny", optimizer="muon"), progress=False)
    >>> len(run.curves["loss"])
    12
    """
    check_joined()
    every = config.valid_every if checkpoint_every is None else checkpoint_every
    if type(every) is not int or every < 1:
        raise ValueError(f"checkpoint_every must be a whole number of at least 1; got {every!r}")
    with lost_ranks_explained(), memory_explained(config), ExitStack() as stack:
        reserved = reserve_checkpoint(checkpoint, resume)
        first_rank(lambda: stack.enter_context(reserved))
        training = start_training(config, corpus, checkpoint, resume)
        return finish_training(training, checkpoint, every, progress)


def start_training(
    config: TrainConfig, corpus: str | Path | None, checkpoint: str | Path | None, resume: bool
) -> Training:
    """Make the training, or load it from its checkpoint; then measure and save a new one."""
    training = new_training(config, corpus)
    if resume:
        load_checkpoint_(training, checkpoint)
    if config.compile:
        compile_ahead(training)
    forget_peak_memory(config.device)
    if not resume:
        training.samples["before"] = write_text(training.model, config.sample)
        validate_(training)
        if checkpoint:
            save_checkpoint(training, checkpoint)
    return training


def compile_ahead(training: Training) -> None:
    """Run one forward and backward, so that compiling takes none of the time measured."""
    for batch in remaining_batches(training):
        backward(training.forward, batch, training.config.accumulate)
        break
    training.optimizer.zero_grad()
    training.model.forget_max_logits()


def finish_training(
    training: Training, checkpoint: str | Path | None, every: int, progress: bool
) -> Run:
    """Take the remaining steps with their validations and checkpoints; return the record."""
    config, about = training.config, describe(training)
    progress = progress and rank() == 0
    shown = {"disable": not progress, "unit": "step", "file": sys.stdout}
    with (
        signals_noted(checkpoint is not None) as signals,
        tqdm(total=config.steps, initial=training.step, **shown) as bar,
    ):
        for loss in training_steps(training):
            bar.set_postfix(loss=f"{loss:.3f}", bits=f"{loss / math.log(2):.3f}", refresh=False)
            bar.update()
            last = training.step == config.steps
            stop = int(reduced(max(signals, default=0), "MAX", config.device))
            if last or training.step % config.valid_every == 0:
                validate_(training)
                if progress:
                    bar.write(progress_line(training, about), file=sys.stdout)
            if checkpoint and (last or stop or training.step % every == 0):
                save_checkpoint(training, checkpoint)
            if stop:
                raise Stopped(training.step, config.steps, stop)
    training.samples["after"] = write_text(training.model, config.sample)
    spent = costs(training, about["device"])
    return Run(asdict(config), about, training.curves, training.samples, spent)


def training_steps(training: Training) -> Iterator[float]:
    """Take the run's remaining steps, each checked, scheduled, clipped and timed; yield each loss.

    Between two steps everything in ``training`` is up to date. Its seconds are those of the steps
    alone, not of what the caller does between them.
    """
    config, optimizer = training.config, training.optimizer
    stepping = 0.0

    def before_step(loss: float) -> None:
        nonlocal stepping
        loss = reduced(loss, device=config.device).item()
        norm = gradient_norm(training.model)
        check_gradients(training, loss, norm)
        factor = lr_factor(training.step, config.steps, config.schedule, config.warm_up)
        for group in optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
        if config.clip_norm:
            clip_grads_with_norm_(training.model.parameters(), config.clip_norm, norm)
        training.append(loss=loss, grad_norm=norm.item())
        stepping = now(config.device)

    options = {"parts": config.accumulate, "before_step": before_step}
    began = now(config.device)
    for _ in steps(training.forward, optimizer, remaining_batches(training), **options):
        ended = now(config.device)
        training.step += 1
        training.optimizer_seconds += ended - stepping
        training.seconds += ended - began
        record_logits(training)
        yield training.curves["loss"][-1]
        began = now(config.device)


def record_logits(training: Training) -> None:
    """Record each layer's and head's largest logit, and γ where they were clipped."""
    optimizer, model = training.optimizer, training.model
    if isinstance(optimizer, MuonClip):
        for name, found in (("max_logit", optimizer.max_logits), ("gamma", optimizer.gammas)):
            training.append(**{name: torch.stack(list(found.values())).tolist()})
    elif training.config.watch_logits:
        largest = reduced(model.max_logits(), "MAX", training.config.device)  # (layers, heads)
        training.append(max_logit=largest.tolist())
        model.forget_max_logits()


@torch.no_grad()
def validate_(training: Training) -> None:
    """Measure the loss on the fixed validation windows and the spectra, and record both."""
    config = training.config
    size = {"number": config.valid_windows, "context": config.context}
    parts = [
        share(tensor).to(config.device).split(config.batch // config.accumulate)  # fits memory
        for tensor in windows(training.corpus.valid, **size)
    ]
    losses = [
        training.forward(inputs, targets)[1].item() * len(inputs)
        for inputs, targets in zip(*parts, strict=True)
    ]
    own = sum(losses) / sum(map(len, parts[0]))
    training.append(
        valid_step=training.step,
        valid_loss=reduced(own, device=config.device).item(),
        valid_bytes=training.step * config.batch * config.context,
        valid_seconds=training.seconds,
    )
    check_validation(training)
    if training.step and config.optimizer in OPTIMIZERS:  # of your own nothing is known
        spectra = spectra_of(training.model, training.optimizer)
        training.append(spectrum_step=training.step, **spectra)
