"""Every exercise of the course, held to the same contract."""

import ast
import importlib
import json
import pkgutil
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from muon_lab import exercises
from muon_lab.exercises import ____, limits
from muon_lab.exercises.compare import Failure, difference, show
from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.exercises.mistakes import read_mistakes
from muon_lab.exercises.reply import marked

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
    names[exercise.explorer] = SimpleNamespace(**exercise.start or {})
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
        if exercise.start and isinstance(mistake[0], str):
            continue  # what sliders do: test_sliders.py finds settings that do it
        reply = exercise.check(exercise.mistaken(*mistake))
        assert (reply.status, reply.text) == ("not yet", sentence)


@every_exercise
def test_words_are_there(module, exercise):
    assert exercise.question and exercise.because
    assert len(exercise.hints) >= 2


@every_exercise
def test_sentences_are_distinct(module, exercise):
    sentences = [mistake[-1] for mistake in exercise.mistakes]
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
        (lambda x, scale: x / 2, "wanted [1.5, 0], got [0.5, 0]."),
        (lambda x, scale: None, "is a return missing?"),
        (lambda x, scale: (x / 2 * scale)[:, None], "wanted the shape (2,), got (2, 1)."),
        (lambda x, scale: x * np.nan, "wanted finite numbers, got [nan, nan]."),
        (lambda x, scale: x / 0, "wanted finite numbers"),
        (lambda x, scale: x @ np.ones(3), "it raised ValueError"),
        (lambda x, scale: x @ np.ones(3), "(line "),
        (lambda: 1, "must take (x, scale)"),
        (lambda x, scale: "text", "got 'text'"),
        (lambda x, scale: [1, [2]], "[1, [2]]"),
        (writes_into_argument, "writes into its argument"),
        (lambda x, scale: exit(), "it raised SystemExit"),
        (3, "Give the function itself"),
        (None, "Give the function itself"),
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
        (np.nan, "not yet", "one finite number"),
        (np.inf, "not yet", "one finite number"),
        ("twelve", "not yet", "one finite number; this is 'twelve'"),
        (np.ones(3), "not yet", "one finite number"),
        (None, "not yet", "one finite number"),
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
        ({"lr": 1.0}, "not yet", "keys 'lr', 'beta'"),
        (None, "not yet", "Give the explorer"),
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


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("what it *is*", "what it <em>is</em>"),
        ("use `a * b * c` < *here*", "use <code>a * b * c</code> &lt; <em>here</em>"),
        ("weight * (1 - lr * decay)", "weight * (1 - lr * decay)"),
        ("beta**step and 2*x*y", "beta**step and 2*x*y"),
        ("one ` alone", "one ` alone"),
    ],
)
def test_marks_become_html(text, html):
    assert marked(text) == html


# An answer of several parts.


def both(x, scale):
    return x * scale, x + scale


PARTS = Exercise(
    question="Multiply and add.",
    reference=both,
    cases=[(np.array([1.0, 2.0]), 3.0)],
    parts=("product", "sum"),
    hints=["First.", "Second."],
    mistakes=[("x + scale", "x - scale", "Subtracted."), ("x * scale", "x / scale", "Divided.")],
    because="Done.",
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, s: (x * s, x * s), "sum: wanted [4, 5], got [3, 6]."),
        (lambda x, s: (x * s + 1, x + s), "product: wanted [3, 6], got [4, 7]."),
        (lambda x, s: (x, x[:, None] + s), "sum: wanted the shape (2,), got (2, 1)."),
        (lambda x, s: (-x * s, x + s), "every entry is reversed in sign"),
        (lambda x, s: (2 * x * s, x + s), "every entry is 2 times that"),
        (lambda x, s: (None, x + s), "product: it is None: is a return missing?"),
        (lambda x, s: (x * s, x + s, 1), "wanted 2 values (product, sum), got 3."),
        (lambda x, s: (x + s, x * s), "in the wrong order: wanted (product, sum)."),
        (lambda x, s: x * s, "wanted"),
        (lambda x, s: (x * s, x - s), "Subtracted."),
        (lambda x, s: (x / s, x - s), "Divided."),
        (lambda x, s: (x * s + 1, x - s), "Subtracted."),
        (
            lambda x, s: x @ np.ones((3, 2)),
            "columns on its left as rows on its right; here they are 2 and 3",
        ),
    ],
)
def test_the_wrong_part_is_named_and_shapes_come_first(answer, said):
    assert said in PARTS.check(answer).text


def test_a_large_array_is_told_by_its_first_difference_and_its_shape():
    wanted = np.ones((20, 30))
    got = wanted.copy()
    got[3, 4:] = 2.0
    assert difference(wanted, got, 1e-6) == "at [3, 4] wanted 1, got 2."
    assert show(got) == "<array of shape (20, 30)>"
    assert "its transpose" in difference(wanted, got.T, 1e-6)


def test_an_answer_that_ignores_its_arguments_is_told_so():
    assert "the same for all inputs" in FUNCTION.check(lambda x, scale: np.array([1.0, 2.0])).text
    assert "same" not in FUNCTION.check(lambda x, scale: x).text


@pytest.mark.parametrize(
    ("text", "names", "mistakes"),
    [
        ("a => b\n  One\n  two.\n", {}, [("a", "b", "One two.")]),
        ("a =>\n  One.\nb => c\nd => e\n  Two.", {}, [("a", "", "One."), (*"bcde", "Two.")]),
        ("2 * n\n  One.", {"n": 3}, [(6, "One.")]),
        ("raise lr\n  One.", None, [("raise lr", "One.")]),
    ],
)
def test_mistakes_are_read_from_text(text, names, mistakes):
    assert list(read_mistakes(text, names)) == mistakes


@pytest.mark.parametrize("old", ["absent", "x"])
def test_an_edit_that_is_not_unique_is_refused(old):
    with pytest.raises(ValueError, match=old):
        PARTS.mistaken(old, "y")


# Answers in another form.

CHOICE = Exercise(
    question="Which line?",
    reference=2,
    observe=itself,
    choices=(1, 2, 3),
    hints=["First.", "Second."],
    mistakes=[(1, "Not the first."), (3, "Not the third.")],
    because="The second.",
)
WORDS = Exercise(
    question="And then?",
    reference={"walker": True, "ball": False},
    observe=itself,
    hints=["First.", "Second."],
    mistakes=[({"walker": False, "ball": True}, "Turned round."), ("x", "y")],
    because="So.",
)


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        (NUMBER, "12", "Counted."),
        (NUMBER, " 12.0 ", "Counted."),
        (CHOICE, 2.0, "The second."),
        (CHOICE, "2", "The second."),
        (CHOICE, 7, "Choose one of 1, 2, 3."),
        (CHOICE, "def", "Choose one of 1, 2, 3."),
        (CHOICE, 3, "Not the third."),
        (WORDS, {"walker": True, "ball": True}, "ball: True is not right."),
        (WORDS, {"walker": True}, "a dict with the keys 'walker', 'ball'"),
        (WORDS, [True, False], "a dict with the keys 'walker', 'ball'"),
        (NUMBER, half, "Give a value here, not a function."),
        (FUNCTION, half(1, 1), "Give the function itself"),
        (SLIDERS, 0.5, "Give the explorer, or a dict with the keys 'lr', 'beta'."),
    ],
)
def test_an_answer_in_another_form_is_taken_or_told(exercise, answer, said):
    assert said in exercise.check(answer).text


# Answers without end.


@pytest.fixture
def short_limit(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 0.2)


def loops(x, scale):
    while True:
        pass


def loops_and_catches(x, scale):
    while True:
        with suppress(Exception):
            loops(x, scale)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
@pytest.mark.parametrize("answer", [loops, loops_and_catches])
def test_an_endless_loop_ends_in_a_sentence(short_limit, answer):
    handler = signal.getsignal(signal.SIGALRM)
    assert "more than 0.2 seconds" in FUNCTION.check(answer).text
    assert signal.getsignal(signal.SIGALRM) is handler


def test_endless_printing_ends_in_a_sentence(capsys):
    def prints(x, scale):
        while True:
            print("still here")

    assert "printed over 10,000 characters" in FUNCTION.check(prints).text
    assert 9_000 < len(capsys.readouterr().out) <= 10_000


def test_what_an_answer_prints_is_shown(capsys):
    def prints(x, scale):
        print("x is", x)
        return half(x, scale)

    assert FUNCTION.check(prints).status == "correct"
    assert "x is [2. 4.]" in capsys.readouterr().out


@pytest.mark.parametrize("exercise", [FUNCTION, PARTS])
def test_twenty_million_numbers_end_in_a_sentence(exercise):
    reply = exercise.check(lambda x, scale: [1.0] * 20_000_000)
    assert "20,000,000 values" in repr(reply) or "got 20000000" in repr(reply)
    assert len(repr(reply)) < 400


def test_a_prediction_of_twenty_million_numbers_ends_in_a_sentence():
    assert len(repr(NUMBER.check([1.0] * 20_000_000))) < 200


def test_in_another_thread_an_answer_is_judged_without_a_time_limit():
    with ThreadPoolExecutor() as pool:
        assert pool.submit(FUNCTION.check, half).result().status == "correct"


# Every exercise, given what is surely wrong.

ODD = [0, None, "x", [], {}, -1e9, lambda *a: None, lambda *a: np.ones((50, 50)), lambda *a: a]


@every_exercise
def test_an_odd_answer_gets_a_short_reply(module, exercise):
    for reply in map(exercise.check, ODD):
        assert reply.status in {"not yet", "correct"}
        assert len(repr(reply)) < 600 and len(repr(reply).splitlines()) <= 6
        assert "could not be read" not in reply.text


@every_exercise
def test_every_choice_is_known(module, exercise):
    known = [exercise.reference, *(mistake[0] for mistake in exercise.mistakes)]
    assert all(choice in known for choice in exercise.choices)
