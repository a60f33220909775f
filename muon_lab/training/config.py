"""What can be asked of a training run: `TrainConfig`, its presets, and the command line's options.

A preset names sizes and learning rates. It fills in every field of a `TrainConfig` that is None.
"""

import argparse
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from muon_lab.model.gpt import AttentionKind, GPTConfig
from muon_lab.training.device import default_device, has_compiler

PresetName = Literal["tiny", "cpu", "cpu-long", "gpu", "gpu-124m"]
OPTIMIZERS = ("adamw", "muon", "muonclip")
ScheduleName = Literal["linear", "cosine", "constant", "wsd"]
Precision = Literal["float32", "bfloat16"]

# bfloat16 is for GPUs: a CPU that has it saves an eighth of the forward and backward at "cpu" and
# three tenths at "cpu-long", one without it loses; and runs of all machines are to be comparable.
_SIZES = (
    "layers", "width", "heads", "context", "batch", "steps", "valid_every", "valid_windows",
    "precision", "sample",
)  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    name: dict(zip(_SIZES, sizes, strict=True))
    for name, sizes in {
        # 25 thousand parameters, seconds: for tests
        "tiny": (2, 32, 2, 32, 4, 12, 4, 8, "float32", 40),
        # 0.9 million, about a minute on 2 cores
        "cpu": (4, 128, 4, 128, 16, 300, 50, 256, "float32", 300),
        # 4.9 million, about ten minutes on 2 cores
        "cpu-long": (6, 256, 8, 256, 16, 450, 50, 128, "float32", 300),
        # 32 million; read 13 MB, more than the standard library has
        "gpu": (10, 512, 8, 512, 64, 400, 50, 256, "bfloat16", 300),
        # GPT-2 small's blocks; its 124 million count a vocabulary of 50,257 as well
        "gpu-124m": (12, 768, 12, 1024, 32, 400, 50, 128, "bfloat16", 300),
    }.items()
}

# ``adamw_lr`` is for what Muon leaves to AdamW. The rates of "cpu" are the middle of a recorded
# sweep (data/runs), within a factor of two of the best: Muon's is 0.02 there, by less than the
# seeds' spread. Those of "gpu" are the best of one. All others are guesses that nobody has tuned:
# sweep before you compare.
LEARNING_RATES = {
    "tiny": {"adamw": 3e-3, "muon": 1e-2, "adamw_lr": 3e-3},
    "cpu": {"adamw": 4e-3, "muon": 1e-2, "adamw_lr": 3e-3},
    "cpu-long": {"adamw": 2e-3, "muon": 5e-3, "adamw_lr": 2e-3},
    "gpu": {"adamw": 2e-3, "muon": 6e-3, "adamw_lr": 1e-3},
    "gpu-124m": {"adamw": 1e-3, "muon": 2e-3, "adamw_lr": 1e-3},
}

TYPES = {  # of fields: what is accepted, and that in words
    bool: (bool, "True or False"),
    int: (Integral, "a whole number, for example 8"),
    float: (Real, "a number, for example 0.01"),
    str: (str, "text, for example 'cpu'"),
}
RANGES = {  # by field, or by type for all other fields
    "seed": (lambda value: 0 <= value < 2**32, f"from 0 to {2**32 - 1}"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "at least 0 and finite"),
    "warm_up": (lambda value: 0 <= value <= 1, "a share of the steps, from 0 to 1"),
    int: (lambda value: value >= 1, "at least 1"),
    float: (lambda value: 0 < value < math.inf, "positive and finite"),
}


OWN_OPTIMIZER = re.compile(r".+\.py:\w+")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Say everything that decides a run; what is None is filled in by the preset.

    Every ``schedule`` warms up over the share ``warm_up`` of the steps. Then "constant" stays,
    "linear" falls straight to zero, "cosine" along half a cosine, and "wsd" stays and falls
    straight over the last fifth. ``corpus`` is the text's name; its path is given to
    ``train(config, corpus=PATH)``. MuonClip always sets ``watch_logits``. Raises TypeError for a
    value of a wrong type and ValueError for one that cannot work, both naming the field.

    >>> TrainConfig(optimizer="muon", steps=100).lr
    0.01
    """

    # fmt: off
    # Each annotation ends with the option's help on the command line.
    preset: Annotated[PresetName, "sizes and steps: tiny (seconds), cpu (a minute on 2 cores), "
                      "cpu-long (ten), gpu (32 million parameters), gpu-124m (GPT-2 small)"] = "cpu"
    optimizer: Annotated[str, "adamw, muon, muonclip (Muon with QK-Clip), or your own: FILE.py:NAME"
                         ] = "adamw"
    per_head: Annotated[bool, "orthogonalize the rows of each attention head alone"] = False
    attention: Annotated[AttentionKind, "multi-head, grouped-query or latent attention"] = "mha"
    kv_heads: Annotated[int | None, "key and value heads of gqa (default: half the heads)"] = None
    qk_norm: Annotated[bool, "normalize queries and keys"] = False
    seed: Annotated[int, "seed of the model and the batches; several make several runs"] = 0
    lr: Annotated[float | None, "the optimizer's learning rate; several make several runs"] = None
    adamw_lr: Annotated[float | None, "learning rate of what Muon leaves to AdamW"] = None
    weight_decay: Annotated[float, "decoupled decay, multiplied by the learning rate"] = 0.1
    schedule: Annotated[ScheduleName, "what the learning rates do after the warm-up"] = "linear"
    warm_up: Annotated[float, "share of the steps over which the learning rates rise"] = 1 / 20
    clip_norm: Annotated[float | None, "scale gradients down to this norm (default: never)"] = None
    tau: Annotated[float, "MuonClip's largest logit"] = 100.0
    watch_logits: Annotated[bool, "record every head's largest logit, also unclipped"] = False
    steps: Annotated[int | None, "optimizer steps"] = None
    batch: Annotated[int | None, "sequences per step"] = None
    accumulate: Annotated[int, "read a batch in this many equal parts, to save memory"] = 1
    context: Annotated[int | None, "bytes per sequence"] = None
    layers: Annotated[int | None, "blocks of the model"] = None
    width: Annotated[int | None, "numbers per position"] = None
    heads: Annotated[int | None, "attention heads"] = None
    valid_every: Annotated[int | None, "steps between validations"] = None
    valid_windows: Annotated[int | None, "sequences of the validation set"] = None
    sample: Annotated[int | None, "bytes that the model writes before and after training"] = None
    precision: Annotated[Precision | None, "of forward and backward (weights: float32)"] = None
    shard: Annotated[bool, "under torchrun: each rank keeps a part of every weight (FSDP2)"] = False
    compile: Annotated[bool | None, "compile the model (default: on CUDA)"] = None
    corpus: Annotated[str | None, "text file or folder (default: Python's own library)"] = None
    device: Annotated[str | None, "cpu, cuda, ... (default: cuda if available)"] = None
    # fmt: on

    def __post_init__(self) -> None:
        """Fill in the preset's values and refuse what cannot be trained."""
        for each in fields(self):
            self._set(each.name, _checked_type(each, getattr(self, each.name)))
        rates = LEARNING_RATES[self.preset]
        lr = rates["adamw" if self.optimizer == "adamw" else "muon"]
        common = {"lr": lr, "adamw_lr": rates["adamw_lr"], "device": default_device()}
        for name, value in (PRESETS[self.preset] | common).items():
            if getattr(self, name) is None:
                self._set(name, value)
        if self.compile is None:
            self._set("compile", "cuda" in self.device and has_compiler("cuda"))
        if self.optimizer == "muonclip":
            self._set("watch_logits", True)
        for name, value in vars(self).items():
            fits, words = RANGES.get(name) or RANGES.get(type(value), (None, ""))
            if value is not None and fits and not fits(value):
                raise ValueError(f"{name} must be {words}; got {value!r}")
        self._check_combinations()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # as the dataclass is frozen

    def _check_combinations(self) -> None:
        if self.optimizer not in OPTIMIZERS and not OWN_OPTIMIZER.fullmatch(self.optimizer):
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, or your own as FILE.py:NAME, "
                f"for example my_optimizer.py:MyMuon; got {self.optimizer!r}"
            )
        if self.per_head and self.optimizer == "adamw":
            raise ValueError(
                "per_head is about orthogonalization, and AdamW has none: leave it out"
            )
        if self.batch % self.accumulate:
            works = [parts for parts in range(1, self.batch + 1) if self.batch % parts == 0]
            raise ValueError(
                f"accumulate must divide batch into equal parts: for batch={self.batch} "
                f"one of {works}; got {self.accumulate}"
            )
        if self.optimizer == "muonclip" and self.qk_norm:
            raise ValueError(
                "MuonClip has nothing to clip with qk_norm, which fixes the logits' scale: "
                "use optimizer='muon' with it, or leave qk_norm out"
            )
        if self.corpus is not None and (not self.corpus or Path(self.corpus).name != self.corpus):
            raise ValueError(
                "corpus must be a text's name, for example 'book.txt', whose path is given as "
                f"train(config, corpus=PATH); got {self.corpus!r}"
            )
        self.model()  # refuses sizes that do not fit together

    def model(self) -> GPTConfig:
        """Return the model's part of the configuration."""
        shared = ("layers", "width", "heads", "context", "attention", "kv_heads", "qk_norm")
        return GPTConfig(**{name: getattr(self, name) for name in shared})

    def command(self) -> str:
        """Write the command that repeats this run: whatever differs from its preset.

        >>> TrainConfig(optimizer="muon", lr=0.02, watch_logits=True).command()
        'python -m muon_lab.training --preset cpu --optimizer muon --lr 0.02 --watch-logits'
        """
        shared = {"preset": self.preset, "optimizer": self.optimizer}
        usual = vars(TrainConfig(**shared, device=self.device)) | {"device": default_device()}
        words = ["--preset", self.preset, "--optimizer", self.optimizer]
        for name, value in vars(self).items():
            if value != usual[name]:
                switch = {True: [_flag(name)], False: [_flag(f"no_{name}")]}
                words += switch[value] if isinstance(value, bool) else [_flag(name), str(value)]
        return shlex.join(["python", "-m", "muon_lab.training", *words])


def _field_type(each: Field) -> tuple[type, tuple[str, ...], bool]:
    """Return the type of a field's values, its choices if any, and whether it may be None."""
    annotated = each.type.__origin__
    optional = NoneType in get_args(annotated)
    kind = get_args(annotated)[0] if optional else annotated
    choices = get_args(kind)
    return (str if choices else kind), choices, optional


def _checked_type(each: Field, value: Any) -> Any:
    """Return a field's value as its plain Python type; raise if it has a different one."""
    kind, choices, optional = _field_type(each)
    if value is None and optional:
        return None
    if choices and not (isinstance(value, str) and value in choices):
        raise ValueError(f"{each.name} must be one of {', '.join(choices)}; got {value!r}")
    accepted, words = TYPES[kind]
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        raise TypeError(f"{each.name} must be {words}; got {value!r}")
    return kind(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    """Make an option of every field of TrainConfig, and those that say which files to write."""
    parser = argparse.ArgumentParser(
        prog="python -m muon_lab.training", description="Train a byte-level GPT."
    )
    for each in fields(TrainConfig):
        kind, choices, _ = _field_type(each)
        how: dict[str, Any] = {"help": each.type.__metadata__[0], "default": each.default}
        if kind is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how |= {"type": kind, "choices": choices or None}
        if each.name in ("lr", "seed"):
            how |= {"nargs": "+", "default": [each.default]}
        parser.add_argument(_flag(each.name), **how)
    parser.add_argument("--save", type=Path, help="run file, or a folder for several runs")
    parser.add_argument("--checkpoint", type=Path, help="file to save the state to, and --resume")
    parser.add_argument(
        "--checkpoint-every", type=int, help="steps between checkpoints (default: validations)"
    )
    parser.add_argument("--resume", action="store_true", help="continue from --checkpoint")
    return parser


def parse(arguments: Sequence[str] | None = None) -> tuple[list[TrainConfig], argparse.Namespace]:
    """Read a command line: one configuration per learning rate and seed, and the files.

    >>> configs, _ = parse(["--lr", "0.01", "0.02", "--seed", "0", "1", "2"])
    >>> [(config.lr, config.seed) for config in configs][:4]
    [(0.01, 0), (0.01, 1), (0.01, 2), (0.02, 0)]
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    common = {each.name: getattr(given, each.name) for each in fields(TrainConfig)}
    del common["corpus"]  # here a path, which `train` takes beside the configuration
    pairs = [{"lr": lr, "seed": seed} for lr in given.lr for seed in given.seed]
    try:
        configs = [TrainConfig(**common | pair) for pair in pairs]
    except ValueError as error:
        parser.error(str(error))
    if given.checkpoint is not None and len(configs) > 1:
        parser.error(f"--checkpoint holds one run, and these are {len(configs)}")
    return configs, given
