"""What can be asked of a training run: ``TrainConfig``, its presets, and the same as options.

Kept apart from ``training.py``, so that the loop there can be read without it.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from muon_lab.model.gpt import AttentionKind, GPTConfig
from muon_lab.training.device import has_compiler
from muon_lab.training.presets import LEARNING_RATES, PRESETS

OptimizerName = Literal["adamw", "muon", "muonclip"]
ScheduleName = Literal["linear", "cosine", "constant", "wsd"]
Precision = Literal["float32", "bfloat16"]

CHOICES = {
    "preset": tuple(PRESETS),
    "optimizer": get_args(OptimizerName),
    "attention": get_args(AttentionKind),
    "schedule": get_args(ScheduleName),
    "precision": get_args(Precision),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Say everything that decides a run; what is None is filled in by the preset.

    ``lr`` is the optimizer's own learning rate and ``adamw_lr`` that of the parameters which Muon
    leaves to AdamW. Every ``schedule`` warms up over the share ``warm_up`` of the steps, then stays
    ("constant"), falls to zero, straight ("linear") or along half a cosine, or stays and falls
    straight over the last fifth ("wsd"). A step reads ``batch`` sequences, ``accumulate`` equal
    parts of them one after another, which saves memory and changes no mean. ``watch_logits``
    records every head's largest attention logit at every step; MuonClip always does. ``compile``
    is by default for CUDA only.

    >>> TrainConfig(optimizer="muon", steps=100).lr
    0.01
    """

    preset: str = "cpu"
    optimizer: OptimizerName = "adamw"
    attention: AttentionKind = "mha"
    kv_heads: int | None = None
    qk_norm: bool = False
    seed: int = 0
    lr: float | None = None
    adamw_lr: float | None = None
    weight_decay: float = 0.1
    schedule: ScheduleName = "linear"
    warm_up: float = 1 / 20
    clip_norm: float | None = None
    tau: float = 100.0
    watch_logits: bool = False
    steps: int | None = None
    batch: int | None = None
    accumulate: int = 1
    context: int | None = None
    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    valid_every: int | None = None
    valid_windows: int | None = None
    sample: int | None = None
    precision: Precision | None = None
    compile: bool | None = None
    corpus: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Fill in the preset's values and refuse what cannot be trained."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in (*choices, *[None] * (name == "precision")):
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}"
                )
        rates = LEARNING_RATES[self.preset]
        filled = PRESETS[self.preset] | {
            "lr": rates["adamw" if self.optimizer == "adamw" else "muon"],
            "adamw_lr": rates["rest"],
            "device": _first_device(),
        }
        for name, value in filled.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.compile is None:
            object.__setattr__(self, "compile", "cuda" in self.device and has_compiler("cuda"))
        if self.optimizer == "muonclip":
            object.__setattr__(self, "watch_logits", True)
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        whole = ("steps", "batch", "accumulate", "valid_every", "valid_windows", "sample")
        for name in (*whole, "lr", "adamw_lr", "tau"):
            value = getattr(self, name)
            if not (value >= 1 if name in whole else 0 < value < math.inf):
                wanted = "1 or more" if name in whole else "positive and finite"
                raise ValueError(f"{name} must be {wanted}; got {value!r}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}; got {self.seed!r}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(
                f"clip_norm must be positive and finite, or None for no clipping; "
                f"got {self.clip_norm!r}"
            )
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"warm_up is a share of the steps, 0 to 1; got {self.warm_up!r}")

    def _check_together(self) -> None:
        if self.batch % self.accumulate:
            works = [parts for parts in range(1, self.batch + 1) if self.batch % parts == 0]
            raise ValueError(
                f"accumulate must divide batch into equal parts: for batch={self.batch} "
                f"one of {works}; got {self.accumulate}"
            )
        if self.optimizer == "muonclip" and self.qk_norm:
            raise ValueError(
                "MuonClip has nothing to clip under qk_norm, which fixes the logits' scale: "
                "use optimizer='muon' with it, or leave qk_norm out"
            )
        self.model()  # which refuses sizes that do not fit together

    def model(self) -> GPTConfig:
        """Return the model's part of the configuration."""
        shared = ("layers", "width", "heads", "context", "attention", "kv_heads", "qk_norm")
        return GPTConfig(**{name: getattr(self, name) for name in shared})

    def command(self) -> str:
        """Write the command that repeats this run: whatever differs from its preset.

        Of a corpus only the name is written, since its folder belongs to one machine.

        >>> TrainConfig(optimizer="muon", lr=0.02, watch_logits=True).command()
        'python -m muon_lab.training --preset cpu --optimizer muon --lr 0.02 --watch-logits'
        """
        shared = {"preset": self.preset, "optimizer": self.optimizer}
        usual = vars(TrainConfig(**shared, device=self.device)) | {"device": _first_device()}
        words = ["python -m muon_lab.training --preset", self.preset, "--optimizer", self.optimizer]
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value != usual[name]:
                text = Path(value).name if name == "corpus" else str(value)
                switch = {True: [_flag(name)], False: [_flag(f"no_{name}")]}
                words += switch[value] if isinstance(value, bool) else [_flag(name), text]
        return " ".join(words)


def _first_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


HELP = {
    "preset": "sizes and steps: tiny (seconds), cpu (a minute on 2 cores), cpu-long (ten), "
    "gpu (32 million parameters), gpu-124m (GPT-2 small)",
    "optimizer": "adamw, muon, or muonclip (Muon with QK-Clip)",
    "attention": "multi-head, grouped-query or multi-head latent attention",
    "kv_heads": "key and value heads of gqa (default: half the heads)",
    "qk_norm": "normalise queries and keys",
    "seed": "of the model and the batches; several make several runs",
    "lr": "the optimizer's learning rate; several make several runs",
    "adamw_lr": "the learning rate of what Muon leaves to AdamW",
    "weight_decay": "decoupled, times the learning rate",
    "schedule": "what the learning rates do after the warm-up",
    "warm_up": "share of the steps over which the learning rates rise",
    "clip_norm": "scale gradients down to this global norm (default: leave them)",
    "tau": "MuonClip's largest logit",
    "watch_logits": "record every head's largest logit also without clipping it",
    "steps": "optimizer steps",
    "batch": "sequences a step",
    "accumulate": "equal parts of a step's batch, read one after another to save memory",
    "context": "bytes a sequence",
    "layers": "blocks of the model",
    "width": "numbers a position",
    "heads": "attention heads",
    "valid_every": "steps between validations",
    "valid_windows": "sequences of the validation set",
    "sample": "bytes that the model writes before and after",
    "precision": "of the forward and backward pass (weights stay float32)",
    "compile": "compile the model (default: on CUDA)",
    "corpus": "a text file or folder (default: Python's standard library)",
    "device": "cpu, cuda, ... (default: cuda where there is one)",
}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    """Make an option of every field of TrainConfig, and those that say which files to keep."""
    parser = argparse.ArgumentParser(
        prog="python -m muon_lab.training", description="Train a byte-level GPT."
    )
    for field in fields(TrainConfig):
        kinds = get_args(field.type) or (field.type,)
        kind = next((kind for kind in (int, float) if kind in kinds), str)
        how: dict[str, Any] = {"help": HELP[field.name], "default": field.default}
        if bool in kinds:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how |= {"type": kind, "choices": CHOICES.get(field.name)}
        if field.name in ("lr", "seed"):
            how |= {"nargs": "+", "default": [field.default]}
        parser.add_argument(_flag(field.name), **how)
    parser.add_argument("--save", type=Path, help="run file, or a folder for several runs")
    parser.add_argument("--checkpoint", type=Path, help="file to save the state to, and --resume")
    parser.add_argument(
        "--checkpoint-every", type=int, help="steps between checkpoints (default: validations)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from --checkpoint")
    return parser


def parse(arguments: Sequence[str] | None = None) -> tuple[list[TrainConfig], argparse.Namespace]:
    """Read a command line: one configuration for each learning rate and seed, and the files.

    >>> configs, _ = parse(["--lr", "0.01", "0.02", "--seed", "0", "1", "2"])
    >>> [(config.lr, config.seed) for config in configs][:4]
    [(0.01, 0), (0.01, 1), (0.01, 2), (0.02, 0)]
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    common = {f.name: getattr(given, f.name) for f in fields(TrainConfig)}
    pairs = [{"lr": lr, "seed": seed} for lr in given.lr for seed in given.seed]
    try:
        configs = [TrainConfig(**common | pair) for pair in pairs]
    except ValueError as error:
        parser.error(str(error))
    if given.checkpoint_every is not None and given.checkpoint_every < 1:
        parser.error(f"--checkpoint-every must be 1 or more; got {given.checkpoint_every}")
    if given.checkpoint is None and given.resume:
        parser.error("--resume needs --checkpoint, the file to go on from")
    if given.checkpoint is not None and len(configs) > 1:
        parser.error(f"--checkpoint holds one run, and these are {len(configs)}")
    return configs, given
