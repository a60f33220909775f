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
    mistakes="""
        1 / 400
            At 1/400 one step brings the steep coordinate to 0. Larger still works.
        2.0
            That is the limit of the flat direction. The steep one gives up first.
        2 / 401
            That is just below the limit. (2/401 is the fastest lr, not the largest that works.)
        0.08
            That was condition 25. The limit is set by the steepest curvature: 400.
    """,
    because="|1 - lr·λ| < 1 for every curvature λ means lr < 2/λ_max, here 2/400.",
)


def best_walk(low, high):
    lr = 2 / (low + high)
    factor = (high - low) / (high + low)
    return lr, factor


q2 = Exercise(
    question="Give the lr that shrinks the slowest direction most, and the factor it leaves.",
    reference=best_walk,
    parts=("lr", "factor"),
    cases=[(1.0, 25.0), (0.5, 8.0), (3.0, 3.0), (2.0, 1000.0)],
    hints=[
        "A step multiplies one direction by 1 - lr·low, the other by 1 - lr·high.",
        "The best lr makes the two equally slow: 1 - lr·low = -(1 - lr·high). Solve for lr.",
        "Put that lr into 1 - lr·low: it is the factor.",
    ],
    mistakes="""
        lambda low, high: (1 / high, 1 - low / high)
            1/high is done with the steep direction at once; a larger lr helps the flat one more.
        lambda low, high: (2 / high, 1 - 2 * low / high)
            At 2/high the steep direction jumps from side to side for ever: its factor is -1.
        2 / (low + high) => 1 / high
            `lr` = 1/high is done with the steep direction at once; a larger one helps the flat one.
        (high - low) => (low - high)
            `factor` is a size: give it without its sign.
        lr = 2 / => lr = 1 /
            `lr` lacks a factor 2: 1 - lr·low = lr·high - 1. Solve for lr.
        lambda low, high: (1 / (low + high), high / (high + low))
            A factor 2 is lost: 1 - lr·low = lr·high - 1 gives lr·(low + high) = 2.
    """,
    because="Both ends of the valley are then equally slow, and the factor is (κ - 1)/(κ + 1).",
)


def ball_step(point, velocity, gradient, lr, beta):
    velocity = beta * velocity + gradient
    return point - lr * velocity, velocity


q3 = Exercise(
    question="Write one step of the ball; give the new point and the new velocity.",
    reference=ball_step,
    parts=("new point", "new velocity"),
    cases=[
        (np.array([1.0, -2.0]), np.array([0.5, 4.0]), np.array([3.0, 1.0]), 0.1, 0.9),
        (np.array([0.0, 0.0]), np.array([0.0, 0.0]), np.array([1.0, -1.0]), 0.5, 0.5),
        (np.array([2.0, 1.0]), np.array([-1.0, 2.0]), np.array([0.0, 0.0]), 0.2, 0.8),
    ],
    hints=[
        "The ball keeps the share beta of its velocity and gains the gradient.",
        "velocity = beta * velocity + gradient; then the point moves against the new velocity.",
    ],
    mistakes="""
        + gradient => + (1 - beta) * gradient
            That is an average of gradients. The ball here gains the whole gradient: a sum.
        lambda p, v, g, lr, beta: (p - lr * v, beta * v + g)
            The point moves by the old velocity. Update the velocity first, then move by it.
        point - lr => point + lr
            This ball rolls uphill: its velocity sums gradients.
        lambda p, v, g, lr, beta: (p - (beta * v + lr * g), beta * v + lr * g)
            Here lr sits inside the velocity. Keep it outside, as torch does: then changing lr
            acts on the whole velocity at once.
        lr * velocity => velocity
            The step lacks its lr: without it the point moves by the velocity itself.
        lr * velocity => lr * gradient
            The velocity is not used: the point still walks by the gradient alone.
    """,
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
    mistakes="""
        1.9
            That is the second step. It goes on: 1 + 0.9 + 0.81 + ...
        0.1
            That is 1 - β, what the ball loses per step. It also gains the gradient, and becomes
            faster than a walker.
        0.9
            A ball that keeps 0.9 of its speed and gains more is faster, not slower.
        9.0
            The series begins with 1, not with 0.9.
    """,
    because="1 + β + β² + ... = 1/(1 - β): a ball with β = 0.9 moves as if lr were ten times it.",
)


def best_ball(condition):
    root = np.sqrt(condition)
    lr = 4 / (1 + root) ** 2
    beta = ((root - 1) / (root + 1)) ** 2
    return lr, beta


q5 = Exercise(
    question="Solve for the best lr and beta of a valley with curvatures 1 and condition.",
    reference=best_ball,
    parts=("lr", "beta"),
    cases=[(25.0,), (4.0,), (1.0,), (10000.0,)],
    hints=[
        "With s = √beta the two edges are lr·1 = (1 - s)² and lr·condition = (1 + s)².",
        "Divide one edge by the other, take the root: √condition = (1 + s)/(1 - s). Solve for s.",
        "With root = √condition: s = (root - 1)/(root + 1); beta is its square, and lr = (1 - s)².",
    ],
    mistakes="""
        (root + 1)) ** 2 => (root + 1))
            That is √beta, the factor per step: square it.
        np.sqrt(condition) => condition
            The root is missing: a ball feels √condition. That is why it is faster.
        4 / (1 + root) ** 2 => 2 / (1 + condition)
            That lr is the walker's best. With a memory the ball may take longer steps.
        4 / (1 + root) ** 2 => 1 / condition
            That lr brings a walker's steep coordinate to 0 in one step. The ball's is larger:
            (1 + s)²/condition.
        4 / (1 + root) ** 2 => 1 / (1 + root) ** 2
            Four times that: lr = (1 - s)² with s = (root - 1)/(root + 1), so 1 - s = 2/(1 +
            root).
    """,
    because="The flattest and the steepest direction are then equally slow: a factor √β per step.",
)


def advice(arrives, lr, beta, best_beta):
    """Say where settings that arrive are: at another lr or, if at none, at another β."""
    if arrives(lr, beta):
        return "arrives"
    works = [other for other in np.geomspace(0.02, 1, 80) if arrives(other, beta)]
    if works:
        nearest = min(works, key=lambda other: abs(np.log(other / lr)))
        return "raise lr" if nearest > lr else "lower lr"
    return "lower β" if beta > best_beta else "raise β"


def rolls_to_the_star(lr, beta):
    path = descend(valley(25), partial(momentum, lr=lr, beta=beta), 25)
    return min(path.values) <= 1e-3


def roll(lr1, beta1):
    return advice(rolls_to_the_star, lr1, beta1, best_beta=0.44)


q6 = Exercise(
    question="Set lr and β so that the loss falls below 0.001 within 25 steps.",
    reference={"lr1": 0.11, "beta1": 0.44},
    observe=roll,
    start={"lr1": 0.01, "beta1": 0.9},
    hints=[
        "First find an lr that crosses the valley quickly, then take memory away until it stops "
        "swinging past the star.",
        "You derived the best pair above: best_ball(25).",
    ],
    mistakes="""
        raise lr
            Not there after 25 steps, and with this β a larger lr gets there: raise lr.
        lower lr
            With this β a smaller lr gets there: watch the path swing, and lower lr.
        lower β
            With so much memory hardly any lr gets there: the ball rolls past the star and has to
            come back. Lower β.
        raise β
            With so little memory hardly any lr gets there: along the floor the ball creeps. Raise
            β.
    """,
    because="There is a small island of settings that arrive, around lr = 1/9 and β = 4/9.",
)


q7 = Exercise(
    question="The condition number grows 4 times: how many times more steps, walker and ball?",
    reference=(4, 2),
    observe=itself,
    parts=("walker", "ball"),
    hints=[
        "The walker's factor is (κ - 1)/(κ + 1), about 1 - 2/κ: the steps it needs grow like κ.",
        "The ball's factor is the same with √κ for κ.",
    ],
    mistakes="""
        (2, 4)
            The other way round: the order asked for is (walker, ball).
        (4, 4)
            Then a ball would gain nothing in a longer valley. It feels only √κ.
        (2, 2)
            The ball is right. The walker feels κ itself, not its root.
        (16, 4)
            Each is squared once too often: the walker's steps grow like κ, not κ².
    """,
    because="Steps grow like κ for the walker and like √κ for the ball.",
)


def hover(lr, curvature, noise, batch):
    variance = lr**2 * noise**2 / batch / (1 - (1 - lr * curvature) ** 2)
    return curvature * variance / 2


q8 = Exercise(
    question="At which loss does the walker hover along one direction?",
    reference=hover,
    cases=[(0.02, 1.0, 5.0, 1), (0.02, 25.0, 5.0, 16), (0.07, 25.0, 2.0, 4), (0.5, 2.0, 3.0, 9)],
    hints=[
        "A step multiplies x by 1 - lr·curvature, so its variance by the square of that.",
        "The batch adds an error: a mean of `batch` independent errors has the variance "
        "noise²/batch. The step multiplies it by lr, its variance by lr².",
        "Hovering: variance = (1 - lr·curvature)² · variance + lr² · noise²/batch. Solve for it.",
    ],
    mistakes="""
        noise**2 / batch => noise**2 / batch**2
            The batch counts once: the variance of a mean of n errors falls like 1/n, its standard
            deviation like 1/√n.
        noise**2 / batch => noise**2
            The batch is missing: it averages its errors, and the variance falls by that factor.
        noise**2 / batch => noise / batch
            `noise` is a standard deviation: a variance is its square.
        lr**2 * noise => lr * noise
            The step multiplies the error by lr: its variance by lr².
        (1 - (1 - lr * curvature) ** 2) => 1
            That is the variance that one step adds. What earlier steps added is still there, except
            for what the slope took back.
        (1 - (1 - lr * curvature) ** 2) => (lr * curvature)
            The factor of x is 1 - lr·curvature; its variance is multiplied by the square of that.
        (1 - (1 - lr * curvature) ** 2) => (2 * lr * curvature)
            That holds for a small lr only: the square of 1 - lr·curvature has a third term.
        curvature * variance / 2 => curvature * variance
            The loss along x is half of curvature · x²: a factor ½ is missing.
        curvature * variance / 2 => variance
            That is the variance of x. The loss along it is ½ · curvature · x².
    """,
    because="For a small lr that is lr · noise² / (4 · batch): half the lr does what twice the "
    "batch does.",
)
