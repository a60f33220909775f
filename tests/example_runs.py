"""Runs that nobody trained, for tests of what is done with runs."""

import numpy as np

from muon_lab.runs.record import Run
from muon_lab.runs.schema import CONFIG, COSTS


def content(version=2):
    """A run file's content: three steps, two validations, one spectrum of two matrices."""
    config = {name: "name" if kind is str else 1 for name, kind in CONFIG.items()}
    config |= {"steps": 3, "layers": 2, "heads": 2}
    config |= {"accumulate": 1, "warm_up": 0.05, "clip_norm": None, "compile": False}
    corpus = {"name": "text", "sha256": "abc", "train_bytes": 9, "valid_bytes": 3}
    provenance = {
        **dict.fromkeys(("date", "python", "torch", "device", "commit", "command"), "x"),
        "corpus": corpus | {"xz_bits_per_byte": 1.5},
    }
    curves = {"loss": [3.0, 2.0, 1.0], "max_logit": [[[1.0, 2.0]] * 2] * 3}
    curves |= {f"valid_{name}": [0, 3] for name in ("step", "loss", "bytes", "seconds")}
    samples = {"before": "?", "after": "!"}
    data = {"format": "muon_lab run", "version": version, "config": config, "curves": curves}
    data |= {"provenance": provenance, "samples": samples}
    if version == 1:
        return data
    provenance["spectra"] = {"matrices": ["q", "k"], "quantiles": [0, 0.5, 1]}
    rows = [[[1, 0.5, 0.1]] * 2]
    curves |= {"grad_norm": [1, 1, 1], "spectrum_step": [3], "momentum_spectrum": rows}
    curves |= {"update_spectrum": rows, "rare_share": [[0.5] * 2], "rare_share_momentum": [[0] * 2]}
    sizes = {"weights": 4, "gradients": 4, "optimizer": 8}
    costs = dict.fromkeys(COSTS, 1) | {"peak_memory_of": "process", "state_bytes": sizes}
    return data | {"costs": costs, "curves": curves}


def make_run(losses=(4.0, 2.0), seed=0, optimizer="adamw", device="cpu", seconds=10.0, **options):
    """A run of 100 bytes, 10 steps and ``seconds`` between validations, with the losses given.

    ``options`` may hold ``config`` and ``costs`` to add to; the rest are curves.
    """
    data, times = content(), np.arange(len(losses))
    config = data["config"] | {"optimizer": optimizer, "lr": 0.003, "seed": seed, "steps": 3}
    config |= options.pop("config", {})
    costs = data["costs"] | options.pop("costs", {})
    curves = data["curves"] | {
        "loss": [4.1, 3.3, 2.1],
        "valid_step": times * 10,
        "valid_loss": losses,
        "valid_bytes": times * 100,
        "valid_seconds": times * seconds,
    }
    samples = {"before": "?", "after": "def f(é):\n"}
    provenance = data["provenance"] | {"device": device}
    return Run(config, provenance, curves | options, samples, costs)
