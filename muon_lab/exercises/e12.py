"""Exercises of notebook 12: each change to Muon's rule, in NumPy or as one number."""

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.orthogonalize import polar_factor


def heads_alone(direction, heads):
    rows, columns = direction.shape
    blocks = direction.reshape(heads, rows // heads, columns)
    return np.concatenate([polar_factor(block) for block in blocks])


_random = np.random.default_rng(12)
LOUD = _random.normal(size=(12, 3)) * np.repeat([5.0, 1.0, 1.0, 1.0], 3)[:, None]
BLOCKS = "direction.reshape(heads, rows // heads, columns)"

q1 = Exercise(
    question="Orthogonalize each head's rows alone; direction is (heads · d, columns).",
    reference=heads_alone,
    cases=[(LOUD, 4), (_random.normal(size=(6, 4)), 2), (_random.normal(size=(4, 7)), 2)],
    hints=[
        "A head owns rows // heads rows that lie next to each other.",
        "reshape(heads, rows // heads, columns) has one block per head.",
        "np.concatenate([polar_factor(block) for block in blocks])",
    ],
    mistakes=[
        (
            "np.concatenate([polar_factor(block) for block in blocks])",
            "polar_factor(direction)",
            "That is the whole matrix at once: the loud head decides for all.",
        ),
        (
            BLOCKS,
            "np.stack([direction[h::heads] for h in range(heads)])",
            "Those are every heads-th row: a head's rows lie next to each other.",
        ),
        (
            BLOCKS,
            "direction[None, : rows // heads]",
            "That is the first head only: the others' rows belong to the update as well.",
        ),
        (
            lambda direction, heads: np.concatenate(
                [block / np.linalg.norm(block) for block in np.split(direction, heads)]
            ),
            "Dividing a block by its norm keeps its weak directions weak: take its polar factor.",
        ),
        (
            lambda direction, heads: polar_factor(direction.reshape(heads, -1)).reshape(
                direction.shape
            ),
            "That makes one long row of each head: a head is a matrix, rows // heads by columns.",
        ),
    ],
    because="Each block now has singular values of 1, however loud its neighbours are.",
)


def even_rows(update, average, beta):
    squares = (update**2).mean(axis=1, keepdims=True)
    average = beta * average + (1 - beta) * squares
    rows = update / np.sqrt(average)
    return rows * np.linalg.norm(update) / np.linalg.norm(rows), average


SQUARES = "(update**2).mean(axis=1, keepdims=True)"
RESIZED = "rows * np.linalg.norm(update) / np.linalg.norm(rows)"

q2 = Exercise(
    question="NorMuon: divide each row by the root of its average square, and keep the norm.",
    reference=even_rows,
    parts=("update", "average"),
    cases=[
        (np.array([[3.0, 4.0], [0.6, 0.8], [1.0, 0.0]]), np.full((3, 1), 2.0), 0.95),
        (_random.normal(size=(5, 3)), np.arange(1.0, 6)[:, None], 0.5),
        (_random.normal(size=(2, 4)), np.array([[0.1], [4.0]]), 0.8),
    ],
    hints=[
        "The average is of shape (rows, 1): one number for each row.",
        "average = beta * average + (1 - beta) * squares, as Adam does with each number.",
        "Divide by np.sqrt(average); then give the result the update's own norm.",
    ],
    mistakes=[
        (
            SQUARES,
            "(update**2).mean(axis=0, keepdims=True)[:, :1] + 0 * average",
            "axis=0 runs down a column. A neuron is a row: axis=1.",
        ),
        ("np.sqrt(average)", "average", "average holds squares: divide by its root."),
        (
            "np.sqrt(average)",
            "np.sqrt(squares)",
            "That makes every row alike in every step: divide by the average's root, not today's.",
        ),
        (
            "beta * average + (1 - beta) * squares",
            "(1 - beta) * average + beta * squares",
            "beta is what remains of the old average; 1 - beta is the share of the new squares.",
        ),
        (RESIZED, "rows", "The norm has changed: give the rows the norm that update had."),
        (
            RESIZED,
            "rows / np.linalg.norm(rows)",
            "Its norm is 1 now. It should be the update's own: multiply by it.",
        ),
        (SQUARES, "(update**2).sum(axis=1, keepdims=True)", "A mean of squares, not their sum."),
    ],
    because="Adam's second moment, with one number per row; the learning rate carries over.",
)

q3 = Exercise(
    question="Which spectral norm can a weight not exceed for long, with update scale 2 and "
    "decay 0.1, whatever the learning rate?",
    formula="2 / 0.1",
    observe=itself,
    tolerance=0.01,
    hints=[
        "One step: the norm is at most (1 - lr · decay) · norm + lr · scale.",
        "Where does that stop growing? Set the new norm equal to the old.",
        "lr · decay · norm = lr · scale, and lr drops out.",
    ],
    mistakes=[
        (10.0, "1 / decay is for updates of scale 1. Here each step adds lr · 2."),
        (0.2, "scale · decay is upside down: more decay makes the bound smaller."),
        (5.0, "Divide by the decay once, and the scale belongs on top."),
        (0.05, "Upside down: decay pulls towards zero, so it divides."),
        (200.0, "One decay too many: scale / decay², where scale / decay is meant."),
    ],
    because="At scale / decay the pull lr · decay · norm equals the push lr · scale.",
)


def held_step(weight, update, lr):
    norm = np.linalg.norm(weight)
    moved = weight - lr * norm * update / np.linalg.norm(update)
    return moved * norm / np.linalg.norm(moved)


STEP = "lr * norm * update / np.linalg.norm(update)"
BACK = "moved * norm / np.linalg.norm(moved)"

q4 = Exercise(
    question="Move a weight by lr times its own norm along the update, then give it its norm back.",
    reference=held_step,
    cases=[
        (np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([[0.0, 1.0], [1.0, 0.0]]), 0.1),
        (_random.normal(size=(4, 3)), _random.normal(size=(4, 3)), 0.5),
        (7 * _random.normal(size=(2, 5)), polar_factor(_random.normal(size=(2, 5))), 0.02),
    ],
    hints=[
        "update / np.linalg.norm(update) has length 1; the step should be lr · norm long.",
        "Afterwards: moved / np.linalg.norm(moved) has length 1; give it length norm.",
    ],
    mistakes=[
        (BACK, "moved", "The norm has changed: divide by the new norm, multiply by the old."),
        (BACK, "moved / np.linalg.norm(moved)", "Its norm is 1 now: it should be as it was."),
        (STEP, "lr * update", "The step's length should be lr · norm, whatever the update's is."),
        (
            STEP,
            "lr * update / np.linalg.norm(update)",
            "That is lr long: it should be lr times the weight's norm.",
        ),
        (STEP, "lr * norm * update", "The update's own length must be divided out."),
        ("weight - ", "weight + ", "This walks uphill: subtract the update."),
    ],
    because="Only the direction of W changes, by about lr in radians per step.",
)


def whitened(gradient, power):
    values, left = np.linalg.eigh(gradient @ gradient.T)
    others, right = np.linalg.eigh(gradient.T @ gradient)
    before, after = (v * w**power @ v.T for v, w in ((left, values), (right, others)))
    return before @ gradient @ after


def is_polar(power):
    """Say by what power of the singular values a square gradient comes out, rounded."""
    gradient = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 4.0]])
    U, before, Vh = np.linalg.svd(gradient)
    got = np.diag(U.T @ whitened(gradient, float(power)) @ Vh.T)
    return float(np.round(np.polyfit(np.log(before), np.log(got), 1)[0], 6))


q5 = Exercise(
    question="For which power p is (G Gᵀ)^p G (Gᵀ G)^p the polar factor of G?",
    formula="-1 / 4",
    observe=is_polar,
    hints=[
        "With G = U Σ Vᵀ, what are G Gᵀ and Gᵀ G? Both have Σ² in the middle.",
        "So the product is U Σ^(2p) Σ Σ^(2p) Vᵀ.",
        "2p + 1 + 2p = 0.",
    ],
    mistakes=[
        (-1 / 2, "Both sides whiten: with -1/2 on each, Σ comes out as Σ⁻¹."),
        (-1.0, "That turns Σ into Σ⁻³: what was large becomes tiny."),
        (1 / 4, "The sign: that makes large singular values larger still, Σ²."),
        (-1 / 8, "Half of the way: Σ comes out as √Σ."),
        (0.0, "Power 0 does nothing: that is G itself."),
    ],
    because="4p + 1 = 0: half of the whitening on each side.",
)

q6 = Exercise(
    question="The width grows from 64 to 256. Under 0.2 · √max(rows, columns), by what must "
    "lr be multiplied so that a square update keeps its spectral norm?",
    formula="(64 / 256) ** 0.5",
    observe=itself,
    tolerance=0.01,
    hints=[
        "The spectral norm of a step is lr times the scale, since an orthogonal update has 1.",
        "The scale is 0.2 · √64 = 1.6, and then 0.2 · √256 = 3.2.",
    ],
    mistakes=[
        (2.0, "Upside down: the scale has grown, so lr must shrink."),
        (0.25, "The scale grows with the root of the width."),
        (1.0, "Under √(rows / columns) it would be 1; under 0.2 · √max the scale doubles."),
        (4.0, "Upside down, and the scale grows with the root of the width only."),
    ],
    because="The scale doubles, so half of lr makes the same step in the spectral norm.",
)
