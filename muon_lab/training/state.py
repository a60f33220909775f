"""The state of one training run: what a checkpoint saves, and how a configuration becomes it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muon_lab.model.gpt import GPT
from muon_lab.training.config import TrainConfig
from muon_lab.training.data import Corpus, batches, load_corpus
from muon_lab.training.device import check_device, compiled
from muon_lab.training.optimizers import make_optimizer
from muon_lab.training.ranks import check_share, parallel, share

Batch = tuple[Tensor, Tensor]  # inputs and targets, (batch, context) int64 each


@dataclass
class Training:
    """Hold what changes while a model trains, and what it is trained on."""

    config: TrainConfig
    corpus: Corpus
    model: GPT
    optimizer: torch.optim.Optimizer
    forward: Callable[..., Any]  # the model, compiled and in lower precision where asked
    step: int = 0
    seconds: float = 0.0  # of training, without validation
    optimizer_seconds: float = 0.0  # of these, in the optimizer's steps
    curves: dict[str, list] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)

    def append(self, **values: Any) -> None:
        """Append one value to each named curve."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)


def new_training(config: TrainConfig, corpus: str | Path | None = None) -> Training:
    """Load the text at the path ``corpus``, and make a model and its optimizer from the seed.

    Without a path the text is the standard library's source. Raises ValueError for a device that
    this machine does not have, and for a text other than the one that ``config`` names.

    >>> training = new_training(TrainConfig(preset="tiny", optimizer="muon"))
    >>> training.step, type(training.optimizer).__name__
    (0, 'Muon')
    """
    check_device(config.device)
    check_share(config.batch, config.accumulate)
    text = load_corpus(corpus)
    name = None if corpus is None else text.name
    if config.corpus not in (None, name):
        raise ValueError(
            f"the configuration names the corpus {config.corpus!r}, and the text given is "
            f"{name or text.name!r}: give that corpus's path, as train(config, corpus=PATH) or "
            "--corpus PATH"
        )
    config = replace(config, corpus=name)
    torch.manual_seed(config.seed)
    model = GPT(config.model()).to(config.device)
    model.record_max_logits(config.watch_logits)
    together = parallel(model, config.shard)  # before the optimizer, which then steps the shards
    return Training(config, text, model, make_optimizer(model, config), _forward(together, config))


def _forward(model: Callable[..., Any], config: TrainConfig) -> Callable[..., Any]:
    """Return the model as it runs: compiled and in bfloat16 where the configuration says so."""
    forward = compiled(model, config.device) if config.compile else model
    if config.precision == "float32":
        return forward

    def in_bfloat16(inputs: Tensor, targets: Tensor) -> Any:
        with torch.autocast(torch.device(config.device).type, torch.bfloat16):
            return forward(inputs, targets)

    return in_bfloat16


def remaining_batches(training: Training) -> Iterator[Batch]:
    """Yield this rank's share of the batches that the run has still to read, on its device."""
    config = training.config
    size = {"batch": config.batch, "context": config.context}
    stream = batches(training.corpus.train, **size, seed=config.seed, start=training.step)
    for inputs, targets in islice(stream, max(0, config.steps - training.step)):
        yield share(inputs).to(config.device), share(targets).to(config.device)
