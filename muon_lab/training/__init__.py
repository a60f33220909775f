"""One training run: ``train(TrainConfig(...))``, or ``python -m muon_lab.training``.

Begin with ``loop.py``, the run itself; ``config.py`` says what can be asked of it. The names below
are loaded when they are first used, so that importing this package does not load torch.
"""

from importlib import import_module

_MODULES = {
    "TrainConfig": "config",
    "new_training": "state",
    "steps": "loop",
    "train": "loop",
    "training_steps": "loop",
}


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
