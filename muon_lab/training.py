"""Train the byte-level GPT: ``train(TrainConfig(...))`` or ``python -m muon_lab.training``.

``train`` is the loop and ``train_step_`` one turn of it. Losses are nats per byte.
"""

import math
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from muon_lab.checkpoints import load_checkpoint_, save_checkpoint
from muon_lab.clip import MuonClip
from muon_lab.corpus import Corpus, batches, load_corpus, windows, xz_bits_per_byte
from muon_lab.gpt import GPT
from muon_lab.muon import Muon, split_parameters
from muon_lab.options import TrainConfig, parse
from muon_lab.runs import Run, here, processor
from muon_lab.spectra import describe_spectra, spectra_of

BETAS = (0.9, 0.95)  # AdamW's, alone or beside Muon
WARM_UP = 1 / 20  # of all steps
PROMPT = b"def "
Batches = Iterator[tuple[Tensor, Tensor]]  # inputs and targets, (batch, context) each


@dataclass
class Training:
    """Hold what changes while a model trains; a checkpoint is this, written down."""

    config: TrainConfig
    corpus: Corpus
    model: GPT
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0  # validation excluded
    curves: dict[str, list] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)

    def note(self, **values: Any) -> None:
        """Append one value to each named curve."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)


def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> Run:
    """Train as ``config`` says and return the record.

    ``checkpoint`` names a file to which the state is saved after each validation; with ``resume``
    the run goes on from there, on a CPU to the very same bits. Raises FloatingPointError before a
    step whose loss or gradient is NaN or Inf.

    >>> run = train(TrainConfig(preset="tiny", optimizer="muon"), progress=False)
    >>> len(run.curves["loss"])
    12
    """
    training = begin(config)
    if resume:
        load_checkpoint_(training, checkpoint)
    else:
        training.samples["before"] = write_text(training.model, config.sample)
        validate_(training)
    about, stream = describe(training), stream_of(training)
    shown = {"disable": not progress, "unit": "step", "file": sys.stdout}
    with tqdm(total=config.steps, initial=training.step, **shown) as bar:
        while training.step < config.steps:
            loss = train_step_(training, stream)
            bar.set_postfix(loss=f"{loss:.3f}", bits=f"{loss / math.log(2):.3f}", refresh=False)
            bar.update()
            if training.step % config.valid_every == 0 or training.step == config.steps:
                validate_(training)
                if progress:
                    bar.write(progress_line(training, about), file=sys.stdout)
                if checkpoint:
                    save_checkpoint(training, checkpoint)
    training.samples["after"] = write_text(training.model, config.sample)
    asked = asdict(config) | {"corpus": config.corpus and training.corpus.name}
    return Run(asked, about, training.curves, training.samples)


def begin(config: TrainConfig) -> Training:
    """Load the text, and make a model and its optimizer from the seed."""
    corpus = load_corpus(config.corpus)
    torch.manual_seed(config.seed)
    model = GPT(config.model()).to(config.device)
    model.record_max_logits(config.watch_logits)
    return Training(config, corpus, model, make_optimizer(model, config))


def make_optimizer(model: GPT, config: TrainConfig) -> torch.optim.Optimizer:
    """Make AdamW for every parameter, or Muon for the hidden matrices and AdamW for the rest."""
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), betas=BETAS, **options)
    else:
        groups = split_parameters(model)
        for group in groups:
            if not group["use_muon"]:
                group |= {"lr": config.adamw_lr, "betas": BETAS}
        options["adjust_lr_fn"] = "match_rms_adamw"
        if config.optimizer == "muonclip":
            optimizer = MuonClip(model, params=groups, tau=config.tau, **options)
        else:
            optimizer = Muon(groups, **options)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def stream_of(training: Training) -> Batches:
    """Return the seed's batches from the first that the training has not yet read."""
    config = training.config
    done = training.step * config.accumulate
    size = {"batch": config.batch, "context": config.context}
    return batches(training.corpus.train, **size, seed=config.seed, start=done)


def lr_factor(step: int, steps: int, schedule: str) -> float:
    """Return the share of the peak learning rate at a step, counted from 0.

    >>> [lr_factor(step, 100, "linear") for step in (0, 4, 52)]
    [0.2, 1.0, 0.5052631578947369]
    """
    warm_up = math.ceil(WARM_UP * steps)
    if step < warm_up:
        return (step + 1) / warm_up
    left = 1 - (step - warm_up) / (steps - warm_up)  # 1 … 0
    shapes = {"linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}
    return shapes[schedule]


def train_step_(training: Training, stream: Batches) -> float:
    """Take one optimizer step over ``accumulate`` micro-batches; return their mean loss."""
    config, model, optimizer = training.config, training.model, training.optimizer
    began = now(config)
    factor = lr_factor(training.step, config.steps, config.schedule)
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak_lr"]
    optimizer.zero_grad()
    total = 0.0
    for _ in range(config.accumulate):
        loss = loss_of(model, next(stream), config) / config.accumulate
        loss.backward()
        total += loss.item()
    check_finite(training, total)
    maxima = model.max_logits() if config.watch_logits else None
    optimizer.step()
    training.step += 1
    training.seconds += now(config) - began
    training.note(loss=total)
    note_logits(training, maxima)
    return total


def loss_of(model: GPT, batch: tuple[Tensor, Tensor], config: TrainConfig) -> Tensor:
    """Return the mean loss of one batch, computed in the configured precision."""
    inputs, targets = (tensor.to(config.device) for tensor in batch)
    half = config.precision == "bfloat16"
    with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=half):
        return model(inputs, targets)[1]


def now(config: TrainConfig) -> float:
    """Read the clock once the device has done what it was given."""
    if torch.device(config.device).type == "cuda":
        torch.cuda.synchronize(config.device)
    return time.perf_counter()


def check_finite(training: Training, loss: float) -> None:
    """Stop before a step that NaN or Inf would spoil, and say where they are."""
    grads = [p.grad for p in training.model.parameters() if p.grad is not None]
    largest = torch.nn.utils.get_total_norm(grads, norm_type=math.inf)
    if math.isfinite(loss) and largest.isfinite():
        return
    where = [
        name for name, p in training.model.named_parameters()
        if p.grad is not None and not p.grad.isfinite().all()
    ]  # fmt: skip
    raise FloatingPointError(
        f"step {training.step + 1} was not taken: its loss is {loss} and the gradients of "
        f"{', '.join(where[:3]) or 'no parameter'}{' ...' * (len(where) > 3)} hold NaN or Inf. "
        f"The last checkpoint, if one was asked for, stands; a smaller lr than "
        f"{training.config.lr:g} may help"
    )


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
    parts = list(zip(inputs.split(config.batch), targets.split(config.batch), strict=True))
    with model.without_max_logits():
        losses = [loss_of(model, part, config).item() * len(part[0]) for part in parts]
    training.note(
        valid_step=training.step,
        valid_loss=sum(losses) / config.valid_windows,
        valid_bytes=training.step * config.accumulate * config.batch * config.context,
        valid_seconds=training.seconds,
    )
    if training.step:
        training.note(spectrum_step=training.step, **spectra_of(model, training.optimizer))


def write_text(model: GPT, count: int) -> str:
    """Let the model go on from PROMPT for ``count`` bytes, always with the same dice."""
    device = next(model.parameters()).device
    prompt = torch.tensor([list(PROMPT)], device=device)
    dice = torch.Generator(device).manual_seed(0)
    written = model.generate(prompt, count, temperature=0.8, generator=dice)
    text = bytes(written[0].tolist()).decode("utf-8", errors="replace")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def describe(training: Training) -> dict[str, Any]:
    """Say where and on what a run was made: its provenance."""
    device, corpus = torch.device(training.config.device), training.corpus
    cuda = device.type == "cuda"
    cpu = f"{processor()}, torch threads: {torch.get_num_threads()}"
    return here() | {
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


def progress_line(training: Training, about: dict[str, Any]) -> str:
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


def file_for(run: Run, path: Path, several: bool) -> Path:
    """Name the run's file: ``path`` itself, or one inside it where it is a folder."""
    if path.suffix == ".json" and not several:
        return path
    config = run.config
    return path / "{optimizer}-{attention}-lr{lr:g}-seed{seed}.json".format(**config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    configs, given = parse(arguments)
    failed = 0
    for config in configs:
        try:
            run = train(config, checkpoint=given.checkpoint, resume=given.resume)
        except KeyboardInterrupt:
            kept = "go on with --resume" if given.checkpoint else "without --checkpoint it is lost"
            print(f"interrupted: {kept}", file=sys.stderr)
            return 130
        except (ValueError, FloatingPointError) as error:
            failed += 1
            print(f"{config.command()}\n  stopped: {error}", file=sys.stderr)
            continue
        print(summary(run))
        if given.save:
            print("saved", run.save(file_for(run, given.save, len(configs) > 1)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
