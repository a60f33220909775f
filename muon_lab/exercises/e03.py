"""Exercises of notebook 03: matrices, their stretches, and the step that treats all alike."""

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.orthogonalize import polar_factor


def orthogonalize_column(column):
    return column / np.linalg.norm(column)


q1 = Exercise(
    question="A vector is a matrix with one column. Set its only singular value to 1.",
    reference=orthogonalize_column,
    cases=[(np.array([3.0, 4.0]),), (np.array([0.001, -0.002, 0.002]),)],
    hints=[
        "The singular value of a single column is its length.",
        "Divide the column by np.linalg.norm(column).",
    ],
    mistakes=[
        (np.sign, "That is Adam's habit: it makes every entry ±1 and turns the arrow."),
        (
            lambda column: column / np.abs(column).max(),
            "Now the largest entry is 1. The length, which is the stretch, is not.",
        ),
        (
            lambda column: column / (column @ column),
            "column @ column is the length squared: take its root.",
        ),
        (np.ones_like, "A column of ones points elsewhere: only the length may change."),
    ],
    because="One column has one stretch: orthogonalizing it can do no more than fix its length.",
)


def shape_of_circle(m11, m12, m21, m22):
    """Say what a 2 × 2 matrix makes of the unit circle."""
    matrix = np.array([[m11, m12], [m21, m22]])
    large, small = np.linalg.svd(matrix, compute_uv=False)
    if large < 0.5:
        return "hardly anything is left"
    if small > 0.05 * large:
        return "still round"
    return "flat, askew" if np.abs(matrix).min() >= 0.3 else "flat, along an axis"


q2 = Exercise(
    question="Press the circle flat: one stretch under a twentieth of the other, no entry near 0.",
    reference={"m11": 1.0, "m12": 0.5, "m21": 1.0, "m22": 0.5},
    start={"m11": 1.0, "m12": 0.8, "m21": 0.2, "m22": 0.9},
    observe=shape_of_circle,
    hints=[
        "Flat means that every input comes out along one line.",
        "Then one row of the matrix is a multiple of the other.",
        "Keep every entry at 0.3 or more in size: for instance both rows 1, 0.5.",
    ],
    mistakes=[
        (
            {"m11": 1.0, "m12": 0.8, "m21": -0.8, "m22": 1.0},
            "There is area left in the ellipse. Make the second row a multiple of the first.",
        ),
        (
            {"m11": 1.0, "m12": 0.0, "m21": 0.0, "m22": 0.0},
            "Flat, but along an axis, where Adam would see it too. Use all four entries.",
        ),
        (
            {"m11": 0.1, "m12": 0.1, "m21": 0.1, "m22": 0.1},
            "Both stretches have gone. One of them is to stay at 0.5 or more.",
        ),
    ],
    because="Four entries, none small, and yet one direction: no entry tells you so by itself.",
)


q3 = Exercise(
    question="Which rules give the same step when the inputs' axes are turned first?",
    reference={"sgd": True, "adam": False, "muon": True},
    observe=itself,
    hints=[
        "Turning the inputs by Q turns the gradient too: G becomes GQ.",
        "Is sign(GQ) the same as sign(G)Q? Try it on the 2 × 2 identity turned by 45 degrees.",
        "GQ = U S (VᵀQ) is an SVD again, with the same U and S.",
    ],
    mistakes=[
        (
            {"sgd": True, "adam": True, "muon": True},
            "Turn [1, 0] by 45 degrees: its signs become [1, 1], a longer arrow than before.",
        ),
        (
            {"sgd": True, "adam": False, "muon": False},
            "Adam is right. For Muon: turning moves V alone, and U and S stay as they are.",
        ),
        (
            {"sgd": False, "adam": False, "muon": True},
            "SGD's step is the gradient, so it turns exactly as the gradient does.",
        ),
        (
            {"sgd": False, "adam": True, "muon": False},
            "All three the wrong way round: Adam alone works axis by axis.",
        ),
    ],
    because="Adam rescales along the axes it was given. The other two never ask where they lie.",
)


def stable_rank(matrix):
    S = np.linalg.svd(matrix, compute_uv=False)
    return (S**2).sum() / S[0] ** 2


q4 = Exercise(
    question="Count directions by weight: the sum of squared stretches over the largest squared.",
    reference=stable_rank,
    cases=[(np.diag([2.0, 2.0, 1.0]),), (np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 1.0]]),)],
    hints=["S holds the stretches, largest first.", "Both the sum and the largest are squared."],
    mistakes=[
        (
            lambda matrix: (
                np.linalg.svd(matrix, compute_uv=False).sum() / np.linalg.norm(matrix, 2)
            ),
            "Those are the stretches themselves: small ones count for too much. Square them.",
        ),
        (
            lambda matrix: np.linalg.norm(matrix) / np.linalg.norm(matrix, 2),
            "You are one square away: this is the root of the stable rank.",
        ),
        (
            lambda matrix: np.linalg.matrix_rank(matrix),
            "The plain rank counts a direction of 1e-9 like one of 1: no weighing is done.",
        ),
        (
            lambda matrix: np.linalg.norm(matrix) ** 2,
            "Divide by the largest stretch squared, else the count grows with the units.",
        ),
    ],
    because="It is 1 for one direction, and n for n equal ones, whatever the matrix's size.",
)


def nearest_orthogonal(matrix):
    U, _, Vh = np.linalg.svd(matrix, full_matrices=False)
    return U @ Vh


def _transposed_once_more(matrix):
    U, _, Vh = np.linalg.svd(matrix, full_matrices=False)
    return U @ Vh.T


def _normalised_columns(matrix):
    return matrix / np.linalg.norm(matrix, axis=0)


q5 = Exercise(
    question="Write the polar factor: keep both rotations, set every stretch to 1.",
    reference=nearest_orthogonal,
    cases=[
        (np.array([[2.0, 1.0], [0.0, 1.0]]),),
        (np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]]),),
    ],
    hints=[
        "The matrix itself is U @ np.diag(S) @ Vh.",
        "With every stretch 1, np.diag(S) is the identity and falls out.",
    ],
    mistakes=[
        (
            _transposed_once_more,
            "NumPy returns V already transposed: that is what the h in Vh says.",
        ),
        (
            lambda matrix: np.array(matrix),
            "U @ np.diag(S) @ Vh is the matrix you came with: the stretches are still in it.",
        ),
        (
            lambda matrix: matrix / np.linalg.norm(matrix, 2),
            "Now the largest stretch is 1. The others shrank with it.",
        ),
        (
            _normalised_columns,
            "Every column has length 1, but the columns do not stand at right angles.",
        ),
    ],
    because="U Vᵀ turns as the matrix does, and stretches nothing.",
)

_GRADIENT = np.random.default_rng(3).normal(size=(6, 4)) @ np.diag([4.0, 2.0, 1.0, 0.5])
_U, _S, _VH = np.linalg.svd(_GRADIENT, full_matrices=False)
DIRECTIONS = {
    "gradient": _GRADIENT / _S[0],
    "sign": np.sign(_GRADIENT) / np.linalg.norm(np.sign(_GRADIENT), 2),
    "first direction": np.outer(_U[:, 0], _VH[0]),
    "polar factor": polar_factor(_GRADIENT),
}


def gain(direction):
    return float((_GRADIENT * DIRECTIONS[direction]).sum())


q6 = Exercise(
    question="All four stretch nothing by more than 1. Which one lowers the loss most?",
    reference="polar factor",
    observe=gain,
    hints=[
        "The loss falls by the sum of the products of G's and the step's entries.",
        "In G's own directions that sum is Σ σᵢ dᵢ, where every dᵢ is at most 1.",
    ],
    mistakes=[
        (
            "gradient",
            "Under this cap the gradient uses its whole allowance in one direction only.",
        ),
        ("sign", "Signs are the steepest step if every entry is capped, not the stretch."),
        ("first direction", "That earns σ₁, and leaves what the other directions offer."),
    ],
    because="Each direction may use the whole allowance, so use it: Σ σᵢ · 1, the nuclear norm.",
)


def newton_schulz_flops(m, n, steps):
    small, large = min(m, n), max(m, n)
    return steps * (4 * small**2 * large + 2 * small**3)


q7 = Exercise(
    question="Count the floating-point operations of Newton-Schulz on an (m, n) matrix.",
    reference=newton_schulz_flops,
    cases=[(64, 64, 5), (64, 256, 5), (256, 64, 1)],
    hints=[
        "(p, q) times (q, r) costs 2pqr: a multiplication and an addition each time.",
        "A step has three products: X Xᵀ, A A, and (bA + cA²) X. Leave out the cheap sums.",
        "X is (small, large), A is (small, small).",
    ],
    mistakes=[
        (
            lambda m, n, steps: steps * (2 * min(m, n) ** 2 * max(m, n) + min(m, n) ** 3),
            "You count multiplications alone; every one comes with an addition.",
        ),
        (
            lambda m, n, steps: steps * 4 * min(m, n) ** 2 * max(m, n),
            "One product is missing: A A, small but there.",
        ),
        (
            lambda m, n, steps: steps * (4 * m * m * n + 2 * m**3),
            "A tall matrix is worked on as its transpose: use small and large, not m and n.",
        ),
        (
            lambda m, n, steps: 4 * min(m, n) ** 2 * max(m, n) + 2 * min(m, n) ** 3,
            "That is one step.",
        ),
    ],
    because="4·small²·large for the two wide products and 2·small³ for A A, at every step.",
)
