"""Exercises of notebook 03: matrices, their stretches, and the step that treats all alike."""

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself


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
    mistakes="""
        np.sign
            That is Adam's habit: it makes every entry ±1 and turns the arrow.
        np.linalg.norm(column) => np.abs(column).max()
            Now the largest entry is 1. The length, which is the stretch, is not.
        np.linalg.norm(column) => np.sum(np.abs(column))
            Now the sizes of the entries add up to 1. The length is the root of their squares.
        np.linalg.norm(column) => (column @ column)
            column @ column is the length squared: take its root.
        np.linalg.norm(column) => np.sum(column)
            Now the entries add up to 1. The length is the root of the sum of their squares.
        np.linalg.norm
            That is the length itself. Divide the column by it.
        np.ones_like
            A column of ones points elsewhere: only the length may change.
    """,
    because="One column has one stretch: orthogonalizing it can do no more than fix its length.",
)


def shape_of_circle(m11, m12, m21, m22):
    """Say what a 2 × 2 matrix makes of the unit circle."""
    matrix = np.abs([[m11, m12], [m21, m22]])
    large, small = np.linalg.svd([[m11, m12], [m21, m22]], compute_uv=False)
    if small > 0.05 * large:
        return "still round"
    if min(matrix.max(axis=0).min(), matrix.max(axis=1).min()) < 0.05:
        return "along an axis"
    return "flat, askew" if matrix.min() >= 0.3 else "a small entry"


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
    mistakes="""
        still round
            The short axis is still over a twentieth of the long one. Bring the second row nearer
            to a multiple of the first.
        along an axis
            Flat, but a whole row or column is about 0, and Adam would see that too. Use all four
            entries.
        a small entry
            Flat, and askew. Now do it with every entry at 0.3 or more in size: multiply the rows
            or columns that hold a smaller one.
    """,
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
    mistakes="""
        {"sgd": True, "adam": True, "muon": True}
            Not Adam. Turn [1, 0] by 45 degrees: its signs become [1, 1], a longer arrow.
        {"sgd": True, "adam": False, "muon": False}
            Adam is right. For Muon: turning changes V alone, and U and S stay as they are.
        {"sgd": False, "adam": False, "muon": True}
            SGD's step is the gradient, so it turns exactly as the gradient does.
        {"sgd": False, "adam": False, "muon": False}
            Adam's is not, but two are: what do SGD and Muon do with an axis?
        {"sgd": False, "adam": True, "muon": True}
            Muon is right; the other two are not. What does Adam's sign do to [1, 0] turned by 45°?
        {"sgd": True, "adam": True, "muon": False}
            SGD is right; the other two are not. What does Adam's sign do to [1, 0] turned by 45°?
        {"sgd": False, "adam": True, "muon": False}
            All three the wrong way round: Adam alone works axis by axis.
    """,
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
    mistakes="""
        (S**2).sum() / S[0] ** 2 => S.sum() / S[0]
            Those are the stretches themselves: small ones count for too much. Square them.
        (S**2).sum() / S[0] ** 2 => S.sum() ** 2 / S[0] ** 2
            Square each stretch before adding: the sum was squared instead.
        (S**2).sum() / S[0] ** 2 => S[0] ** 2 / (S**2).sum()
            Upside down: the sum stands above, so that equal stretches count one each.
        S[0] ** 2 => S[0]
            The largest stretch below the line is to be squared too.
        (S**2).sum() / S[0] ** 2 => np.sqrt((S**2).sum()) / S[0]
            You are one square away: this is the root of the stable rank.
        S[0] => S[-1]
            NumPy gives the largest stretch first: S[0]. The last is the smallest.
        (S**2).sum() / S[0] ** 2 => S.sum() ** 2 / (S**2).sum()
            That is another way to count. Here: the sum of squares over the largest square.
        (S**2).sum() / S[0] ** 2 => S**2 / S[0] ** 2
            Those are the shares, one per direction. Add them up.
        (S**2).sum() / S[0] ** 2 => np.linalg.matrix_rank(matrix)
            The plain rank counts a direction of 1e-9 like one of 1: it weighs nothing.
        / S[0] ** 2 =>
            Divide by the largest stretch squared; otherwise the count grows with the units.
    """,
    because="It is 1 for one direction, and n for n equal ones, whatever the matrix's size.",
)


def nearest_orthogonal(matrix):
    U, _, Vh = np.linalg.svd(matrix, full_matrices=False)
    return U @ Vh


q5 = Exercise(
    question="Write the polar factor: keep both rotations, set every stretch to 1.",
    reference=nearest_orthogonal,
    cases=[
        (np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 3.0]]),),  # plane turns commute
        (np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]]),),
    ],
    hints=[
        "The matrix itself is U @ np.diag(S) @ Vh.",
        "With every stretch 1, np.diag(S) is the identity and falls out.",
    ],
    mistakes="""
        U @ Vh => U @ Vh.T
            NumPy returns V already transposed: that is what the h in Vh says.
        U @ Vh => Vh @ U
            The matrix is U Σ Vᵀ, so U stands on the left.
        U @ Vh => U * Vh
            `*` multiplies entry by entry. The matrix product is `@`.
        U @ Vh => U
            That is one of the two rotations; the other is Vh.
        U @ Vh => (U @ Vh).T
            That is its transpose, which turns the other way.
        U @ Vh => matrix
            U @ np.diag(S) @ Vh is the matrix you came with: the stretches are still in it.
        U @ Vh => matrix / np.linalg.norm(matrix, 2)
            Now the largest stretch is 1. The others shrank with it.
        U @ Vh => matrix / np.linalg.norm(matrix)
            All stretches were divided by one number: they are as unequal as before.
        U @ Vh => matrix / np.linalg.norm(matrix, axis=0)
            Every column has length 1, but the columns do not stand at right angles.
    """,
    because="U Vᵀ turns as the matrix does, and stretches nothing.",
)

q6 = Exercise(
    question="All four stretch nothing by more than 1. Which one lowers the loss most?",
    reference="polar factor",
    observe=itself,
    choices=("gradient", "sign", "first direction", "polar factor"),
    hints=[
        "The loss falls by the sum of the products of G's and the step's entries.",
        "In G's own directions that sum is Σ σᵢ dᵢ, where every dᵢ is at most 1.",
    ],
    mistakes="""
        "gradient"
            Under this cap the gradient uses its whole allowance in one direction only.
        "sign"
            Signs are the steepest step if every entry is capped, not the stretch.
        "first direction"
            That earns σ₁, and leaves what the other directions offer.
    """,
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
    mistakes="""
        (4 * small**2 * large + 2 * small**3) => (2 * small**2 * large + small**3)
            You count multiplications alone; every one comes with an addition.
        4 * small**2 * large + 2 * small**3 => 6 * small**2 * large
            Not all three are wide: A A is (small, small) times (small, small).
        + 2 * small**3 =>
            One product is missing: A A, small but there.
        4 * small**2 * large => 2 * small**2 * large
            Two of the three products are wide: X Xᵀ, and the last one, times X.
        min(m, n), max(m, n) => max(m, n), min(m, n)
            X is (small, large), so X Xᵀ and A A are (small, small): small and large have changed
            places.
        min(m, n), max(m, n) => m, n
            A tall matrix is worked on as its transpose: use small and large, not m and n.
        steps * =>
            That is one step; there are `steps` of them.
    """,
    because="4·small²·large for the two wide products and 2·small³ for A A, at every step.",
)
