"""Train the byte-level GPT: ``train(TrainConfig(...))`` or ``python -m muon_lab.training``.

``train`` is the loop and ``train_step_`` one turn of it. Losses are nats per byte.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_
from tqdm import tqdm

from muon_lab.clip import MuonClip
from muon_lab.model.gpt import GPT
from muon_lab.runs.files import check_writable
from muon_lab.runs.record import Run
from muon_lab.training.checkpoint import check_checkpoint, load_checkpoint_, save_checkpoint
from muon_lab.training.config import TrainConfig, parse
from muon_lab.training.costs import costs, forget_peak_memory, gradient_norm
from muon_lab.training.data import Corpus, batches, load_corpus, windows
from muon_lab.training.device import check_device, compiled, now, parts_that_fit
from muon_lab.training.interrupts import (
    Stopped,
    check_finite,
    check_validation,
    memory_explained,
    signals_noted,
)
from muon_lab.training.optimizers import lr_factor, make_optimizer
from muon_lab.training.prefetch import Prefetch
from muon_lab.training.provenance import (
    describe,
    file_for,
    how_to_go_on,
    progress_line,
    summary,
    write_text,
)
from muon_lab.training.spectra import spectra_of

Batches = Iterator[tuple[Tensor, Tensor]]  # inputs and targets, (batch, context) each


@dataclass
class Training:
    """Hold what changes while a model trains; a checkpoint is this, written down."""

    config: TrainConfig
    corpus: Corpus
    model: GPT
    optimizer: torch.optim.Optimizer
    forward: Callable[..., Any]  # the model, or the same compiled
    step: int = 0
    seconds: float = 0.0  # validation excluded
    optimizer_seconds: float = 0.0  # of these, in the optimizer's step
    curves: dict[str, list] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)  # what fit_ changed, in words

    def note(self, **values: Any) -> None:
        """Append one value to each named curve."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)


def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
) -> Run:
    """Train as ``config`` says and return the record.

    ``checkpoint`` names a file to which the state is saved every ``checkpoint_every`` steps (None:
    after each validation), and when Ctrl-C or SIGTERM ask the run to stop, which then raises
    faults.Stopped. With ``resume`` it goes on from there, on a CPU to the very same bits. Raises
    FloatingPointError before a step whose loss or gradient is NaN or Inf, ValueError for a
    checkpoint that does not fit, OSError for one that cannot be written, and MemoryError.

    >>> run = train(TrainConfig(preset="tiny", optimizer="muon"), progress=False)
    >>> len(run.curves["loss"])
    12
    """
    training = ready(config, checkpoint, resume)
    about, every = describe(training), checkpoint_every or config.valid_every
    if progress and training.adapted:
        print(f"accumulate {training.adapted['accumulate']}")
    shown = {"disable": not progress, "unit": "step", "file": sys.stdout}
    with (
        memory_explained(training.config),
        signals_noted(checkpoint is not None) as signals,
        stream_of(training) as stream,
        tqdm(total=config.steps, initial=training.step, **shown) as bar,
    ):
        while training.step < config.steps:
            loss = train_step_(training, stream)
            bar.set_postfix(loss=f"{loss:.3f}", bits=f"{loss / math.log(2):.3f}", refresh=False)
            bar.update()
            last, stop = training.step == config.steps, signals[:1]
            if last or training.step % config.valid_every == 0:
                validate_(training)
                if progress:
                    bar.write(progress_line(training, about), file=sys.stdout)
            if checkpoint and (last or stop or training.step % every == 0):
                save_checkpoint(training, checkpoint)
            if stop:
                raise Stopped(training.step, config.steps, stop[0])
    return record(training, about)


def record(training: Training, about: dict[str, Any]) -> Run:
    """Let the trained model write, and return the record of its training."""
    config = training.config
    training.samples["after"] = write_text(training.model, config.sample)
    asked = asdict(config) | {"corpus": config.corpus and training.corpus.name}
    spent = costs(training, about["device"])
    return Run(asked, about, training.curves, training.samples, spent)


def ready(config: TrainConfig, checkpoint: str | Path | None, resume: bool) -> Training:
    """Begin a training, or go on with one, after a look at whether its state can be saved."""
    check_checkpoint(checkpoint, resume)
    with memory_explained(config):
        training = begin(config)
        if resume:
            load_checkpoint_(training, checkpoint)
        fit_(training)
        forget_peak_memory(config.device)  # a trial takes what AdamW would, or fails on too much
        if not resume:
            training.samples["before"] = write_text(training.model, config.sample)
            validate_(training)
            if checkpoint:
                save_checkpoint(training, checkpoint)
    return training


def begin(config: TrainConfig) -> Training:
    """Load the text, and make a model and its optimizer from the seed."""
    check_device(config.device)
    corpus = load_corpus(config.corpus)
    torch.manual_seed(config.seed)
    model = GPT(config.model()).to(config.device)
    model.record_max_logits(config.watch_logits)
    return Training(config, corpus, model, make_optimizer(model, config), model)


def drawn_from(training: Training) -> Batches:
    """Return the seed's batches from the first that the training has not yet read."""
    config = training.config
    size = {"batch": config.batch, "context": config.context}
    return batches(training.corpus.train, **size, seed=config.seed, start=training.step)


def stream_of(training: Training) -> Prefetch:
    """Return the same batches, drawn ahead."""
    cuda = torch.device(training.config.device).type == "cuda"
    return Prefetch(drawn_from(training), pin=cuda)


def train_step_(training: Training, stream: Batches) -> float:
    """Take one optimizer step over one batch; return its mean loss."""
    config, model, optimizer = training.config, training.model, training.optimizer
    began = now(config.device)
    optimizer.zero_grad()
    loss = backward_(training, next(stream)).item()
    check_finite(training, loss)
    factor = lr_factor(training.step, config.steps, config.schedule, config.warm_up)
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak_lr"]
    norm = gradient_norm(model)
    if config.clip_norm:
        clip_grads_with_norm_(model.parameters(), config.clip_norm, norm)
    maxima = model.max_logits() if config.watch_logits else None
    stepping = now(config.device)
    optimizer.step()
    ended = now(config.device)
    training.step += 1
    training.optimizer_seconds += ended - stepping
    training.seconds += ended - began
    training.note(loss=loss, grad_norm=norm.item())
    note_logits(training, maxima)
    return loss


def backward_(training: Training, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Add the gradient of a batch's mean loss, part by part, and return that loss."""
    config, total = training.config, 0.0
    for part in zip(*(tensor.chunk(config.accumulate) for tensor in batch), strict=True):
        loss = loss_of(training.forward, part, config) / config.accumulate
        loss.backward()
        total = total + loss.detach()
    return total


def loss_of(model: GPT, batch: tuple[Tensor, Tensor], config: TrainConfig) -> Tensor:
    """Return the mean loss of one batch, computed in the configured precision."""
    inputs, targets = (tensor.to(config.device, non_blocking=True) for tensor in batch)
    half = config.precision == "bfloat16"
    with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=half):
        return model(inputs, targets)[1]


def fit_(training: Training) -> None:
    """Before the first step compile the model, and cut batches to what the device's memory holds.

    Tries a forward and backward, which leaves no trace in the weights. A step in more parts reads
    the same bytes and takes the same mean.
    """
    config, model, optimizer = training.config, training.model, training.optimizer
    if not config.compile and torch.device(config.device).type != "cuda":
        return
    if config.compile:
        training.forward = compiled(model, config.device)
    batch = next(drawn_from(training))

    def attempt(size: int) -> None:
        optimizer.zero_grad()
        model.forget_max_logits()
        to_come = () if optimizer.state else (p for p in model.parameters() for _ in range(2))
        held = [torch.empty_like(p) for p in to_come]  # as much as AdamW will keep
        for _ in range(min(2, config.batch // size)):  # a second part finds maxima of the first
            part = [tensor[:size] for tensor in batch]
            loss_of(training.forward, part, config).backward()
        del held

    parts = parts_that_fit(config.batch, config.accumulate, attempt)
    optimizer.zero_grad()
    model.forget_max_logits()
    if parts > config.accumulate:
        words = (
            f"raised from {config.accumulate} to {parts}: what the device's memory holds at once"
        )
        training.config, training.adapted = replace(config, accumulate=parts), {"accumulate": words}


def note_logits(training: Training, maxima: Tensor | None) -> None:
    """Record each layer's and head's largest logit, and γ where they were clipped."""
    if maxima is None:
        return
    training.note(max_logit=maxima.tolist())  # (layers, heads)
    if isinstance(training.optimizer, MuonClip):
        training.note(gamma=torch.stack(list(training.optimizer.gammas.values())).tolist())
    else:
        training.model.forget_max_logits()


@torch.no_grad()
def validate_(training: Training) -> None:
    """Measure the loss on the fixed validation windows and note it."""
    config, model = training.config, training.model
    inputs, targets = windows(
        training.corpus.valid, number=config.valid_windows, context=config.context
    )
    size = config.batch // config.accumulate  # what memory holds
    parts = list(zip(inputs.split(size), targets.split(size), strict=True))
    with model.without_max_logits():
        losses = [loss_of(model, part, config).item() * len(part[0]) for part in parts]
    training.note(
        valid_step=training.step,
        valid_loss=sum(losses) / config.valid_windows,
        valid_bytes=training.step * config.batch * config.context,
        valid_seconds=training.seconds,
    )
    check_validation(training)
    if training.step:
        training.note(spectrum_step=training.step, **spectra_of(model, training.optimizer))


def check_free(target: Path, resume: bool) -> None:
    """Refuse before the training a run file that cannot be written, or that holds another run."""
    if target.is_file() and not resume:
        raise ValueError(
            f"run file {target.name} is there already: name another --save, or delete it"
        )
    check_writable(target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    configs, given = parse(arguments)
    kept = {name: getattr(given, name) for name in ("checkpoint", "checkpoint_every", "resume")}
    failed = 0
    for config in configs:
        target = given.save and file_for(config, given.save, len(configs) > 1)
        try:
            if target:
                check_free(target, given.resume)
            run = train(config, **kept)
            print(summary(run))
            if target:
                print("saved", run.save(target))
        except KeyboardInterrupt as stop:
            told = f"interrupted {stop}".strip() + f"\n{how_to_go_on(given.checkpoint, arguments)}"
            print(told, file=sys.stderr)
            return getattr(stop, "status", 130)
        except (ValueError, FloatingPointError, OSError, MemoryError) as error:
            failed += 1
            print(f"{config.command()}\n  stopped: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
