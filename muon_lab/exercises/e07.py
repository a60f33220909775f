"""Exercises of notebook 07: what a training run costs, and what may be claimed of it."""

from statistics import mean, pstdev, stdev

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself

q1 = Exercise(
    question="At most what share of the forward and backward pass does Newton-Schulz add here?",
    formula="5 * 128 / (16 * 128)",
    observe=itself,
    tolerance=0.01,
    hints=[
        "The bound is T · m / B: steps of the iteration, a matrix's smaller side, bytes per batch.",
        "T = 5. Every hidden matrix has a smaller side of 128. A batch is 16 sequences of 128.",
    ],
    mistakes=[
        (31.25, "That is right in percent. Give it as a share of 1: a hundredth of that."),
        (0.007, "0.007 is NanoGPT's share: put in this run's numbers."),
        (5 * 768 / 524_288, "That is NanoGPT's 0.7 %: width 768 and half a million tokens."),
        (128 / 2048, "One step of the iteration costs that; Muon takes five."),
        (5 * 512 / 2048, "512 is the MLP's larger side. The iteration runs on the smaller."),
        (5 * 128 / 16, "B counts every byte of the batch: 16 sequences of 128 bytes each."),
        (5 * 128 / 128, "That is one sequence. The batch has 16, and all share the update."),
        (2048 / (5 * 128), "Upside down: B divides, since a large batch makes Muon cheap."),
    ],
    because="5 · 128 / 2048 = 31 %: a small batch makes Muon dear, and a large one makes it cheap.",
)


def bytes_to_loss(read, losses, target):
    after = int(np.argmax(losses <= target))
    before = after - 1
    share = (losses[before] - target) / (losses[before] - losses[after])
    return read[before] + share * (read[after] - read[before])


BETWEEN = "read[before] + share * (read[after] - read[before])"

q2 = Exercise(
    question="After how many bytes did the validation loss first reach the target?",
    reference=bytes_to_loss,
    cases=[
        (np.array([0.0, 100.0, 200.0, 300.0]), np.array([5.5, 3.0, 1.0, 0.8]), 1.5),
        (np.array([0.0, 10.0, 40.0]), np.array([4.0, 3.2, 1.0]), 3.9),
        (np.array([0.0, 100.0, 200.0, 300.0]), np.array([5.5, 3.0, 1.0, 2.5]), 1.25),
    ],
    hints=[
        "Between two validations take the loss as a straight line.",
        "share = (losses[before] - target) / (losses[before] - losses[after]).",
        "Go that share of the way from read[before] to read[after].",
    ],
    mistakes=[
        (BETWEEN, "read[after]", "That waits for the next validation; the loss got there earlier."),
        (BETWEEN, "read[before]", "There the loss was still above the target."),
        (
            BETWEEN,
            "share * (read[after] - read[before])",
            "That counts from the earlier validation: add read[before].",
        ),
        (BETWEEN, "share * read[after]", "Start at read[before] and go on from there."),
        (BETWEEN, "read[before] + share * read[after]", "Go a share of the way between the two."),
        (lambda r, y, t: r[np.argmin(np.abs(y - t))], "The nearest need not be past the target."),
        (
            "losses[before] - target",
            "target - losses[after]",
            "Measure from the earlier validation.",
        ),
        ("(losses[before] - t", "-(losses[before] - t", "That goes backwards: a sign is wrong."),
        (
            " / (losses[before] - losses[after])",
            "",
            "That is a loss, not a share: divide by the whole fall.",
        ),
        (" - losses[after])", ")", "Divide by the whole fall, losses[before] - losses[after]."),
        (lambda r, y, t: np.interp(t, y, r), "np.interp needs losses that rise; these fall."),
    ],
    because="The same reading for every run: it favours neither, however rare validations are.",
)


def state_numbers(hidden, rest):
    adamw = 2 * (hidden + rest)
    muon = hidden + 2 * rest
    return adamw, muon


MUON = "hidden + 2 * rest"

q3 = Exercise(
    question="How many numbers of state do AdamW and Muon keep?",
    reference=state_numbers,
    parts=("adamw", "muon"),
    cases=[(10, 1), (786_432, 66_688), (1, 10), (0, 5)],
    hints=[
        "AdamW keeps two averages per parameter: of the gradient and of its square.",
        "Muon keeps one momentum for each parameter of a hidden matrix. And the others?",
        "Embedding, head and gains are AdamW's under Muon too: two numbers each.",
    ],
    mistakes=[
        ("2 * (hidden", "(hidden", "AdamW keeps two numbers per parameter, for g and for g²."),
        ("2 * (hidden", "3 * (hidden", "AdamW's state is two numbers: the parameter is not in it."),
        ("2 * (hidden + rest)", "2 * hidden + rest", "AdamW keeps two for the rest as well."),
        ("2 * (hidden + rest)", "2 * hidden", "AdamW's own run includes the rest as well."),
        (MUON, "hidden + rest", "Under Muon the rest is still AdamW's, with two numbers each."),
        (MUON, "hidden", "Under Muon the rest is AdamW's, and that keeps state as well."),
        (MUON, "2 * hidden + rest", "The other way round: Muon keeps hidden once, the rest twice."),
        (MUON, "2 * hidden + 3 * rest", "Muon's state is what is kept besides the parameters."),
        (MUON, "2 * (hidden + rest)", "Muon keeps one number per hidden parameter: no squares."),
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
        (" / len(muon))", ")", "That is how single runs stray; a mean of n strays √n less."),
        (" / len(muon))", " / len(muon) ** 2)", "Divide by n inside the root, not outside."),
        (" / len(muon))", ") / np.sqrt(len(muon))", "gap / a / b divides twice: gap / (a / b)."),
        ("len(muon)", "(2 * len(muon))", "Each mean is of n seeds, not of the 2n of both."),
        ("np.sqrt(", "(", "That is the error squared: its root is missing."),
        (
            lambda a, m: (mean(a) - mean(m)) / ((pstdev(a) ** 2 + pstdev(m) ** 2) / len(m)) ** 0.5,
            "Divide the squares by n - 1, as stdev does. pstdev, np.std and np.var divide by n.",
        ),
        ("stdev(adamw) ** 2 + ", "", "AdamW's mean strays too: both spreads belong in the error."),
        (" + stdev(muon) ** 2", "", "Muon's mean strays too: both spreads belong in the error."),
        (
            "(stdev(adamw) ** 2 + stdev(muon) ** 2)",
            "(stdev(adamw) + stdev(muon)) ** 2",
            "Independent errors do not add up straight: add their squares, then take the root.",
        ),
        (
            lambda a, m: (mean(a) - mean(m)) / stdev(a),
            "That is how single runs of AdamW stray: a mean strays less, and Muon's strays too.",
        ),
        (
            lambda a, m: (mean(a) - mean(m)) / stdev(np.subtract(a, m)) * len(m) ** 0.5,
            "That pairs the runs. Here each optimizer's spread counts by itself: add the squares.",
        ),
        (lambda a, m: (mean(a) - mean(m)) / stdev(a + m), "The spread of all includes the gap."),
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
        "The rest of a step, forward and backward, takes the same time for both.",
        "If the optimizer has the share s of a step, forward and backward have 1 - s of it.",
        "So a step takes 1 / (1 - s) times as long as forward and backward alone.",
    ],
    mistakes=[
        (lambda f, a, m: f * a / m, "That leaves out forward and backward, most of a step."),
        (lambda f, a, m: f * m / a, "A step is mostly forward and backward: bring in 1 - share."),
        (lambda f, a, m: f * (1 - a) / (1 - m), "Upside down: the longer step is Muon's."),
        (
            lambda f, a, m: f / (1 + m - a),
            "The steps differ in length: shares cannot be subtracted.",
        ),
        (lambda f, a, m: f * (1 + a) / (1 + m), "The passes take 1 - share of a step."),
        (lambda f, a, m: f * (1 - m), "AdamW's own share counts as well."),
    ],
    because="Fewer steps are worth no more than what each of them costs.",
)


def rare_share(momentum, update):
    U, sigma, _ = np.linalg.svd(momentum, full_matrices=False)
    middle = np.median(sigma)
    rare = U[:, sigma < middle]
    return np.sum((rare.T @ update) ** 2) / np.sum(update**2)


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
            "U, sigma, _ = np.linalg.svd(momentum",
            "update = update.T; U, sigma, _ = np.linalg.svd(momentum.T",
            "Those are rows of Vh, the directions of the input. Here the output side is asked for.",
        ),
        ("U[:, sigma", "U[sigma", "Sizes do not fit: take columns, U[:, …], then rare.T @ update."),
        ("<", ">", "Those are the frequent directions: the rare ones have the small values."),
        ("<", ">=", "Those are the frequent directions and the middle one: take those below."),
        ("<", "<=", "That includes the middle one: only those below it."),
        ("/ np.sum(update**2)", "", "That is the energy itself: divide by the whole update's."),
        (lambda m, u: rare_share(m, u) ** 0.5, "That is a ratio of lengths: energy has no root."),
        (
            "(rare.T @ update) ** 2) / np.sum(update**2)",
            "rare.T @ update) / np.sum(update)",
            "Those are sums of entries, which cancel. Energy is the sum of their squares.",
        ),
        (lambda m, u: rare_share(m, m), "That is the momentum's own energy: take the update's."),
    ],
    because="An orthogonal update has half of its energy there, since half of the directions are.",
)
