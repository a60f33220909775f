"""Runs that were never trained, for tests of code that reads runs."""

import numpy as np

from muon_lab.runs.record import FIELDS, Run


def example_content():
    """Return a run file's content: three steps, two validations, one spectrum of two matrices."""
    config = {name: "name" if kind is str else 1 for name, kind in FIELDS["config"].items()}
    config |= {"steps": 3, "layers": 2, "heads": 2}
    config |= {"accumulate": 1, "warm_up": 0.05, "clip_norm": None, "compile": False}
    corpus = {"name": "text", "sha256": "abc", "train_bytes": 9, "valid_bytes": 3}
    provenance = {
        **dict.fromkeys(("python", "torch", "device", "commit", "command"), "x"),
        "date": "2026-01-31T12:00:00+00:00",
        "corpus": corpus | {"xz_bits_per_byte": 1.5},
        "spectra": {"matrices": ["q", "k"], "quantiles": [0, 0.5, 1]},
    }
    spectrum = [[[1, 0.5, 0.1]] * 2]
    curves = {
        "loss": [3.0, 2.0, 1.0],
        "max_logit": [[[1.0, 2.0]] * 2] * 3,
        "grad_norm": [1, 1, 1],
        "spectrum_step": [3],
        "momentum_spectrum": spectrum,
        "update_spectrum": spectrum,
        "rare_share": [[0.5] * 2],
        "rare_share_momentum": [[0] * 2],
    }
    curves |= {f"valid_{name}": [0, 3] for name in ("step", "loss", "bytes", "seconds")}
    sizes = {"weights": 4, "gradients": 4, "optimizer": 8}
    return {
        "format": "muon_lab run",
        "version": 2,
        "config": config,
        "provenance": provenance,
        "curves": curves,
        "samples": {"before": "?", "after": "!"},
        "costs": dict.fromkeys(FIELDS["costs"], 1)
        | {"peak_memory_of": "process", "state_bytes": sizes},
    }


def make_run(losses=(4.0, 2.0), seed=0, optimizer="adamw", device="cpu", seconds=10.0, **options):
    """Return a run with 100 bytes, 10 steps and ``seconds`` between its validation ``losses``.

    ``options`` may add to ``config``, ``costs`` and ``provenance``; all others are curves.
    """
    data, times = example_content(), np.arange(len(losses))
    config = data["config"] | {"optimizer": optimizer, "lr": 0.003, "seed": seed, "steps": 3}
    config |= options.pop("config", {})
    costs = data["costs"] | options.pop("costs", {})
    provenance = data["provenance"] | {"device": device} | options.pop("provenance", {})
    curves = data["curves"] | {
        "loss": [4.1, 3.3, 2.1],
        "valid_step": times * 10,
        "valid_loss": losses,
        "valid_bytes": times * 100,
        "valid_seconds": times * seconds,
    }
    samples = {"before": "?", "after": "def f(é):\n"}
    return Run(config, provenance, curves | options, samples, costs)
