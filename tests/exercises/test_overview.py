import importlib
import json

import pytest

from muon_lab.exercises.exercise import Exercise
from muon_lab.exercises.overview import Overview, overview

ROWS = [("00_start", "What?", ["00.q1"]), ("01_descent", "Why?", ["01.q1", "01.q2", "01.q3"])]


def test_the_course_has_every_exercise_of_every_module():
    for stem, question, names in overview().rows:
        module = importlib.import_module(f"muon_lab.exercises.e{stem[:2]}")
        made = [value.name[1:] for value in vars(module).values() if isinstance(value, Exercise)]
        assert names == made
        assert question.endswith("?")


@pytest.mark.parametrize(
    ("solved", "line"),
    [
        (set(), "Next: exercise 1 of 00_start"),
        ({"00.q1"}, "Next: exercise 1 of 01_descent"),
        ({"01.q2"}, "Next: exercise 3 of 01_descent"),
        ({"01.q3"}, "Next: exercise 1 of 00_start"),
        ({"00.q1", "01.q1", "01.q2", "01.q3"}, "All exercises are solved."),
    ],
)
def test_the_next_exercise_follows_the_last_one_solved(solved, line):
    assert Overview(ROWS, solved).next() == line


def test_progress_is_read_from_the_learners_file(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    file.write_text(json.dumps({"00.q1": "2026-01-31", "predictions": {"01.duel": "ball"}}))
    monkeypatch.setenv("MUON_LAB_PROGRESS", str(file))
    first, second = repr(overview()).splitlines()[:2]
    assert first.endswith("1 of 1 ✓") and " 0 of " in second


def test_the_table_links_to_notebooks():
    table = Overview(ROWS, {"00.q1"})._repr_markdown_().splitlines()
    assert table[2] == "| [00 What?](00_start.ipynb) | 1 of 1 ✓ |"
    assert table[-1] == "Next: exercise 1 of [01_descent](01_descent.ipynb)"
