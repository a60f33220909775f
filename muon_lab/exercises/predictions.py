"""Predict before running a cell; keep predictions and solved exercises in the learner's file.

>>> from muon_lab.exercises import ____
>>> predict("01.duel", ____, "walker", "ball")
○ no prediction yet: Replace ____ by 'walker' or 'ball', or just read on.
>>> outcome("01.duel", "ball")
→ outcome: It is 'ball'.
>>> predict("01.duel", "walker", "walker", "ball")
→ noted: You predict 'walker'. Run on to find out.
>>> outcome("01.duel", "ball", "It remembers where it was going.")
→ outcome: You predicted 'walker'; it is 'ball'. It remembers where it was going.

Where the environment variable MUON_LAB_PROGRESS names a file, that file keeps them as JSON,
``{"04.q3": "2026-01-31", "predictions": {"01.duel": "walker"}}``. Nothing here raises.
"""

import json
import os
from contextlib import suppress
from datetime import date
from pathlib import Path

from muon_lab.exercises.blank import mentions_blank
from muon_lab.exercises.compare import show
from muon_lab.exercises.reply import Reply
from muon_lab.runs.record import write_atomically

_predictions: dict[str, object] = {}  # made since Python started


def progress() -> dict:
    """Return what the learner's file holds; empty where there is none that can be read."""
    with suppress(OSError, ValueError, KeyError):
        kept = json.loads(Path(os.environ["MUON_LAB_PROGRESS"]).read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) else {}
    return {}


def note_solved(name: str) -> None:
    """Note the day on which an exercise, such as "04.q3", was first solved."""
    _note({name: date.today().isoformat()} | progress())


def predict(name: str, prediction: object, *choices: object) -> Reply:
    """Keep a prediction: one of ``choices`` or, where there are none, any number or word."""
    wanted = " or ".join(map(show, choices)) or "a number or a word"
    if mentions_blank(prediction):
        return Reply("no prediction yet", f"Replace ____ by {wanted}, or just read on.")
    if choices and str(prediction) not in map(str, choices):
        return Reply("no prediction yet", f"{show(prediction)} is not offered; choose {wanted}.")
    _predictions[name] = prediction
    _note(progress() | {"predictions": _kept() | {name: prediction}})
    return Reply("noted", f"You predict {show(prediction)}. Run on to find out.")


def outcome(name: str, value: object, sentence: str = "") -> Reply:
    """Show what came out beside what was predicted, if anything was, and one sentence on it."""
    guess = _predictions.get(name, _kept().get(name))
    if guess is None:
        head = f"It is {show(value)}."
    elif show(guess) == show(value):
        head = f"As you predicted, it is {show(value)}."
    else:
        head = f"You predicted {show(guess)}; it is {show(value)}."
    return Reply("outcome", f"{head} {sentence}".rstrip())


def _kept():
    kept = progress().get("predictions")
    return kept if isinstance(kept, dict) else {}


def _note(entries):
    with suppress(Exception), write_atomically(os.environ["MUON_LAB_PROGRESS"]) as file:
        file.write(json.dumps(entries, indent=1, default=lambda number: number.item()).encode())
