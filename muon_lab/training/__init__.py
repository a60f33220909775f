"""One training run: ``train(TrainConfig(...))``, or ``python -m muon_lab.training``.

Begin with ``loop.py``, the run itself; ``config.py`` says what can be asked of it. Both names below
are loaded when they are first used, so that importing this package does not load torch.
"""

from importlib import import_module

_HOMES = {"train": "loop", "TrainConfig": "config"}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
