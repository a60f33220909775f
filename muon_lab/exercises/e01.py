"""Exercises of notebook 01: descent, momentum and the narrow valley."""

from functools import partial

import numpy as np

from muon_lab.descent import descend, momentum
from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.problems import valley

q1 = Exercise(
    question="Above which learning rate does gradient descent leave valley(condition=400)?",
    formula="2 / 400",
    observe=itself,
    tolerance=1e-3,
    hints=[
        "Along y one step multiplies the coordinate by (1 - lr · 400).",
        "The size of that factor must stay below 1: how large may lr · 400 become?",
    ],
    mistakes=[
        (1 / 400, "At 1/400 the steep coordinate is done in one step. Larger still works."),
        (2.0, "That is the limit of the flat direction. The steep one gives up first."),
        (2 / 401, "That is the fastest learning rate, not the largest that still works."),
        (0.08, "That was condition 25. The limit is set by the steepest curvature: 400."),
    ],
    because="|1 - lr·λ| < 1 for every curvature λ means lr < 2/λ_max, here 2/400.",
)


def best_walk(low, high):
    lr = 2 / (low + high)
    factor = (high - low) / (high + low)
    return lr, factor


q2 = Exercise(
    question="Give the lr that shrinks the slowest direction most, and the factor it leaves.",
    reference=best_walk,
    cases=[(1.0, 25.0), (0.5, 8.0), (3.0, 3.0), (2.0, 1000.0)],
    hints=[
        "A step multiplies one direction by 1 - lr·low, the other by 1 - lr·high.",
        "The best lr makes the two equally slow: 1 - lr·low = -(1 - lr·high). Solve for lr.",
        "Put that lr into 1 - lr·low: it is the factor.",
    ],
    mistakes=[
        (
            lambda low, high: (1 / high, 1 - low / high),
            "1/high settles the steep direction at once; a larger lr helps the flat one more.",
        ),
        (
            lambda low, high: (2 / high, 1 - 2 * low / high),
            "At 2/high the steep direction jumps from side to side for ever: its factor is -1.",
        ),
        (
            lambda low, high: (2 / (low + high), 1 - 2 * high / (low + high)),
            "The lr is right. The factor is a size, so give it without its sign.",
        ),
        (
            lambda low, high: (1 / (low + high), high / (high + low)),
            "A factor 2 is lost: 1 - lr·low = lr·high - 1 gives lr·(low + high) = 2.",
        ),
    ],
    because="Both ends of the valley are then equally slow, and the factor is (κ - 1)/(κ + 1).",
)


def ball_step(point, velocity, gradient, lr, beta):
    velocity = beta * velocity + gradient
    return point - lr * velocity, velocity


def average_step(point, velocity, gradient, lr, beta):
    velocity = beta * velocity + (1 - beta) * gradient
    return point - lr * velocity, velocity


q3 = Exercise(
    question="Write one step of the ball; give the new point and the new velocity.",
    reference=ball_step,
    cases=[
        (np.array([1.0, -2.0]), np.array([0.5, 4.0]), np.array([3.0, 1.0]), 0.1, 0.9),
        (np.array([0.0, 0.0]), np.array([0.0, 0.0]), np.array([1.0, -1.0]), 0.5, 0.5),
        (np.array([2.0, 1.0]), np.array([-1.0, 2.0]), np.array([0.0, 0.0]), 0.2, 0.8),
    ],
    hints=[
        "The ball keeps the share beta of its velocity and gains the gradient.",
        "velocity = beta * velocity + gradient; then the point moves against the new velocity.",
    ],
    mistakes=[
        (
            lambda p, v, g, lr, beta: (
                p - lr * (beta * v + (1 - beta) * g),
                beta * v + (1 - beta) * g,
            ),
            "That is an average of gradients. The ball here gains the whole gradient: a sum.",
        ),
        (
            lambda p, v, g, lr, beta: (p - lr * v, beta * v + g),
            "The point moves by the old velocity. Update the velocity first, then move by it.",
        ),
        (
            lambda p, v, g, lr, beta: (p + lr * (beta * v + g), beta * v + g),
            "This ball rolls uphill: the velocity sums gradients, and gradients point up.",
        ),
        (
            lambda p, v, g, lr, beta: (p - (beta * v + lr * g), beta * v + lr * g),
            "Here lr sits inside the velocity. Keep it outside, as torch does: then changing lr "
            "acts on the whole velocity at once.",
        ),
        (
            lambda p, v, g, lr, beta: (p - lr * g, beta * v + g),
            "The velocity is right but not used: the point still walks by the gradient alone.",
        ),
    ],
    because="Two lines, and one more array the size of the weights to remember.",
)


q4 = Exercise(
    question="On an endless even slope: how many times a walker's speed does the ball reach?",
    reference=10.0,
    observe=itself,
    tolerance=0.01,
    hints=[
        "The gradient is always g. Write the velocity after 1, 2 and 3 steps.",
        "g + 0.9 g + 0.81 g + ... is a geometric series.",
    ],
    mistakes=[
        (1.9, "That is the second step. It goes on: 1 + 0.9 + 0.81 + ..."),
        (0.9, "A ball that keeps 0.9 of its speed and gains more is faster, not slower."),
        (9.0, "The series begins with 1, not with 0.9."),
    ],
    because="1 + β + β² + ... = 1/(1 - β): a ball with β = 0.9 uses ten times its lr.",
)


def best_ball(condition):
    root = np.sqrt(condition)
    lr = 4 / (1 + root) ** 2
    beta = ((root - 1) / (root + 1)) ** 2
    return lr, beta


q5 = Exercise(
    question="Solve for the best lr and beta of a valley with curvatures 1 and condition.",
    reference=best_ball,
    cases=[(25.0,), (4.0,), (1.0,), (10000.0,)],
    hints=[
        "With s = √beta the two edges are lr·1 = (1 - s)² and lr·condition = (1 + s)².",
        "Divide one edge by the other, take the root: √condition = (1 + s)/(1 - s). Solve for s.",
        "With root = √condition: s = (root - 1)/(root + 1); beta is its square, and lr = (1 - s)².",
    ],
    mistakes=[
        (
            lambda k: (4 / (1 + np.sqrt(k)) ** 2, (np.sqrt(k) - 1) / (np.sqrt(k) + 1)),
            "That is √beta, the factor a step leaves. beta itself is its square.",
        ),
        (
            lambda k: (4 / (1 + k) ** 2, ((k - 1) / (k + 1)) ** 2),
            "The root is missing: a ball feels √condition. That is why it is faster.",
        ),
        (
            lambda k: (2 / (1 + k), ((np.sqrt(k) - 1) / (np.sqrt(k) + 1)) ** 2),
            "That lr is the walker's best. With a memory the ball may take longer steps.",
        ),
        (
            lambda k: (1 / (1 + np.sqrt(k)) ** 2, ((np.sqrt(k) - 1) / (np.sqrt(k) + 1)) ** 2),
            "beta is right; lr = (1 - s)² with s = (root - 1)/(root + 1) is four times yours.",
        ),
    ],
    because="The flattest and the steepest direction are then equally slow: a factor √β a step.",
)


def roll(lr1, beta1):
    path = descend(valley(25), partial(momentum, lr=lr1, beta=beta1), 25)
    if path.values[-1] > path.values[0]:
        return "leaves"
    if min(path.values) <= 1e-3:
        return "arrives"
    return "swings" if path.points[:, 0].max() > 0.4 else "creeps"


q6 = Exercise(
    question="Set lr and β so that the height falls below 0.001 within 25 steps.",
    reference={"lr1": 0.11, "beta1": 0.44},
    observe=roll,
    start={"lr1": 0.01, "beta1": 0.9},
    hints=[
        "First find an lr that crosses the valley quickly, then take memory away until it stops "
        "swinging past the star.",
        "You derived the best pair above: best_ball(25).",
    ],
    mistakes=[
        (
            {"lr1": 0.2, "beta1": 0.5},
            "The ball leaves the valley: it ends higher than it began. Take a smaller lr.",
        ),
        (
            {"lr1": 0.05, "beta1": 0.95},
            "The ball rolls past the star and swings back: it remembers too long. Lower β.",
        ),
        (
            {"lr1": 0.02, "beta1": 0.1},
            "The ball still creeps along the floor when the steps are over. Raise lr, or β.",
        ),
    ],
    because="There is a small island of settings that arrive, round lr = 1/9 and β = 4/9.",
)


q7 = Exercise(
    question="The condition number grows 4 times: how many times more steps, walker and ball?",
    reference=(4, 2),
    observe=itself,
    hints=[
        "The walker's factor is (κ - 1)/(κ + 1), about 1 - 2/κ: the steps it needs grow like κ.",
        "The ball's factor is the same with √κ for κ.",
    ],
    mistakes=[
        ((2, 4), "The other way round: the order asked for is (walker, ball)."),
        ((4, 4), "Then a ball would gain nothing in a longer valley. It feels only √κ."),
        ((16, 4), "Each is squared once too often: the walker's steps grow like κ, not κ²."),
    ],
    because="Steps grow like κ for the walker and like √κ for the ball.",
)
