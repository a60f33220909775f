"""Exercises of notebook 07: what a training run costs, and what may be claimed of it."""

import math
from statistics import mean, pstdev, stdev

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself

q1 = Exercise(
    question="At most what share of the forward and backward pass does Newton-Schulz add here?",
    formula="5 * 128 / (16 * 128)",
    observe=itself,
    tolerance=0.01,
    hints=[
        "The bound is T · m / B: steps of the iteration, smaller side of a matrix, bytes a batch.",
        "T = 5. Every hidden matrix has a smaller side of 128. A batch is 16 sequences of 128.",
    ],
    mistakes=[
        (5 * 768 / 524_288, "That is NanoGPT's 0.7 %: width 768 and half a million tokens."),
        (128 / 2048, "One step of the iteration costs that; Muon takes five."),
        (5 * 512 / 2048, "512 is the MLP's larger side. The iteration runs on the smaller."),
        (5 * 128 / 16, "B counts every byte of the batch: 16 sequences of 128 bytes each."),
        (5 * 128 / 128, "That is one sequence. The batch has 16, and all share the update."),
    ],
    because="5 · 128 / 2048 = 31 %: a small batch makes Muon dear, and a large one makes it cheap.",
)


def bytes_to_loss(read, losses, target):
    after = int(np.argmax(losses <= target))
    before = after - 1
    share = (losses[before] - target) / (losses[before] - losses[after])
    return read[before] + share * (read[after] - read[before])


def next_validation(read, losses, target):
    return read[int(np.argmax(losses <= target))]


def last_validation(read, losses, target):
    return read[int(np.argmax(losses <= target)) - 1]


def nearest_validation(read, losses, target):
    return read[int(np.argmin(np.abs(losses - target)))]


def share_of_wrong_side(read, losses, target):
    after = int(np.argmax(losses <= target))
    share = (target - losses[after]) / (losses[after - 1] - losses[after])
    return read[after - 1] + share * (read[after] - read[after - 1])


q2 = Exercise(
    question="After how many bytes did the validation loss first reach the target?",
    reference=bytes_to_loss,
    cases=[
        (np.array([0.0, 100.0, 200.0, 300.0]), np.array([5.5, 3.0, 2.0, 1.8]), 2.25),
        (np.array([0.0, 10.0, 40.0]), np.array([4.0, 3.0, 1.0]), 3.9),
        (np.array([0.0, 100.0, 200.0, 300.0]), np.array([5.5, 3.0, 2.0, 2.5]), 2.1),
    ],
    hints=[
        "Between two validations take the loss as a straight line.",
        "share = (losses[before] - target) / (losses[before] - losses[after]).",
        "Go that share of the way from read[before] to read[after].",
    ],
    mistakes=[
        (next_validation, "That waits for the next validation; the loss got there earlier."),
        (last_validation, "There the loss was still above the target."),
        (nearest_validation, "The nearest validation need not be past the target. Draw it."),
        (
            share_of_wrong_side,
            "Your share is measured from the later validation; begin at the earlier one.",
        ),
    ],
    because="The same reading for every run: it favours neither, however rare validations are.",
)


def state_numbers(hidden, rest):
    adamw = 2 * (hidden + rest)
    muon = hidden + 2 * rest
    return adamw, muon


q3 = Exercise(
    question="How many numbers of state do AdamW and Muon keep?",
    reference=state_numbers,
    cases=[(786_432, 66_688), (10, 1), (1, 10), (0, 5)],
    hints=[
        "AdamW keeps two averages a parameter: of the gradient and of its square.",
        "Muon keeps one momentum for each parameter of a hidden matrix. And the others?",
        "Embedding, head and gains are AdamW's under Muon too: two numbers each.",
    ],
    mistakes=[
        (
            lambda hidden, rest: (2 * (hidden + rest), hidden + rest),
            "Under Muon the embedding, the head and the gains still go by AdamW, with two each.",
        ),
        (
            lambda hidden, rest: (hidden + rest, hidden + 2 * rest),
            "AdamW keeps two numbers a parameter: an average of g and one of g².",
        ),
        (
            lambda hidden, rest: (2 * (hidden + rest), 2 * hidden + rest),
            "The other way round: one number for the hidden matrices, two for the rest.",
        ),
        (
            lambda hidden, rest: (3 * (hidden + rest), 2 * hidden + 3 * rest),
            "That counts the parameters too. State is what the optimizer keeps besides them.",
        ),
    ],
    because="Almost all parameters are in hidden matrices, so Muon keeps little more than half.",
)


def standard_errors(adamw, muon):
    gap = mean(adamw) - mean(muon)
    return gap / np.sqrt((stdev(adamw) ** 2 + stdev(muon) ** 2) / len(muon))


q4 = Exercise(
    question="How many standard errors is the gap between two optimizers' final losses?",
    reference=standard_errors,
    cases=[
        ([1.83, 1.86, 1.82], [1.71, 1.75, 1.70]),
        ([2.0, 2.4, 1.9], [1.9, 2.1, 2.2]),
        ([1.0, 1.5], [2.0, 2.1]),
    ],
    hints=[
        "stdev(adamw) says how far one seed strays. How far does a mean of n seeds stray?",
        "A mean of n seeds strays by σ / √n, and independent errors add as squares.",
        "√((σ_adamw² + σ_muon²) / n), with n = len(muon).",
    ],
    mistakes=[
        (
            lambda a, m: (mean(a) - mean(m)) / math.hypot(stdev(a), stdev(m)),
            "That is the spread of a single pair of seeds. A mean of n seeds strays √n less.",
        ),
        (
            lambda a, m: (
                (mean(a) - mean(m)) / math.sqrt((pstdev(a) ** 2 + pstdev(m) ** 2) / len(m))
            ),
            "With so few seeds, divide the squares by n - 1: stdev, not pstdev.",
        ),
        (
            lambda a, m: (mean(a) - mean(m)) / (stdev(m) / math.sqrt(len(m))),
            "AdamW's mean strays too: both spreads belong in the error.",
        ),
        (
            lambda a, m: (mean(a) - mean(m)) / ((stdev(a) + stdev(m)) / math.sqrt(len(m))),
            "Independent errors do not add up straight: add their squares, then take the root.",
        ),
    ],
    tolerance=1e-4,  # float32 counts too
    because="Beyond three of them the gap is hardly luck; below, more seeds or no claim.",
)


def seconds_factor(steps_factor, adamw_share, muon_share):
    ratio = (1 - adamw_share) / (1 - muon_share)
    return steps_factor / ratio


q5 = Exercise(
    question="How many times as many seconds does AdamW take to the same loss?",
    reference=seconds_factor,
    cases=[(1.75, 0.05, 0.25), (1.4, 0.1, 0.4), (1.1, 0.02, 0.3)],
    hints=[
        "What is not optimizer is forward and backward pass, and takes both the same time.",
        "If the optimizer has the share s of a step, forward and backward have 1 - s of it.",
        "So a step takes 1 / (1 - s) times as long as forward and backward alone.",
    ],
    mistakes=[
        (
            lambda steps_factor, adamw_share, muon_share: steps_factor / (muon_share / adamw_share),
            "That is the ratio of the optimizers' seconds alone. A step is forward and backward "
            "too.",
        ),
        (
            lambda steps_factor, adamw_share, muon_share: (
                steps_factor / ((1 - muon_share) / (1 - adamw_share))
            ),
            "Upside down: the larger Muon's share, the longer its step.",
        ),
        (
            lambda steps_factor, adamw_share, muon_share: (
                steps_factor / (1 + muon_share - adamw_share)
            ),
            "The shares are of steps of different lengths, so they cannot be subtracted.",
        ),
    ],
    because="Fewer steps are worth no more than what each of them costs.",
)


def rare_share(momentum, update):
    U, sigma, _ = np.linalg.svd(momentum, full_matrices=False)
    middle = np.median(sigma)
    rare = U[:, sigma < middle]
    return np.sum((rare.T @ update) ** 2) / np.sum(update**2)


def rare_on_the_right(momentum, update):
    _, sigma, Vh = np.linalg.svd(momentum, full_matrices=False)
    middle = np.median(sigma)
    return np.sum((update @ Vh[sigma < middle].T) ** 2) / np.sum(update**2)


def frequent_share(momentum, update):
    U, sigma, _ = np.linalg.svd(momentum, full_matrices=False)
    middle = np.median(sigma)
    return np.sum((U[:, sigma > middle].T @ update) ** 2) / np.sum(update**2)


def rare_with_the_middle(momentum, update):
    U, sigma, _ = np.linalg.svd(momentum, full_matrices=False)
    rare = U[:, sigma <= np.median(sigma)]
    return np.sum((rare.T @ update) ** 2) / np.sum(update**2)


def rare_length(momentum, update):
    return np.sqrt(rare_share(momentum, update))


def rare_of_the_momentum(momentum, update):
    return rare_share(momentum, momentum)


_random = np.random.default_rng(0)

q6 = Exercise(
    question="What share of an update's energy lies in the rare directions of the momentum?",
    reference=rare_share,
    cases=[
        (_random.normal(size=(6, 6)) * np.arange(1, 7), _random.normal(size=(6, 6))),
        (_random.normal(size=(4, 9)), _random.normal(size=(4, 9))),
        (_random.normal(size=(5, 5)), _random.normal(size=(5, 5))),  # the middle one is not rare
    ],
    hints=[
        "sigma < middle says which; column i of U belongs to value i of sigma.",
        "rare.T @ update is what the update has along those columns.",
        "Energy is the sum of squares: np.sum((rare.T @ update) ** 2) / np.sum(update**2).",
    ],
    mistakes=[
        (
            rare_on_the_right,
            "Those are rows of Vh, the directions of the input. Here the output side is asked for.",
        ),
        (frequent_share, "Those are the frequent directions: the rare have the small values."),
        (rare_with_the_middle, "That takes the middle one along: only those below it."),
        (rare_length, "That is a ratio of lengths. Energy is the sum of squares."),
        (
            rare_of_the_momentum,
            "That is the momentum's own share. The directions are its; the energy is the update's.",
        ),
    ],
    because="An orthogonal update has half of its energy there, since half of the directions are.",
)
