"""Named sizes for a training run, and the learning rates that go with them."""

from typing import Any

# What a preset fills in where a TrainConfig says None. bfloat16 belongs to the GPUs: on a CPU with
# bfloat16 of its own forward and backward take an eighth less time at "cpu" and three tenths less
# at "cpu-long", on one without it more; and runs from all machines are to be comparable.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {  # 25 thousand parameters, seconds: for tests
        "layers": 2, "width": 32, "heads": 2, "context": 32, "batch": 4, "steps": 12,
        "valid_every": 4, "valid_windows": 8, "precision": "float32", "sample": 40,
    },
    "cpu": {  # 0.9 million, about a minute on 2 cores
        "layers": 4, "width": 128, "heads": 4, "context": 128, "batch": 16, "steps": 300,
        "valid_every": 50, "valid_windows": 256, "precision": "float32", "sample": 300,
    },
    "cpu-long": {  # 4.9 million, about ten minutes on 2 cores
        "layers": 6, "width": 256, "heads": 8, "context": 256, "batch": 16, "steps": 450,
        "valid_every": 50, "valid_windows": 128, "precision": "float32", "sample": 300,
    },
    "gpu": {  # 32 million
        "layers": 10, "width": 512, "heads": 8, "context": 512, "batch": 64, "steps": 1500,
        "valid_every": 100, "valid_windows": 256, "precision": "bfloat16", "sample": 600,
    },
    "gpu-124m": {  # GPT-2 small's blocks; its 124 million count a vocabulary of 50,257 as well
        "layers": 12, "width": 768, "heads": 12, "context": 1024, "batch": 32, "steps": 1500,
        "valid_every": 100, "valid_windows": 128, "precision": "bfloat16", "sample": 600,
    },
}  # fmt: skip

# Of AdamW, of Muon, and of what Muon leaves to AdamW. Those of "cpu" are the middle of a recorded
# sweep (data/runs), within a factor of two of the best: Muon's is 0.02 there, by less than the
# seeds' spread. All others are guesses that nobody has tuned: sweep before you compare.
LEARNING_RATES = {
    "tiny": {"adamw": 3e-3, "muon": 1e-2, "rest": 3e-3},
    "cpu": {"adamw": 4e-3, "muon": 1e-2, "rest": 3e-3},
    "cpu-long": {"adamw": 2e-3, "muon": 5e-3, "rest": 2e-3},
    "gpu": {"adamw": 1e-3, "muon": 3e-3, "rest": 1e-3},
    "gpu-124m": {"adamw": 1e-3, "muon": 2e-3, "rest": 1e-3},
}
