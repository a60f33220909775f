"""Exercises of notebook 04: polynomials that push singular values to 1, and a score for them."""

import sys
from functools import partial

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.polynomials import JORDAN, SCHEDULES, evaluate, fading, score

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
    mistakes="""
        (b * A + c * A @ A) @ X => b * X**3 + c * X**5
            X**3 cubes each entry by itself. The singular values are cubed by X Xᵀ X.
        A @ A => A**2
            A**2 squares each entry of A. The matrix product is A @ A.
        (b * A + c * A @ A) @ X => b * A + c * A @ A
            A and A A are even powers and (m, m). Multiply by X to come back to odd ones.
        (b * A + c * A @ A) @ X => X @ (b * A + c * A @ A)
            A is (m, m) and X is (m, n): A stands to the left of X.
        c * A @ A => c * A
            The last term needs five factors of X: A A X. One A gives three.
        A @ A) @ X => A @ A) @ X.T
            A Xᵀ does not fit where X is not square, and turns it over where it is: end with X.
        c * A @ A => c * A @ A @ A
            A A A X has seven factors of X. The last term needs five: A A X.
        + c * A @ A =>
            The fifth power is missing: c A A X.
        A @ A) @ X => A @ A) * X
            `*` multiplies entry by entry. The matrix product is `@`.
    """,
    because="A X cubes the singular values, A A X takes their fifth power, U and V stay.",
)


def at_one(pair):
    """Return p(1) and p'(1) of p(x) = a·x + b·x³."""
    a, b = map(float, pair)
    return a + b, a + 3 * b


q2 = Exercise(
    question="Find the cubic a·x + b·x³ that leaves 1 where it is, with slope 0 there.",
    reference=(1.5, -0.5),
    observe=at_one,
    parts=("p(1)", "the slope at 1"),
    hints=[
        "Two conditions, two unknowns: p(1) = a + b = 1, and p'(1) = a + 3b = 0.",
        "Subtract them: 2b = -1.",
    ],
    mistakes="""
        (3.0, -1.0)
            The slope at 1 is 0, but 1 is sent to 2.
        (2.0, -1.0)
            1 stays, but the slope there is -1: a small error never shrinks.
        (1.0, 0.0)
            1 stays, and so does everything else: the slope is 1. It must be 0.
        (1.5, 0.5)
            Right but for a sign: what must b be for a + b = 1?
        (-0.5, 1.5)
            Exchange the two: a is the factor of x, b that of x³.
        (15 / 8, -10 / 8)
            Those belong to a third term, 3/8 x⁵. Without it a + b must be 1 already.
    """,
    because="Slope 0 at a fixed point: an error ε becomes about -1.5 ε², so digits double.",
)


def sliders(a, b, c, schedule="custom", steps=5):
    """Give what the polynomial explorer is set to."""
    return {"schedule": schedule, "a": a, "b": b, "c": c, "steps": steps}


def five_steps_land(starts, margin, a, b, c):
    """Tell whether five steps bring all starts within margin of 1, for every row of b and c."""
    x = starts
    for _ in range(5):
        x = evaluate(x, (a, b, c))
    return np.abs(x - 1).max(axis=-1) <= margin


def steer(meets, known_a, schedule, a, b, c, steps):
    """Say which of a, b and c must change first, and in which direction, to solve a task.

    c alone, if some c solves it with this a and b; otherwise b, if some b and c do with this a.
    ``meets(a, b, c)`` takes numbers, or columns b and c (n, 1), and returns n booleans.
    """
    if steps != 5 or (schedule != "custom" and len(SCHEDULES[schedule].coefficients) > 1):
        return "another task"
    if meets(a, b, c):
        return "solved"
    cs = np.arange(-6, 20, 0.01)[:, None]
    name, now, solving = "c", c, cs[meets(a, b, cs)]
    if not solving.size:
        bs, cs = (grid.reshape(-1, 1) for grid in np.mgrid[-8:0:0.03, 0:6:0.02])
        near = np.abs(a + bs + cs - 0.9)[:, 0] < 0.5  # elsewhere p(1) is too far from 1
        name, now, solving = "b", b, bs[near][meets(a, bs[near], cs[near])]
    if not solving.size:
        return "raise a" if a < known_a else "lower a"
    return f"raise {name}" if solving[np.argmin(np.abs(solving - now))] > now else f"lower {name}"


STEERING = """
    another task
        The task is five steps of one triple: set the steps to 5, and choose no table.
    raise c
        With this a and b a larger c does it. c lifts the far end of the curve: raise c.
    lower c
        With this a and b a smaller c does it. c lifts the far end of the curve: lower c.
    raise b
        With this a it works with a larger b, which lifts the hill. Raise b, then match c.
    lower b
        With this a it works with a smaller b, which presses the hill down. Lower b, then match c.
"""


def trade(**settings):
    def meets(a, b, c):
        return (a**5 >= 400) & five_steps_land(np.geomspace(0.01, 1, 300), 0.35, a, b, c)

    return steer(meets, 3.44, **settings)


q3 = Exercise(
    question="Slope at zero of at least 400 in five steps, σ from 0.01 to 1 inside [0.65, 1.35].",
    reference=sliders(3.44, -4.77, 2.03),
    start=sliders(15 / 8, -10 / 8, 3 / 8, "taylor"),
    observe=trade,
    hints=[
        "The slope at zero is a⁵. Which a gives 400?",
        "a is at least 3.32. Now lower b until nothing rises above 1.35, then mend with c.",
    ],
    mistakes=STEERING
    + """
    raise a
        The slope at zero is a⁵, and it is still below 400: raise a.
    lower a
        With an a this large no b and c keep every value inside. Lower a: 3.4 is enough.
    """,
    because="Give up settling at 1, and a may be 3.44 and not 1.875: that was Jordan's idea.",
)

q4 = Exercise(
    question="Where does one step of Jordan's polynomial send a singular value of 1?",
    formula="3.4445 - 4.7750 + 2.0315",
    observe=itself,
    tolerance=2e-3,  # 0.70 will do
    hints=["p(1) needs no calculator with powers: 1³ = 1⁵ = 1.", "a + b + c."],
    mistakes="""
        1.0
            That is what most texts say. Add the three coefficients.
        0.868
            That is the point that stays where it is. 1 is not that point.
        10.251
            b is negative.
    """,
    because="p(1) = a + b + c = 0.701: a perfect value is pushed away.",
)

q5 = Exercise(
    question="Five Jordan steps leave σ in [0.68, 1.13]. What do fifty leave?",
    reference="the same",
    observe=itself,
    choices=("narrower", "the same", "wider"),
    hints=[
        "What happens to an error next to a fixed point with slope -1.58?",
        "It grows, until the curve bends it back: the values wander between two walls.",
    ],
    mistakes="""
        "narrower"
            More steps help only if a fixed point attracts: a slope between -1 and 1.
        "wider"
            Nothing escapes either: a step from anywhere in [0.68, 1.13] ends there again.
    """,
    because="The fixed point repels, and the curve bends all back, so the values wander for ever.",
)


def landing(**settings):
    return steer(partial(five_steps_land, fading(1.0), 0.05), 2.62, **settings)


q6 = Exercise(
    question="Make all 64 values of fading() land within 0.05 of 1 in five steps.",
    reference=sliders(2.62, -3.09, 1.47),
    start=sliders(15 / 8, -10 / 8, 3 / 8, "taylor"),
    observe=landing,
    explorer="easier",
    hints=[
        "Keep a + b + c near 1, so that 1 stays about where it is.",
        "The smallest value is 0.012. Five steps multiply it by a⁵: how large must a be?",
        "Take a = 2.6, b = -2.8, c = 1.2. Then lower b in steps of 0.05 and raise c by as much.",
    ],
    mistakes=STEERING
    + """
    raise a
        With an a this small no b and c do it: the smallest values are left behind. Raise a.
    lower a
        With an a this large no b and c bring all values together at 1. Lower a.
    """,
    because="a⁵ ≈ 120 lifts 0.012 past 1, and b and c bend the curve flat where values arrive.",
)

STEEP = 0.5 * np.eye(8) + 0.5  # one stretch of 4.5, seven of 0.5; no entry above 1
LARGE, SMALL = 300.0 * np.eye(4), 0.003 * np.eye(4)
ROWS = np.array([6 * [1.0, -1.0], 3 * [1.0, 1.0, -1.0, -1.0]])  # sums 0, two stretches of √12


def called_functions(function, *arguments):
    """Call a function; return its result and the names of the Python functions that ran."""
    names, previous = set(), sys.getprofile()
    sys.setprofile(lambda frame, event, _: names.add(frame.f_code.co_name))
    try:
        return function(*arguments), names
    finally:
        sys.setprofile(previous)


def fate(orthogonalize, matrix):
    """Say what five Jordan steps made of a matrix whose norm the learner chose."""
    after, called = called_functions(orthogonalize, matrix)
    if called & {"svd", "svdvals", "eigh", "eigvalsh", "eig", "eigvals"}:
        return "an SVD"
    began = f"(X has stretches up to {np.linalg.norm(matrix, 2):.3g})"
    if not np.isfinite(after).all() or np.abs(after).max() > 100:
        return f"stretches that grow without limit {began}"
    S = np.linalg.svd(after, compute_uv=False)
    if S.min() > 0.65 and S.max() < 1.25:
        return "stretches near 1"
    return f"stretches between {S.min():.2g} and {S.max():.2g} {began}"


def orthogonalize(X):
    a, b, c = 3.4445, -4.7750, 2.0315
    X = X / np.linalg.norm(X)
    for _ in range(5):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


q7 = Exercise(
    question="This one blows up on some matrices. Divide by a number that keeps every σ below 1.",
    reference=orthogonalize,
    observe=fate,
    cases=[(STEEP,), (LARGE,), (np.diag(fading(1.0, 16)),), (ROWS,), (ROWS.T,), (SMALL,)],
    hints=[
        "A matrix of ones has no entry above 1. What is its largest stretch?",
        "The sum of all σ² is the sum of all squared entries. So which number is above every σ?",
    ],
    mistakes="""
        np.linalg.norm(X) => np.abs(X).max()
            That is the number that was there: many small entries add up to a large stretch.
        np.linalg.norm(X) => np.sum(X**2)
            That is the norm squared, too much for a large matrix and too little for a small one.
            Take the root.
        np.linalg.norm(X) => 1
            Without a division every matrix with a stretch above 1.26 escapes.
        np.linalg.norm(X) => np.linalg.norm(X, 2)
            That takes an SVD (or eigenvalues), the very thing to be avoided. Which number is never
            below the largest stretch, and needs only the entries?
    """,
    because="No SVD needed: ‖X‖_F² = Σ σᵢ², so the Frobenius norm, for one, is above every σ.",
)


def equal_errors(points):
    system = np.stack([points, points**3, points**5, [1, -1, 1, -1]], axis=1)
    return np.linalg.solve(system, np.ones(4))


def solved(answer, points):
    """Return a, b, c and the size of E; which sign comes first is the learner's choice."""
    a, b, c, error = answer(points)
    return a, b, c, abs(error)


q8 = Exercise(
    question="Find a, b, c, E such that p(x) misses 1 by E, -E, E, -E at four points in turn.",
    reference=equal_errors,
    observe=solved,
    parts=("a", "b", "c", "the size of E"),
    cases=[(np.array([0.1, 0.4, 0.7, 1.0]),), (np.array([0.2, 0.35, 0.8, 1.1]),)],
    hints=[
        "One row per point: a·x + b·x³ + c·x⁵ + (±1)·E = 1.",
        "The columns are the factors of a, b, c and E. The last is [1, -1, 1, -1].",
    ],
    mistakes="""
        [1, -1, 1, -1] => [1, 1, 1, 1]
            The errors must alternate. With +E at all four points p = 0 and E = 1 do it.
        points**3, points**5 => points**2, points**3
            Powers 1, 2, 3: matrix products give odd powers only, 1, 3, 5.
        points**3, points**5 => points**5, points**3
            x³ and x⁵ have changed places, and so have b and c.
        points**3, points**5 => points**2, points**4
            Powers 1, 2, 4: matrix products give odd powers only, 1, 3, 5.
        points**3, points**5 => 3 * points**2, 5 * points**4
            Those are the slopes of x³ and x⁵. It is p itself that misses 1 by E.
        [1, -1, 1, -1] => [1, 1, -1, -1]
            The signs change from each point to the next: +, -, +, -.
    """,
    because="Four equations, four unknowns. Remez then moves the points to where p turns.",
)

q9 = Exercise(
    question="What is the next number above 1 in bfloat16, less 1?",
    formula="2**-7",
    observe=itself,
    tolerance=0.01,
    hints=[
        "bfloat16 is the upper half of a float32: 1 sign, 8 exponent and 7 fraction bits.",
        "The smallest step of 7 fraction bits, at 1, is 2 to the power -7.",
    ],
    mistakes="""
        1 + 2**-7
            That is the next number. The gap is how far it lies above 1: take 1 away.
        2**-8
            That is the gap just below 1, where numbers lie twice as dense.
        2**-10
            That is float16, which has ten fraction bits and a small range.
        2**-23
            That is float32, which has 23 fraction bits.
    """,
    because="7 fraction bits: 1, then 1.0078125. Errors below half of that are invisible.",
)


def challenge(**settings):
    margin = np.nextafter(MARKS["jordan"], 0)  # better than the best published one
    return steer(partial(five_steps_land, fading(1.5), margin), 3.45, **settings)


q10 = Exercise(
    question="Beat every published single triple on fading(1.5): five steps, the worst counts.",
    reference=sliders(3.45, -4.73, 2.07),
    start=sliders(*JORDAN, "jordan"),
    observe=challenge,
    explorer="challenge",
    hints=[
        "Jordan's worst value lies at 0.68. On the other side, at 1.13, there is room.",
        "Lift the whole hill a little: a bit more of c, or a bit less of -b.",
        "From Jordan's triple, try b = -4.75.",
    ],
    mistakes=STEERING
    + """
    raise a
        The smallest value is 0.0018, and with an a this small it stays too low. Raise a.
    lower a
        With an a this large no b and c beat Jordan's score. Lower a.
    """,
    because="Both sides of the band should be equally far from 1. Best known: 0.210.",
)
