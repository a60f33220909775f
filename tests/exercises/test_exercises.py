"""Every exercise of the course, held to the same contract."""

import ast
import importlib
import json
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from muon_lab import exercises
from muon_lab.exercises import ____
from muon_lab.exercises.compare import Failure, difference
from muon_lab.exercises.exercise import Exercise, itself

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MODULES = [
    importlib.import_module(f"{exercises.__name__}.{found.name}")
    for found in pkgutil.iter_modules(exercises.__path__)
    if re.fullmatch(r"e\d\d", found.name)
]
EXERCISES = [
    pytest.param(module, exercise, id=f"{short}.{name}")
    for module in MODULES
    for short in [module.__name__.rpartition(".")[2]]
    for name, exercise in vars(module).items()
    if isinstance(exercise, Exercise)
]
every_exercise = pytest.mark.parametrize(("module", "exercise"), EXERCISES)


def run_cell(text, module, exercise):
    """Run a cell as the notebook would and give what its last line displays."""
    names = dict(vars(module)) | {"____": ____, module.__name__.rpartition(".")[2]: module}
    names["explorer"] = SimpleNamespace(**exercise.start or {})
    tree = ast.parse(text)
    last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(last, "<cell>", "eval"), names)


@every_exercise
def test_reference_passes(module, exercise):
    assert exercise.check(exercise.reference).status == "correct"


@every_exercise
def test_solution_is_a_cell_that_passes(module, exercise):
    reply = run_cell(exercise.solution().code, module, exercise)
    assert reply.status == "correct", reply


@every_exercise
def test_starter_is_not_attempted(module, exercise):
    (path,) = NOTEBOOKS.glob(f"{module.__name__[-2:]}_*.ipynb")
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    (starter,) = [cell for cell in cells if f"{exercise.name}.check(" in cell]
    reply = run_cell(starter, module, exercise)
    assert reply.status == "not attempted", reply


@every_exercise
def test_each_mistake_earns_its_own_sentence(module, exercise):
    assert len(exercise.mistakes) >= 2
    for *mistake, sentence in exercise.mistakes:
        reply = exercise.check(exercise.mistaken(*mistake))
        assert (reply.status, reply.text) == ("not yet", sentence)


@every_exercise
def test_words_are_there(module, exercise):
    assert exercise.question and exercise.because
    assert len(exercise.hints) >= 2


def test_sentences_are_distinct():
    sentences = [mistake[-1] for p in EXERCISES for mistake in p.values[1].mistakes]
    assert len(sentences) == len(set(sentences))


# The machinery itself, on one small exercise of each sort.


def half(x, scale):
    return x / 2 * scale


def writes_into_argument(x, scale):
    x /= 2
    return x * scale


FUNCTION = Exercise(
    question="Halve it.",
    reference=half,
    cases=[(np.array([2.0, 4.0]), 1.0), (np.array([1.0, 0.0]), 3.0)],
    hints=["First.", "Second."],
    mistakes=[(lambda x, scale: x * scale, "Not halved.")],
    because="Halved.",
)
NUMBER = Exercise(
    question="How many?",
    reference=12.0,
    hints=["First.", "Second."],
    mistakes=[(6.0, "Half of it.")],
    because="Counted.",
    observe=itself,
    tolerance=0.05,
)


def speed(lr, beta):
    return "arrives" if lr + beta > 1 else "crawls"


SLIDERS = Exercise(
    question="Make it arrive.",
    reference={"lr": 1.0, "beta": 0.5},
    hints=["First.", "Second."],
    mistakes=[({"lr": 0.1, "beta": 0.0}, "Still crawling.")],
    because="Both help.",
    observe=speed,
    start={"lr": 0.1, "beta": 0.5},
)

placeholder = ____


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, scale: x / 2, "For x=[1, 0], scale=3: wanted [1.5, 0], got [0.5, 0]."),
        (lambda x, scale: None, "is a return missing?"),
        (lambda x, scale: (x / 2 * scale)[:, None], "wanted the shape (2,), got (2, 1)."),
        (lambda x, scale: x * np.nan, "wanted finite numbers, got [nan, nan]."),
        (lambda x, scale: x / 0, "wanted finite numbers"),
        (lambda x, scale: x @ np.ones(3), "it raised ValueError"),
        (lambda x, scale: x @ np.ones(3), "(line "),
        (lambda: 1, "takes 0 positional arguments but 2 were given"),
        (lambda x, scale: "text", "got 'text'"),
        (lambda x, scale: [1, [2]], "[1, [2]]"),
        (writes_into_argument, "writes into its argument"),
        (lambda x, scale: exit(), "it raised SystemExit"),
        (3, "not callable"),
        (None, "not callable"),
    ],
)
def test_wrong_functions_get_clear_words(answer, said):
    reply = FUNCTION.check(answer)
    assert reply.status == "not yet"
    assert said in reply.text


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (np.ones(2), [1.0, 1]),
        (np.ones(2), (np.float64(1), 1.0)),
        (np.eye(2), [np.array([1, 0]), [0, 1]]),
        ((0.1, 0.9), np.array([0.1, 0.9])),
        ([np.ones(2), np.zeros(2)], np.array([[1, 1], [0, 0]])),
        (np.array([1.0, np.nan]), np.array([1 + 1e-9, np.nan])),
        (np.array([1.0, np.inf]), np.array([1 + 1e-9, np.inf])),
        ({"a": 1, "b": np.ones(2)}, {"b": [1, 1], "a": 1.0}),
    ],
)
def test_the_same_numbers_are_the_same_in_any_container(wanted, got):
    assert difference(wanted, got, 1e-6) == ""


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (np.ones(2), [1.0, 2.0]),
        (np.ones(2), [1.0, [1.0]]),
        (np.ones(2), [1.0]),
        (np.ones(2), ["1", "1"]),
        ((0.1, 0.9), np.array([0.9, 0.1])),
        ((np.ones(2), np.ones(2)), np.ones(2)),
        (np.array([1.0, np.nan]), np.array([2.0, np.nan])),
        (np.array([1.0, np.inf]), np.array([2.0, np.inf])),
        (np.array([1.0, np.inf]), np.array([1.0, -np.inf])),
    ],
)
def test_other_numbers_are_others_in_any_container(wanted, got):
    assert "wanted" in difference(wanted, got, 1e-6)


@pytest.mark.parametrize("wanted", [np.ones(2), 1.0, [np.ones(2)], Failure("another", "")])
def test_an_exception_is_told_whatever_was_wanted(wanted):
    assert difference(wanted, Failure("KeyError: 1", ""), 1e-6) == "it raised KeyError: 1"


def test_numbers_that_look_alike_are_told_apart():
    told = difference(np.array([1.0, -2.0]), np.array([1.0, -2.00001]), 1e-6)
    assert told == "wanted [1, -2], got [1, -2] (off by 1e-05)."


@pytest.mark.parametrize(
    "answer",
    [
        ____,
        [1, ____],
        {"a": (____,)},
        lambda x, scale: x / ____,
        lambda x, scale: (lambda y: y + ____)(x),
        lambda x, scale: x if scale < 100 else ____,
        lambda x, scale: x / placeholder,
        lambda x, scale: placeholder.sum(x),
        lambda x, scale: x @ placeholder,
        lambda x, scale: np.linalg.norm(placeholder),
        lambda x, scale: np.sum(x, axis=placeholder),
        lambda x, scale: x if placeholder else -x,
        lambda x, scale: list(placeholder),
        lambda x, scale: placeholder == x,
        type("Rule", (), {"step": lambda self: ____}),
    ],
)
def test_any_use_of_a_placeholder_is_not_attempted(answer):
    assert FUNCTION.check(answer).status == "not attempted"


def test_placeholder_meets_torch():
    torch = pytest.importorskip("torch")
    uses = [lambda x, s: torch.ones(2) * placeholder, lambda x, s: torch.sum(placeholder)]
    assert {FUNCTION.check(use).status for use in uses} == {"not attempted"}


def test_answers_cannot_spoil_later_checks():
    FUNCTION.check(writes_into_argument)
    np.testing.assert_array_equal(FUNCTION.cases[0][0], [2.0, 4.0])
    assert FUNCTION.check(half).status == "correct"


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (12.4, "correct", "Counted."),
        (11.3, "not yet", "11.3 is too small."),  # 5.8 % off, and the tolerance is 5 %
        (np.float32(12), "correct", "Counted."),
        (6, "not yet", "Half of it."),
        (3, "not yet", "3 is too small."),
        (99, "not yet", "99 is too large."),
        (np.nan, "not yet", "nan is not it"),
        (np.inf, "not yet", "inf is not it"),
        ("twelve", "not yet", "twelve' is not it"),
        (np.ones(3), "not yet", "is not it"),
        (None, "not yet", "is not it"),
    ],
)
def test_predictions_are_judged_without_giving_the_number_away(answer, status, said):
    reply = NUMBER.check(answer)
    assert reply.status == status
    assert said in reply.text
    assert status == "correct" or "12" not in reply.text


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"lr": 1.0, "beta": 0.2}, "correct", "Both help."),
        (SimpleNamespace(lr=2.0, beta=0.0), "correct", "Both help."),
        (SimpleNamespace(lr=0.2, beta=0.1), "not yet", "Still crawling."),
        (SimpleNamespace(lr=0.1, beta=0.5), "not attempted", "move them"),
        ({"lr": ____, "beta": 0.2}, "not attempted", "Replace"),
        ({"lr": 1.0}, "not yet", "KeyError: 'beta'"),
        (None, "not yet", "no attribute 'lr'"),
    ],
)
def test_sliders_are_read_from_an_explorer_or_a_dict(answer, status, said):
    reply = SLIDERS.check(answer)
    assert reply.status == status
    assert said in reply.text


def test_hints_come_one_by_one_and_the_last_stays():
    assert [FUNCTION.hint().text for _ in range(3)] == ["First.", "Second.", "Second."]
    assert repr(FUNCTION.hint()) == "? hint 2 of 2: Second."


def test_solution_is_the_references_own_source():
    code = "def half(x, scale):\n    return x / 2 * scale\n\n\nexercise.check(half)"
    assert FUNCTION.solution().code == code
    assert NUMBER.solution().code == "exercise.check(12.0)"
    assert SLIDERS.solution().code == "explorer.lr = 1.0\nexercise.check(explorer)"


def test_html_escapes_and_marks_by_more_than_colour():
    html = FUNCTION.check(lambda x, scale: "<b>")._repr_html_()
    assert "✗ not yet" in html
    assert "&lt;b&gt;" in html and "<b>&" not in html
