"""Exercises of notebook 04: polynomials that push singular values to 1, and a score for them."""

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.polynomials import (
    CONVERGENT,
    JORDAN,
    SCHEDULES,
    apply_schedule,
    band,
    fading,
    score,
    slope_at_zero,
)

MARKS = {name: score(name) for name in ("cubic", "taylor", "convergent", "jordan")}


def one_step(X, a, b, c):
    A = X @ X.T
    return a * X + (b * A + c * A @ A) @ X


q1 = Exercise(
    question="Apply aσ + bσ³ + cσ⁵ to the singular values of X with matrix products alone.",
    reference=one_step,
    cases=[
        (np.array([[0.6, 0.2, 0.0], [0.1, -0.4, 0.3]]), 3.4445, -4.775, 2.0315),
        (np.array([[0.5, 0.1], [-0.3, 0.7]]), 1.5, -0.5, 0.25),
    ],
    hints=[
        "With X = U S Vᵀ, A is U S² Uᵀ. What is A X, and what is A A X?",
        "A X = U S³ Vᵀ and A A X = U S⁵ Vᵀ.",
    ],
    mistakes=[
        (
            lambda X, a, b, c: a * X + b * X**3 + c * X**5,
            "X**3 cubes each entry by itself. The singular values are cubed by X Xᵀ X.",
        ),
        (
            lambda X, a, b, c: a * X + (b * X @ X.T + c * (X @ X.T) ** 2) @ X,
            "A**2 squares each entry of A. The matrix product is A @ A.",
        ),
        (
            lambda X, a, b, c: a * X + b * X @ X.T + c * X @ X.T @ X @ X.T,
            "A and A A are even powers and (m, m). Multiply by X to come back to odd ones.",
        ),
    ],
    because="A X cubes the singular values, A A X takes their fifth power, U and V stay.",
)


def at_one(pair):
    """Return p(1) and p'(1) of p(x) = a·x + b·x³."""
    a, b = pair
    return float(a + b), float(a + 3 * b)


q2 = Exercise(
    question="Find the cubic a·x + b·x³ that leaves 1 where it is, with slope 0 there.",
    reference=(1.5, -0.5),
    observe=at_one,
    hints=[
        "Two conditions, two unknowns: p(1) = a + b = 1, and p'(1) = a + 3b = 0.",
        "Subtract them: 2b = -1.",
    ],
    mistakes=[
        ((3.0, -1.0), "The slope at 1 is 0, but 1 is sent to 2."),
        ((2.0, -1.0), "1 stays, but the slope there is -1: a small error never shrinks."),
    ],
    because="Slope 0 at a fixed point: an error ε becomes about -1.5 ε², so digits double.",
)


def sliders(a, b, c, schedule="custom", steps=5):
    """Give what the polynomial explorer is set to."""
    return {"schedule": schedule, "a": a, "b": b, "c": c, "steps": steps}


def is_one_triple_five_times(schedule, steps):
    """Tell whether the explorer's own numbers are those of five steps of its a, b and c."""
    return steps == 5 and (schedule == "custom" or len(SCHEDULES[schedule].coefficients) == 1)


def trade(schedule, a, b, c, steps):
    """Say which half of Jordan's trade five steps of (a, b, c) miss, if any."""
    if not is_one_triple_five_times(schedule, steps):
        return "another task"
    low, high = band((a, b, c), 5)
    if not high < 10:
        return "diverges"
    if slope_at_zero((a, b, c), 5) < 400:
        return "slow at zero"
    return "fast and in the band" if low >= 0.65 and high <= 1.35 else "outside the band"


q3 = Exercise(
    question="Slope at zero of at least 400 in five steps, σ from 0.01 to 1 inside [0.65, 1.35].",
    reference=sliders(3.44, -4.77, 2.03),
    start=sliders(15 / 8, -10 / 8, 3 / 8, "taylor"),
    observe=trade,
    hints=[
        "The slope at zero is a⁵. Which a gives 400?",
        "a is at least 3.32. Now lower b until nothing rises above 1.35, then mend with c.",
    ],
    mistakes=[
        (
            sliders(2.0, -1.5, 0.5),
            "It settles beautifully and rises slowly: 2⁵ is 32. Raise a.",
        ),
        (
            sliders(3.44, -1.25, 0.375),
            "A value shot past the last fixed point and escaped. Lower b to hold it.",
        ),
        (
            sliders(3.44, -5.6, 2.6),
            "Fast enough, but the values spread too wide. Move b and c by little.",
        ),
        (
            sliders(15 / 8, -10 / 8, 3 / 8, "taylor", steps=20),
            "Asked are five steps of one triple: set the steps to 5, and choose no table.",
        ),
    ],
    because="Give up settling at 1, and a may be 3.44 and not 1.875: that was Jordan's idea.",
)

q4 = Exercise(
    question="Where does one step of Jordan's polynomial send a singular value of 1?",
    formula="3.4445 - 4.7750 + 2.0315",
    observe=itself,
    tolerance=1e-3,
    hints=["p(1) needs no calculator with powers: 1³ = 1⁵ = 1.", "a + b + c."],
    mistakes=[
        (1.0, "That is what most texts say. Add the three coefficients."),
        (0.868, "That is the point that stays where it is. 1 is not that point."),
        (10.251, "b is negative."),
    ],
    because="p(1) = a + b + c = 0.701: a perfect value is pushed away.",
)

q5 = Exercise(
    question="Five Jordan steps leave σ in [0.68, 1.13]. What do fifty leave?",
    reference="the same",
    observe=itself,
    hints=[
        "What happens to an error next to a fixed point with slope -1.58?",
        "It grows, until the curve bends it back: the values wander between two walls.",
    ],
    mistakes=[
        (
            "narrower",
            "More steps help only if a fixed point attracts: a slope between -1 and 1.",
        ),
        ("wider", "Nothing escapes either: the curve's top is at 1.13 and folds all back."),
    ],
    because="The fixed point repels and the hill folds back, so the values wander for ever.",
)


def landing(schedule, a, b, c, steps):
    """Say how 64 values, the i-th 1/i of the first, lie after five steps."""
    if not is_one_triple_five_times(schedule, steps):
        return "another task"
    after = apply_schedule(fading(1.0), (a, b, c), 5)
    missed = np.abs(after - 1)
    if not missed.max() < 10:
        return "diverges"
    if missed.max() <= 0.05:
        return "all within 0.05"
    return "small ones left behind" if after[-1] < 0.8 else "scattered"


q6 = Exercise(
    question="Make all 64 values of fading() land within 0.05 of 1 in five steps.",
    reference=sliders(2.62, -3.09, 1.47),
    start=sliders(15 / 8, -10 / 8, 3 / 8, "taylor"),
    observe=landing,
    hints=[
        "Keep a + b + c = 1, so that 1 stays where it is.",
        "The smallest value is 0.012. Five steps multiply it by a⁵: how large must a be?",
        "Take a = 2.6, b = -2.6, c = 1. Then lower b in steps of 0.05 and raise c by as much.",
    ],
    mistakes=[
        (
            sliders(2.0, -1.5, 0.5),
            "The small ones are left behind. Only a lifts them: a⁵ is the slope at zero.",
        ),
        (
            sliders(*JORDAN, "jordan"),
            "All have risen, but they lie scattered. Come down with a, and keep a + b + c near 1.",
        ),
        (
            sliders(4.0, -1.25, 0.375),
            "It diverges: with a this large, b must be far lower.",
        ),
        (
            sliders(15 / 8, -10 / 8, 3 / 8, "taylor", steps=15),
            "Patience is one way, but do it with one triple (no table) and the steps at 5.",
        ),
    ],
    because="a⁵ ≈ 120 lifts 0.012 past 1, and b and c bend the curve flat where values arrive.",
)

WIDE = 0.5 * np.eye(8) + 0.5  # one stretch of 4.5, seven of 0.5; no entry above 1
LARGE = 300.0 * np.eye(4)
ROWS = np.array([6 * [1.0, -1.0], 3 * [1.0, 1.0, -1.0, -1.0]])  # sums 0, two stretches of √12


def fate(orthogonalize, matrix):
    """Say what five Jordan steps made of a matrix whose norm the learner chose."""
    after = np.asarray(orthogonalize(matrix))
    if not np.isfinite(after).all() or np.abs(after).max() > 100:
        return "diverged"
    S = np.linalg.svd(after, compute_uv=False)
    return "near 1" if S.min() > 0.65 and S.max() < 1.25 else "still small"


def orthogonalize(X):
    a, b, c = 3.4445, -4.7750, 2.0315
    X = X / np.linalg.norm(X)
    for _ in range(5):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


def _with_norm(norm):
    def answer(X):
        X = X / norm(X)
        for _ in range(5):
            A = X @ X.T
            X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
        return X

    return answer


q7 = Exercise(
    question="This one blows up on some matrices. Divide by a number that keeps every σ below 1.",
    reference=orthogonalize,
    observe=fate,
    cases=[(WIDE,), (LARGE,), (np.diag(fading(1.0, 16)),), (ROWS,), (ROWS.T,)],
    hints=[
        "A matrix of ones has no entry above 1. What is its largest stretch?",
        "The sum of all σ² is the sum of all squared entries. So which number is above every σ?",
    ],
    mistakes=[
        (
            _with_norm(lambda X: np.abs(X).max()),
            "That is the number that stood there: small entries in step make a large stretch.",
        ),
        (
            _with_norm(lambda X: 1.0),
            "Without a division every matrix with a stretch above 1.26 escapes.",
        ),
    ],
    because="‖X‖_F² = Σ σᵢ², so no σ exceeds the Frobenius norm, and it costs no SVD.",
)


def equal_errors(points):
    system = np.stack([points, points**3, points**5, [1, -1, 1, -1]], axis=1)
    return np.linalg.solve(system, np.ones(4))


def _solved(powers, signs):
    def answer(points):
        columns = [points**power for power in powers]
        return np.linalg.solve(np.stack([*columns, signs], axis=1), np.ones(4))

    return answer


def solved(answer, points):
    """Return a, b, c and the size of E; which sign comes first is the learner's choice."""
    a, b, c, error = answer(points)
    return a, b, c, abs(error)


q8 = Exercise(
    question="Find a, b, c, E such that p(x) misses 1 by E, -E, E, -E at four points in turn.",
    reference=equal_errors,
    observe=solved,
    cases=[(np.array([0.1, 0.4, 0.7, 1.0]),), (np.array([0.2, 0.35, 0.8, 1.1]),)],
    hints=[
        "One row a point: a·x + b·x³ + c·x⁵ + (±1)·E = 1.",
        "The columns are the factors of a, b, c and E. The last is [1, -1, 1, -1].",
    ],
    mistakes=[
        (
            _solved((1, 3, 5), [1, 1, 1, 1]),
            "The errors must take turns: with +E at all four points none is above 1.",
        ),
        (
            _solved((1, 2, 3), [1, -1, 1, -1]),
            "Powers 1, 2, 3: matrix products give odd powers only, 1, 3, 5.",
        ),
    ],
    because="Four equations, four unknowns. Remez then moves the points to where p turns.",
)

q9 = Exercise(
    question="What is the next number above 1 in bfloat16, less 1?",
    formula="2**-7",
    observe=itself,
    tolerance=1e-3,
    hints=[
        "bfloat16 is the upper half of a float32: 1 sign, 8 exponent and 7 fraction bits.",
        "The smallest step of 7 fraction bits, at 1, is 2 to the power -7.",
    ],
    mistakes=[
        (2.0**-8, "That is the gap just below 1, where numbers lie twice as dense."),
        (2.0**-10, "That is float16, which has ten fraction bits and a small range."),
    ],
    because="7 fraction bits: 1, then 1.0078125. Errors below half of that are invisible.",
)


def challenge(schedule, a, b, c, steps):
    """Say what stands between a triple and the best published single one."""
    if not is_one_triple_five_times(schedule, steps):
        return "another task"
    after = apply_schedule(fading(1.5), (a, b, c), 5)
    reached = score((a, b, c))
    if not reached < 10:
        return "diverges"
    if reached < MARKS["jordan"]:
        return "beats every published triple"
    return "small ones left behind" if 1 - after[-1] > 0.95 * reached else "scattered"


q10 = Exercise(
    question="Beat every published single triple on fading(1.5): five steps, the worst counts.",
    reference=sliders(3.45, -4.73, 2.07),
    start=sliders(*JORDAN, "jordan"),
    observe=challenge,
    hints=[
        "Jordan's worst value lies at 0.68. On the other side, at 1.13, there is room.",
        "Lift the whole hill a little: a bit more of c, or a bit less of -b.",
        "From Jordan's triple, try b = -4.75.",
    ],
    mistakes=[
        (
            sliders(*CONVERGENT, "convergent"),
            "The smallest is 0.0018, and 2⁵ lifts it to 0.06 only: a must be above 3.",
        ),
        (
            sliders(3.8, -4.775, 2.0315),
            "It diverges. More a asks for a lower b, else the hill's top lies past the edge.",
        ),
        (
            sliders(3.4445, -5.2, 2.3),
            "The hill is too low now: values that had arrived are thrown back down.",
        ),
        (
            sliders(*SCHEDULES["you"].coefficients[-1], "you"),
            "The rules are one triple, used five times: no table, and the steps at 5.",
        ),
    ],
    because="Both sides of the band should be equally far from 1. Best known: 0.210.",
)
