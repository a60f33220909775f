"""Replies to slider settings: none claims what the numbers contradict, and none is missing."""

import json
import re
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from muon_lab.descent import descend, momentum, rmsprop
from muon_lab.exercises import e01, e02, e03, e04, exercise
from muon_lab.polynomials import band, score
from muon_lab.problems import cliff, valley

LRS = (0.005, 0.04, 0.3, 2.0)
BETAS = (0.0, 0.3, 0.6, 0.9, 0.99)
# a, b, c: the numbers that were once told something false, and others all over the sliders.
TRIPLES = [
    *[(1.875, -1.25, 0.375), (2.0, -1.5, 0.5), (2.5, -2.5, 1.0), (2.6, -2.6, 1.0)],
    *[(2.62, -3.09, 1.5), (2.62, -3.09, 1.4), (3.3, -4.5, 2.0), (3.44, -4.77, 2.2)],
    *[(3.4445, -4.775, 2.5), (3.4445, -4.775, 1.5), (3.44, -1.25, 0.375), (3.44, -26.0, -6.0)],
    *[(3.5, -7.5, 4.0), (3.45, 6.0, 20.0), (3.8, -4.775, 2.0315), (5.0, -6.0, 2.0)],
    *[(2.62, -5.0, 3.0), (2.62, -1.0, 0.0), (3.44, -4.77, 1.8), (0.0, 0.0, 0.0)],
]


def label_of(task, settings):
    """Return what settings do, in the label of the sentence that they earn."""
    reply = task.check(settings)
    labels = {sentence: label for label, sentence in task.mistakes}
    return "solved" if reply.status == "correct" else labels[reply.text]


@pytest.fixture(scope="module", params=["e01.q6", "e02.q2"])
def descents(request):
    """Return an exercise, its test of arrival, its path, and what a grid of settings does."""
    if request.param == "e01.q6":
        task, arrives, rule, problem, steps = (
            e01.q6,
            e01.rolls_to_the_star,
            momentum,
            valley(25),
            25,
        )
    else:
        task, arrives, rule, problem, steps = e02.q2, e02.reaches_the_floor, rmsprop, cliff(), 100

    def path(lr, beta):
        return descend(problem, partial(rule, lr=lr, beta=beta), steps).points

    grid = [*product(LRS, BETAS), (1, 0.9), (0.5, 0.9), (0.2, 0.99), tuple(task.reference.values())]
    with np.errstate(all="ignore"):
        labels = {(lr, beta): label_of(task, {"lr1": lr, "beta1": beta}) for lr, beta in grid}
    return task, arrives, path, labels


def test_every_reply_of_a_descent_is_reached(descents):
    task, _, _, labels = descents
    assert set(labels.values()) == {"solved", *(label for label, _ in task.mistakes)}


def test_where_another_lr_is_advised_one_in_that_direction_arrives(descents):
    _, arrives, _, labels = descents
    for (lr, beta), label in labels.items():
        if label.endswith("lr"):
            others = np.geomspace(0.02, 1, 800)
            others = others[(others > lr) == (label == "raise lr")]
            others = others if label == "raise lr" else others[::-1]  # the nearest first
            assert any(arrives(other, beta) for other in others)


def test_where_another_beta_is_advised_hardly_any_lr_arrives_and_another_beta_does(descents):
    _, arrives, _, labels = descents
    for beta, label in {
        beta: label for (_, beta), label in labels.items() if label[-1] == "β"
    }.items():
        others = [b for b in BETAS if (b < beta if label == "lower β" else b > beta)]
        assert any(arrives(lr, other) for lr in np.geomspace(0.03, 0.9, 40) for other in others)
        assert sum(arrives(lr, beta) for lr in np.geomspace(0.03, 0.9, 100)) <= 2


def test_where_a_smaller_lr_is_advised_the_path_swings(descents):
    _, _, path, labels = descents
    for (lr, beta), label in labels.items():
        if label == "lower lr":
            with np.errstate(all="ignore"):
                turns = np.diff(np.sign(np.diff(path(lr, beta), axis=0)), axis=0)
            assert (turns != 0).sum(axis=0).max() >= 3


def test_settings_that_hover_are_not_told_to_raise_lr(descents):
    task, _, _, labels = descents
    if task is e02.q2:
        assert "raise lr" not in (labels[1, 0.9], labels[0.5, 0.9], labels[0.2, 0.99])


def test_each_reply_to_a_circle_is_true_of_its_matrix():
    labels = set()
    for entries in product((-1.5, -0.5, 0.0, 0.02, 0.2, 0.4, 1.0), repeat=4):
        label = label_of(e03.q2, dict(zip(("m11", "m12", "m21", "m22"), entries, strict=True)))
        matrix = np.reshape(np.abs(entries), (2, 2))
        large, small = np.linalg.svd(np.reshape(entries, (2, 2)), compute_uv=False)
        empty = min(matrix.max(axis=0).min(), matrix.max(axis=1).min()) < 0.05
        assert (label == "still round") == (small > 0.05 * large)
        assert label != "along an axis" or empty
        assert label != "a small entry" or (matrix.min() < 0.3 and not empty)
        labels.add(label)
    assert labels == {"solved", *(label for label, _ in e03.q2.mistakes)}


def bands_are_met(triple):
    low, high = band(triple, 5)
    return triple[0] ** 5 >= 400 and low >= 0.65 and high <= 1.35


POLYNOMIALS = {
    "e04.q3": (e04.q3, bands_are_met),
    "e04.q6": (e04.q6, lambda triple: score(triple, power=1.0) <= 0.05),
    "e04.q10": (e04.q10, lambda triple: score(triple) < score("jordan")),
}


@pytest.fixture(scope="module", params=POLYNOMIALS)
def polynomials(request):
    """Return an exercise, a test of a solution, and what many triples do."""
    task, solves = POLYNOMIALS[request.param]
    triples = [*TRIPLES, tuple(task.reference[name] for name in "abc")]
    with np.errstate(all="ignore"):
        labels = {triple: label_of(task, e04.sliders(*triple)) for triple in triples}
    return task, solves, labels


def test_every_reply_of_a_polynomial_is_reached(polynomials):
    task, _, labels = polynomials
    table = label_of(task, e04.sliders(*TRIPLES[0], schedule="you"))
    assert {table, *labels.values()} == {"solved", *(label for label, _ in task.mistakes)}


def test_each_direction_that_is_advised_leads_to_a_solution(polynomials):
    """c alone solves it; or b and c at this a; or the known solution's a lies there."""
    task, solves, labels = polynomials
    for (a, b, c), label in labels.items():
        up = label.startswith("raise")
        with np.errstate(all="ignore"):
            if label.endswith(" a"):
                assert (task.reference["a"] > a) == up
                assert task is not e04.q3 or up == (a**5 < 400)
            elif label.endswith(" b"):
                bs = [other for other in np.arange(-8, 0, 0.03) if (other > b) == up]
                bs.sort(key=lambda other: abs(other - b))
                near = (
                    (x, y) for x in bs for y in np.arange(0, 6, 0.02) if abs(a + x + y - 0.9) < 0.5
                )
                assert any(solves((a, x, y)) for x, y in near)
            elif label.endswith(" c"):
                cs = [other for other in np.arange(-6, 20, 0.01) if (other > c) == up]
                cs.sort(key=lambda other: abs(other - c))
                assert any(solves((a, b, other)) for other in cs[:600])


def test_no_slider_exercise_is_left_out():
    modules = (e01, e02, e03, e04)
    found = [v for m in modules for v in vars(m).values() if isinstance(v, exercise.Exercise)]
    sliders = {task.name for task in found if task.start}
    assert sliders == {"e01.q6", "e02.q2", "e03.q2", *POLYNOMIALS}


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb")), ids=lambda path: path.stem
)
def test_no_two_explorers_of_a_notebook_share_a_name(path):
    """After Run All, a check would read the sliders of the last of them."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    names = re.findall(r"^(\w+) = \w+Explorer\(", source, re.M)
    assert len(names) == len(set(names))
