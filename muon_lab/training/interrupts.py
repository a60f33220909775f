"""What can stop a training run, each said in one sentence together with what would work."""

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# How devices word it where they raise a bare RuntimeError.
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
PATIENCE = 2  # signals that wait for the step's end; the next one does not


class Stopped(KeyboardInterrupt):
    """Tell that a signal stopped a run between two steps, after its state was saved."""

    def __init__(self, step: int, steps: int, number: int) -> None:
        super().__init__(f"after step {step} of {steps}, which is saved")
        self.status = 128 + number  # a program's exit status, as shells give it


@contextmanager
def signals_noted(wanted: bool = True) -> Iterator[list[int]]:
    """Collect Ctrl-C (SIGINT) and SIGTERM in a list, for the loop to look at between its steps.

    The third one raises KeyboardInterrupt where the program is. Python hears signals in its main
    thread only: in another, or where it is not ``wanted``, nothing is collected.
    """
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        if len(noted) > PATIENCE:
            raise KeyboardInterrupt
        os.write(2, b"\nstopping once this step is done and saved\n")  # print may be at work

    if not wanted or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_finite(training: Any, loss: float) -> None:
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
        f"{_smaller_lr(training)}"
    )


def check_validation(training: Any) -> None:
    """Stop after a step that spoiled the model, before its state is saved over a sound one."""
    loss = training.curves["valid_loss"][-1]
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"after step {training.step} the validation loss is {loss}. {_smaller_lr(training)}"
        )


def _smaller_lr(training: Any) -> str:
    return (
        "The last checkpoint, if one was asked for, stands; a smaller lr than "
        f"{training.config.lr:g} may help"
    )


@contextmanager
def memory_explained(config: Any) -> Iterator[None]:
    """Turn a device's "out of memory" into a MemoryError that says which setting to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not known and not any(words in str(error) for words in NO_MEMORY):
            raise
        raise MemoryError(memory_advice(config)) from error


def memory_advice(config: Any) -> str:
    """Say what takes the memory, and the settings that make it less, the harmless one first."""
    batch, parts = config.batch, config.accumulate
    finer = next((n for n in range(parts + 1, batch + 1) if batch % n == 0), None)
    same = f"raise accumulate to {finer} (the same batches, cut finer), or " if finer else ""
    return (
        f"out of memory on {config.device}, reading {batch // parts} of a step's {batch} sequences "
        f"of {config.context} bytes at a time: {same}lower "
        f"{f'batch ({batch}), ' if batch > 1 else ''}context ({config.context}), "
        f"width ({config.width}) or layers ({config.layers})"
    )
