"""What can stop a training run: each says in one sentence what happened and what would work."""

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from muon_lab.training.config import TrainConfig
from muon_lab.training.state import Training

# How devices word it where they raise a plain RuntimeError.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


class Stopped(KeyboardInterrupt):
    """Say that a signal stopped a run between two steps, after its state was saved."""

    def __init__(self, step: int, steps: int, number: int) -> None:
        super().__init__(f"after step {step} of {steps}, which is saved")
        self.status = 128 + number  # a program's exit status, as shells give it


@contextmanager
def signals_noted(wanted: bool = True) -> Iterator[list[int]]:
    """Collect Ctrl-C (SIGINT) and SIGTERM in a list, for the loop to check between its steps.

    A second one has its usual effect at once. Python receives signals in its main thread only: in
    any other, or if not ``wanted``, nothing is collected.
    """
    noted: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        restore()
        os.write(2, b"\nstopping when this step is done and saved\n")  # print may be interrupted

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if wanted and threading.current_thread() is threading.main_thread():
        before |= {
            number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
        }
    try:
        yield noted
    finally:
        restore()


def check_gradients(training: Training, loss: float, norm: Tensor) -> None:
    """Stop before a step that NaN or Inf would spoil, and say where they are."""
    if math.isfinite(loss) and norm.isfinite():
        return
    spoiled = [n for n, p in training.model.named_parameters() if not p.isfinite().all()]
    if spoiled:
        raise FloatingPointError(
            f"step {training.step} of {training.config.optimizer} left NaN or Inf in the weights "
            f"{', '.join(spoiled[:3])}{' ...' * (len(spoiled) > 3)}. {_smaller_lr(training)}"
        )
    where = [
        name for name, p in training.model.named_parameters()
        if p.grad is not None and not p.grad.isfinite().all()
    ]  # fmt: skip
    raise FloatingPointError(
        f"step {training.step + 1} was not taken: its loss is {loss} and the gradients of "
        f"{', '.join(where[:3]) or 'no parameter'}{' ...' * (len(where) > 3)} hold NaN or Inf. "
        f"{_smaller_lr(training)}"
    )


def check_validation(training: Training) -> None:
    """Stop after a step that spoiled the model, before a good checkpoint is replaced by it."""
    loss = training.curves["valid_loss"][-1]
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"after step {training.step} the validation loss is {loss}. {_smaller_lr(training)}"
        )


def _smaller_lr(training: Training) -> str:
    return (
        "The last checkpoint, if you asked for one, is unchanged; a learning rate smaller than "
        f"{training.config.lr:g} may help"
    )


@contextmanager
def memory_explained(config: TrainConfig) -> Iterator[None]:
    """Turn a device's "out of memory" into a MemoryError that says which setting to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not known and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        raise MemoryError(memory_advice(config)) from error


def memory_advice(config: TrainConfig) -> str:
    """Say what takes the memory and which settings need less of it, the harmless one first."""
    batch, parts = config.batch, config.accumulate
    finer = next((n for n in range(parts + 1, batch + 1) if batch % n == 0), None)
    same = f"raise accumulate to {finer} (the same batches in smaller parts), or " if finer else ""
    return (
        f"out of memory on {config.device}, reading {batch // parts} of the {batch} sequences "
        f"per step, of {config.context} bytes, at a time: {same}lower "
        f"{f'batch ({batch}), ' if batch > 1 else ''}context ({config.context}), "
        f"width ({config.width}) or layers ({config.layers})"
    )
