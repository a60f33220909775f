"""What the learner's file keeps: solved exercises and predictions."""

import json
from datetime import date

import numpy as np
import pytest

from muon_lab.exercises import ____, e01, outcome, predict, predictions


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Name a progress file, and return a function that reads it."""
    path = tmp_path / "progress.json"
    monkeypatch.setenv("MUON_LAB_PROGRESS", str(path))
    monkeypatch.setattr(predictions, "_predictions", {})
    return lambda: json.loads(path.read_text())


def test_a_solved_exercise_is_noted_once_with_its_day(kept, monkeypatch):
    e01.q4.check(9.0)
    e01.q4.check(10)
    assert kept() == {"01.q4": date.today().isoformat()}
    predictions._note({"01.q4": "2026-01-31"})
    e01.q4.check(10)
    assert kept() == {"01.q4": "2026-01-31"}


def test_predictions_stand_beside_solved_exercises_and_meet_their_outcome_after_a_restart(kept):
    e01.q4.check(10)
    predict("01.race", "walker", "walker", "ball")
    predict("01.steps", np.int64(40))
    assert kept()["predictions"] == {"01.race": "walker", "01.steps": 40}
    predictions._predictions.clear()
    assert outcome("01.race", "ball", "So.").text == "You predicted 'walker'; it is 'ball'. So."
    assert "01.q4" in kept()


def test_an_untouched_prediction_says_what_is_offered_and_fails_nothing(kept):
    assert predict("01.race", ____, "walker", "ball").status == "no prediction yet"
    assert outcome("01.race", "ball").text == "It is 'ball'."


def test_what_is_not_offered_is_not_kept(kept):
    assert "choose 'walker' or 'ball'" in predict("01.race", "runner", "walker", "ball").text
    assert outcome("01.race", "ball").text == "It is 'ball'."


def test_a_number_is_met_by_the_number(kept):
    predict("01.steps", 40)
    assert outcome("01.steps", 26).text == "You predicted 40; it is 26."
    assert outcome("01.steps", 40.0).text == "As you predicted, it is 40."


@pytest.mark.parametrize("text", ["not json", "[1]", '{"predictions": 3}', ""])
def test_a_file_of_something_else_stops_nothing(kept, tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    assert e01.q4.check(10).status == "correct"
    assert predict("01.race", "ball").status == "noted"
    assert kept()["predictions"] == {"01.race": "ball"}


def test_a_file_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("MUON_LAB_PROGRESS", str(tmp_path))
    assert e01.q4.check(10).status == "correct"
    assert predict("01.race", "ball").status == "noted"
    assert list(tmp_path.iterdir()) == []
