"""Exercises of notebook 02: a step of its own for each coordinate."""

from functools import partial

import numpy as np

from muon_lab.descent import descend, rmsprop
from muon_lab.exercises.answers import Unreadable
from muon_lab.exercises.e01 import advice
from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.problems import cliff


def adagrad_step(point, total, gradient, lr):
    total = total + gradient**2
    return point - lr * gradient / (np.sqrt(total) + 1e-10), total


q1 = Exercise(
    question="Write one step of AdaGrad; give the new point and the new sum of squares.",
    reference=adagrad_step,
    parts=("new point", "new total"),
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
    mistakes="""
        + 1e-10 =>
            Right while every coordinate has a slope; a flat one divides 0 by 0. Add 1e-10.
        np.sqrt(total) => total
            The root is missing: divided by the squares, a steep coordinate hardly moves at all.
        lambda p, t, g, lr: (p - lr * g / (np.sqrt(t) + 1e-10), t + g**2)
            You divide by the old sum. Before the first step it is zero: add the square first.
        gradient**2 => np.sum(gradient**2)
            That sum is over the coordinates: all share one step again. Keep one sum for each.
        gradient**2 => gradient
            The sum is of squares: bare gradients of opposite sign would cancel.
        total + gradient**2 => gradient**2
            That forgets the past: add the square to the old total.
        np.sqrt(total) => np.linalg.norm(total)
            A norm is one number for all coordinates. Take the root of each total by itself.
        gradient / (np.sqrt(total) + 1e-10) => (np.sqrt(total) + 1e-10)
            The gradient is missing from the step: divide it by the root.
        point - lr => point + lr
            That climbs: step against the gradient.
    """,
    because="Each coordinate gets its own learning rate, lr/√(sum of its squared gradients).",
)


def reaches_the_floor(lr, beta):
    return min(descend(cliff(), partial(rmsprop, lr=lr, beta=beta), 100).values) <= 1e-3


def off_the_cliff(lr1, beta1):
    return advice(reaches_the_floor, lr1, beta1, best_beta=0.5)


q2 = Exercise(
    question="Set lr and β of RMSProp so that the loss falls below 0.001 within 100 steps.",
    reference={"lr1": 0.07, "beta1": 0.5},
    observe=off_the_cliff,
    start={"lr1": 0.05, "beta1": 0.99},
    hints=[
        "β = 0.99 remembers the wall for hundreds of steps. How long may it remember?",
        "Try β = 0.5 and then move lr: a step is about lr long, and 4 units are to go.",
    ],
    mistakes="""
        lower β
            With so much memory hardly any lr gets there in 100 steps: for that long the divisor
            remembers the wall. Lower β.
        lower lr
            It jumps to and fro over the minimum: a step is about lr long, however flat the floor
            is. With this β a smaller lr gets there.
        raise lr
            It does not get to the minimum in 100 steps, and with this β a larger lr does.
    """,
    because="A memory of 1/(1 - β) steps forgets the wall; lr is then nearly the step's length.",
)

q3 = Exercise(
    question="Which rule walks down the turned valley just as it walks down the straight one?",
    reference="momentum",
    observe=itself,
    choices=("adagrad", "rmsprop", "adam", "momentum"),
    hints=[
        "Look for the rule that never asks which coordinate a number belongs to.",
        "Squaring, dividing and taking roots coordinate by coordinate all depend on the axes.",
    ],
    mistakes="""
        "adagrad"
            AdaGrad's sums belong to x and y. Turned, both mix steep and flat.
        "rmsprop"
            Forgetting does not help here: RMSProp still divides by axis.
        "adam"
            Adam suffers least of the three that divide, but its path changes too.
    """,
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
    mistakes="""
        1.0
            That is what the correction achieves. Without it the two shrink unequally.
        0.1
            The mean is indeed only 0.1 g, but it is divided by something even smaller.
        100.0
            The root is missing: 0.1 g over the square root of 0.001 g².
        1000**0.5
            The mean is only 0.1 g as well: 0.1 g over the square root of 0.001 g².
    """,
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
    mistakes="""
        lambda m, s, t, b1, b2: (m / (1 - b1)) / (np.sqrt(s / (1 - b2)) + 1e-8)
            That is right for the first step only. How full an average is depends on `step`.
        square / (1 - beta2**step) => square
            mean is right. square starts at zero too, and fills up even more slowly.
        mean / (1 - beta1**step) => mean
            square is right. mean starts at zero too.
        lambda m, s, t, b1, b2: (m * (1 - b1**t)) / (np.sqrt(s * (1 - b2**t)) + 1e-8)
            The averages are too small at first: divide by 1 - beta**step, do not multiply.
        beta2**step => beta1**step
            square fills up with its own beta: beta2.
        lambda m, s, t, b1, b2: m / (np.sqrt(s) + 1e-8)
            Neither average is corrected yet: divide each by 1 - beta**step.
        mean / (1 - beta1**step) => mean / 1 - beta1**step
        square / (1 - beta2**step) => square / 1 - beta2**step
            Python divides before it subtracts: put 1 - beta**step in parentheses.
        1 - beta1**step => 1 - beta1 * step
        1 - beta2**step => 1 - beta2 * step
            Each step multiplies by beta, so it is a power: beta**step.
        1 - beta1**step => beta1**step
        1 - beta2**step => beta2**step
            beta**step is the weight of the zero at the start. What the gradients weigh is the rest.
        1 - beta1**step => 1 - beta1 ** (step + 1)
        1 - beta2**step => 1 - beta2 ** (step + 1)
            That counts one step too many: the first step is 1 already.
        1 - beta1**step => 1 - beta1 ** (step - 1)
        1 - beta2**step => 1 - beta2 ** (step - 1)
            That counts one step too few, and divides by 0 at the first: its step is 1.
    """,
    because="Each average is divided by what it would be if every gradient were 1.",
)


def adam_step(point, gradient, mean, square, step, lr, beta1, beta2):
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    mean_now = mean / (1 - beta1**step)
    square_now = square / (1 - beta2**step)
    return point - lr * mean_now / (np.sqrt(square_now) + 1e-8), mean, square


def walk(step_rule, gradients, lr, beta1, beta2):
    """Return the point after each step, with one gradient per step."""
    point, mean, square = np.zeros((3, len(gradients[0])))
    points = []
    for step, gradient in enumerate(gradients, start=1):
        result = step_rule(point, gradient, mean, square, step, lr, beta1, beta2)
        if not isinstance(result, tuple | list) or len(result) != 3:
            raise Unreadable("Return three values: the new point, mean and square.")
        point, mean, square = result
        points.append(point)
    return tuple(points)


_gradients = np.random.default_rng(2).normal(size=(6, 3)) * [10, 1, 1e-6]

q6 = Exercise(
    question="Write one whole step of Adam. It is compared with torch.optim.Adam over six steps.",
    reference=adam_step,
    observe=walk,
    parts=[f"the point after step {step}" for step in range(1, 7)],
    cases=[(_gradients, 0.1, 0.9, 0.999), (_gradients, 0.01, 0.5, 0.9)],
    hints=[
        "Bring both averages up to date first; one is of gradients, the other of their squares.",
        "mean = beta1 * mean + (1 - beta1) * gradient, and the like with beta2 and gradient**2.",
        "Return the averages as they are, and step by their corrected copies: exercise 5.",
    ],
    mistakes="""
        / (1 - beta1**step) =>
        / (1 - beta2**step) =>
            The bias correction is missing: divide each average by 1 - beta**step.
        mean_now = mean / (1 - beta1**step) => mean_now = mean = mean / (1 - beta1**step)
        square_now = square / (1 - beta2**step) => square_now = square = square / (1 - beta2**step)
            The corrected averages were returned, so the next step corrects them once more.
        1 - beta1**step => 1 - beta1
        1 - beta2**step => 1 - beta2
            The bias correction is right for step 1 only. It needs a power: 1 - beta**step.
        / (1 - beta2**step) =>
            The step needs both averages corrected; `square` is not.
        / (1 - beta1**step) =>
            The step needs both averages corrected; `mean` is not.
        beta2**step => beta1**step
            The correction of `square` has beta1 in it: it needs beta2.
        lambda p, g, m, s, t, lr, b1, b2: adam_step(p, g, m, s, t, lr, b2, b1)
            The two betas have changed places: beta1 belongs to `mean`, beta2 to `square`.
        beta1 * mean + (1 - beta1) * gradient => (1 - beta1) * mean + beta1 * gradient
        beta2 * square + (1 - beta2) * gradient**2 => (1 - beta2) * square + beta2 * gradient**2
            beta is the weight of the old average, and 1 - beta that of the new gradient.
        (1 - beta1) * gradient => gradient
        (1 - beta2) * gradient**2 => gradient**2
            Both are sums: a new gradient has the weight 1 - beta1, its square 1 - beta2.
        (1 - beta2) * gradient**2 => gradient**2
            `square` is a sum: give the squared gradient the weight 1 - beta2.
        (1 - beta1) * gradient => gradient
            `mean` is a sum: give the gradient the weight 1 - beta1.
        / (np.sqrt(square_now) + 1e-8) =>
            That is momentum: divide by the root of the mean square as well.
        gradient**2 => gradient
            `square` is an average of squared gradients.
        gradient**2 => mean**2
            `square` averages the squares of the gradients, not of mean.
        np.sqrt(square_now) => square_now
            Divide by the root of the mean square.
        np.sqrt(square_now) + 1e-8 => np.sqrt(square_now + 1e-8)
            Add 1e-8 after the root.
        + 1e-8 =>
            Add 1e-8 to the root, as torch does: the third gradient is tiny.
        point - lr => point + lr
            That climbs: step against the mean.
        lr * mean_now => lr * gradient
            The step goes by the gradient alone: divide the corrected mean.
    """,
    because="Six lines, and the same numbers as torch.optim.Adam. AdamW adds one term to the last.",
)

q7 = Exercise(
    question="Which line of this AdamW is wrong? (The line with def is line 1.)",
    reference=5,
    observe=itself,
    choices=range(1, 7),
    hints=[
        "The averages must not know of the decay: do lines 2 and 3 hold to that?",
        "Where does a weight with large gradients lose its decay?",
    ],
    mistakes="""
        1
            The arguments are all there: the fault is in what is done with them.
        2
            The mean is of gradients alone, as it should be in AdamW.
        3
            The squares are of gradients alone, as they should be in AdamW.
        4
            This is the bias correction you wrote: it is right.
        6
            This line only steps. Look at what it is given as the direction.
    """,
    because="Line 5 divides the decay by √square: noisy weights lose theirs. "
    "Take lr * decay * point off the point itself.",
)


def largest_model(gigabytes, state_numbers, bytes_each):
    return gigabytes * 1e9 / (bytes_each * (2 + state_numbers))


q8 = Exercise(
    question="How many parameters fit with their gradients and state? 1 GB is 1e9 bytes.",
    reference=largest_model,
    cases=[(80, 2, 4), (80, 1, 4), (24, 0, 2)],
    hints=[
        "How many numbers must be kept for each parameter, its own value and gradient included?",
        "2 + state_numbers numbers of bytes_each bytes, out of gigabytes * 1e9.",
    ],
    mistakes="""
        (2 + state_numbers) => state_numbers
            The weights and the gradients need room too.
        2 + state => 1 + state
            Two numbers besides the state: the weight and its gradient.
        * 1e9 =>
            That is in billions of parameters: a gigabyte is 1e9 bytes.
        * 1e9 => * 2**30
            That is for gibibytes, of 2**30 bytes. Here 1 GB is 1e9 bytes.
        / (bytes_each * (2 + state_numbers)) => / bytes_each * (2 + state_numbers)
            Python works from left to right, so this multiplies at the end: put all that you divide
            by in parentheses.
        (bytes_each * (2 + state_numbers)) => (2 * bytes_each + state_numbers)
            The numbers of the state take bytes_each bytes each, too.
        bytes_each * ( => (
            So many numbers fit if each takes one byte: divide by bytes_each.
        gigabytes * 1e9 / =>
            That is the memory of one parameter. How many of them fit?
    """,
    because="80 GB in fp32: 5.0 billion with AdamW, 6.7 with Muon, 10 with SGD; activations apart.",
)
