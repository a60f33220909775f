"""Exercises of notebook 02: a step of its own for each coordinate."""

from functools import partial

import numpy as np

from muon_lab.descent import RULES, descend, rmsprop
from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.problems import cliff, turned, valley


def adagrad_step(point, total, gradient, lr):
    total = total + gradient**2
    return point - lr * gradient / (np.sqrt(total) + 1e-10), total


q1 = Exercise(
    question="Write one step of AdaGrad; give the new point and the new sum of squares.",
    reference=adagrad_step,
    cases=[
        (np.array([1.0, -2.0]), np.array([4.0, 9.0]), np.array([3.0, 1.0]), 0.5),
        (np.array([0.0, 0.0]), np.array([0.0, 0.0]), np.array([2.0, -5.0]), 0.1),
        (np.array([1.0, 1.0]), np.array([1.0, 100.0]), np.array([-1.0, 0.5]), 0.2),
        (np.array([3.0, 1.0]), np.array([0.0, 0.0]), np.array([0.0, 2.0]), 0.1),  # x is flat
    ],
    hints=[
        "total gains the square of the gradient, coordinate by coordinate.",
        "The gradient is divided by the root of total (the new one), coordinate by coordinate.",
        "Add 1e-10 to the root, so that a coordinate without any slope does not divide by zero.",
    ],
    mistakes=[
        (
            lambda p, t, g, lr: (p - lr * g / np.sqrt(t + g**2), t + g**2),
            "Right while every coordinate has a slope; a flat one divides 0 by 0. Add 1e-10.",
        ),
        (
            lambda p, t, g, lr: (p - lr * g / (t + g**2 + 1e-10), t + g**2),
            "The root is missing: divided by the squares, a steep coordinate hardly moves at all.",
        ),
        (
            lambda p, t, g, lr: (p - lr * g / (np.sqrt(t) + 1e-10), t + g**2),
            "You divide by the old sum. Before the first step it is zero: add the square first.",
        ),
        (
            lambda p, t, g, lr: (
                p - lr * g / (np.sqrt(t + np.sum(g**2)) + 1e-10),
                t + np.sum(g**2),
            ),
            "That sum is over the coordinates: all share one step again. Keep one sum for each.",
        ),
        (
            lambda p, t, g, lr: (p - lr * g / (np.sqrt(t + g) + 1e-10), t + g),
            "The sum is of squares: bare gradients of opposite sign would cancel.",
        ),
    ],
    because="Each coordinate gets its own learning rate, lr/√(sum of its squared gradients).",
)


def off_the_cliff(lr1, beta1):
    path = descend(cliff(), partial(rmsprop, lr=lr1, beta=beta1), 100)
    lengths = np.linalg.norm(np.diff(path.points, axis=0), axis=1) / lr1
    if min(path.values) < 0.01:
        return "arrives"
    if path.points[:, 0].max() > 0.05:
        return "bounces"
    return "held back" if lengths.mean() < 0.7 else "slow"


q2 = Exercise(
    question="Set lr and β of RMSProp so that the height falls below 0.01 within 100 steps.",
    reference={"lr1": 0.1, "beta1": 0.7},
    observe=off_the_cliff,
    start={"lr1": 0.05, "beta1": 0.99},
    hints=[
        "β = 0.99 remembers the wall for hundreds of steps. How long may it remember?",
        "Try β = 0.7 and then move lr: at 0.1 a step is a tenth of a unit, and 4 units are to go.",
    ],
    mistakes=[
        (
            {"lr1": 0.1, "beta1": 0.99},
            "The steps are still divided by the wall, which is long past: lower β.",
        ),
        (
            {"lr1": 1.0, "beta1": 0.5},
            "It jumps to and fro over the minimum: a step is about lr long, however flat it is.",
        ),
        (
            {"lr1": 0.01, "beta1": 0.5},
            "It forgets well, but each step is too short for the way: raise lr.",
        ),
    ],
    because="A memory of 1/(1 - β) steps forgets the wall; lr is then nearly the step's length.",
)


def keeps_its_path(rule):
    if rule not in ("adagrad", "rmsprop", "adam", "momentum"):
        raise ValueError("choose 'adagrad', 'rmsprop', 'adam' or 'momentum'")
    straight, skew = (
        descend(problem, partial(RULES[rule], lr=0.01), 100).values
        for problem in (valley(100), turned(valley(100), 45))
    )
    if np.allclose(straight, skew):
        return "the same heights in both valleys"
    return f"height {straight[-1]:.3g} in the valley, {skew[-1]:.3g} in the turned one"


q3 = Exercise(
    question="Which rule walks down the turned valley just as it walks down the straight one?",
    reference="momentum",
    observe=keeps_its_path,
    hints=[
        "Look for the rule that never asks which coordinate a number belongs to.",
        "Squaring, dividing and taking roots coordinate by coordinate all depend on the axes.",
    ],
    mistakes=[
        ("adagrad", "AdaGrad's sums belong to x and y. Turned, both mix steep and flat."),
        ("rmsprop", "Forgetting does not help here: RMSProp still divides by axis."),
        ("adam", "Adam suffers least of the three that divide, but its path changes too."),
    ],
    because="Sums of whole gradients turn with the problem; division by coordinate does not.",
)

q4 = Exercise(
    question="Adam without bias correction: how many lr long is its first step?",
    formula="0.1 / 0.001**0.5",
    observe=itself,
    tolerance=0.015,  # 3.2 will do
    hints=[
        "Both averages start at 0. After one gradient g the first is 0.1 g; what is the second?",
        "The second is 0.001 g². Divide the first by the root of the second: g cancels.",
    ],
    mistakes=[
        (1.0, "That is what the correction achieves. Without it the two shrink unequally."),
        (0.1, "The mean is indeed only 0.1 g, but it is divided by something smaller yet."),
        (100.0, "The root is missing: 0.1 g over the square root of 0.001 g²."),
    ],
    because="0.1/√0.001 = 3.16. And it gets worse before it gets better, as the next cell shows.",
)


def corrected(mean, square, step, beta1, beta2):
    mean = mean / (1 - beta1**step)
    square = square / (1 - beta2**step)
    return mean / (np.sqrt(square) + 1e-8)


q5 = Exercise(
    question="Correct both averages after `step` steps (the first is 1); give Adam's direction.",
    reference=corrected,
    cases=[
        (np.array([0.1, -0.3]), np.array([0.001, 0.009]), 1, 0.9, 0.999),
        (np.array([0.5, 0.2]), np.array([0.04, 0.5]), 10, 0.9, 0.99),
        (np.array([1.0, 0.0]), np.array([1.0, 2.0]), 5000, 0.9, 0.999),
    ],
    hints=[
        "If every gradient were 1, what would mean be after one step? After two?",
        "It would be 1 - beta1**step. Dividing by that makes it 1, as it should be.",
    ],
    mistakes=[
        (
            lambda m, s, t, b1, b2: (m / (1 - b1)) / (np.sqrt(s / (1 - b2)) + 1e-8),
            "That is right for the first step only: the average fills up, so step must come in.",
        ),
        (
            lambda m, s, t, b1, b2: (m / (1 - b1**t)) / (np.sqrt(s) + 1e-8),
            "mean is right. square starts at zero as well, and fills more slowly yet.",
        ),
        (
            lambda m, s, t, b1, b2: (m * (1 - b1**t)) / (np.sqrt(s * (1 - b2**t)) + 1e-8),
            "The averages are too small at first: divide by 1 - beta**step, do not multiply.",
        ),
        (
            lambda m, s, t, b1, b2: (m / (1 - b1**t)) / (np.sqrt(s / (1 - b1**t)) + 1e-8),
            "square fills with its own beta: beta2.",
        ),
    ],
    because="Each average is divided by what it would be if every gradient were 1.",
)

q6 = Exercise(
    question="Which line of this AdamW is wrong? (The line with def is line 1.)",
    reference=5,
    observe=itself,
    hints=[
        "The averages must not know of the decay: do lines 2 and 3 hold to that?",
        "Where does a weight with large gradients lose its decay?",
    ],
    mistakes=[
        (2, "The mean is of gradients alone, as it should be in AdamW."),
        (3, "The squares are of gradients alone, as they should be in AdamW."),
        (4, "This is the bias correction you wrote: it is right."),
        (6, "This line only steps. Look at what it is given as the direction."),
    ],
    because="Line 5 divides the decay by √square: noisy weights lose theirs. "
    "Take lr * decay * point off the point itself.",
)


def state_gigabytes(rule, parameters, bytes_each):
    numbers = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adamw": 2, "muon": 1}
    return numbers[rule] * parameters * bytes_each / 1e9


q7 = Exercise(
    question="How many gigabytes (1e9 bytes) of state does each rule keep?",
    reference=state_gigabytes,
    cases=[
        ("adamw", 7e9, 4),
        ("muon", 7e9, 4),
        ("sgd", 1e9, 4),
        ("momentum", 1e9, 2),
        ("rmsprop", 1e6, 4),
    ],
    hints=[
        "Count the arrays in each rule's state; the table above has them.",
        "Muon keeps its momentum and nothing else.",
    ],
    mistakes=[
        (
            lambda rule, n, size: (
                {"sgd": 0, "momentum": 1, "rmsprop": 1, "adamw": 2, "muon": 2}[rule]
                * n
                * size
                / 1e9
            ),
            "Muon has no second average: orthogonalizing takes its place.",
        ),
        (
            lambda rule, n, size: (
                {"sgd": 0, "momentum": 1, "rmsprop": 1, "adamw": 1, "muon": 1}[rule]
                * n
                * size
                / 1e9
            ),
            "AdamW keeps two averages: of the gradients and of their squares.",
        ),
        (
            lambda rule, n, size: (
                {"sgd": 1, "momentum": 2, "rmsprop": 2, "adamw": 3, "muon": 2}[rule]
                * n
                * size
                / 1e9
            ),
            "One too many everywhere: count the state only, not the weights themselves.",
        ),
    ],
    because="7 billion weights: 56 GB of state for AdamW, 28 GB for Muon, in fp32.",
)
