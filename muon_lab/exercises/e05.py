"""Exercises of notebook 05: Muon, line by line."""

import math

import numpy as np
import torch

from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.orthogonalize import newton_schulz


def _array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def remember(total, average, gradient, mu):
    total = mu * total + gradient
    average = mu * average + (1 - mu) * gradient
    return total, average


q1 = Exercise(
    question="Write momentum in both conventions: as a sum, and as an average.",
    reference=remember,
    cases=[
        (_array(2, 3), _array(2, 3, seed=1), _array(2, 3, seed=2), 0.95),
        (np.zeros((1, 2)), np.zeros((1, 2)), np.array([[4.0, -2.0]]), 0.5),
    ],
    hints=[
        "Both keep the share mu of what they had. How much of the gradient does each add?",
        "The sum adds the whole gradient; the average adds the share that is left: 1 - mu.",
    ],
    mistakes=[
        (
            lambda t, a, g, mu: (mu * t + g, mu * a + g),
            "Both are the sum now. An average has weights that add up to 1: mu and 1 - mu.",
        ),
        (
            lambda t, a, g, mu: (mu * t + (1 - mu) * g, mu * a + (1 - mu) * g),
            "Both are the average now. The sum adds the gradient whole.",
        ),
        (
            lambda t, a, g, mu: (mu * t + g, (1 - mu) * a + mu * g),
            "The average's weights are exchanged: this one forgets 95 % at each step.",
        ),
    ],
    because="The sum is 1/(1 - mu) times the average: 20 times as long at 0.95, and as directed.",
)


def look_ahead(average, gradient, mu):
    return gradient + mu * (average - gradient)


q2 = Exercise(
    question="Write Nesterov's direction from the average: (1 - mu) g + mu B, as one lerp.",
    reference=look_ahead,
    cases=[(_array(2, 3), _array(2, 3, seed=1), 0.95), (_array(1, 4), _array(1, 4, seed=3), 0.5)],
    hints=[
        "Start at the gradient and go the share mu of the way to the average.",
        "The way from the gradient to the average is (average - gradient).",
    ],
    mistakes=[
        (
            lambda average, gradient, mu: gradient + mu * average,
            "That is Nesterov for the sum, g + mu B. An average must weigh g by 1 - mu.",
        ),
        (
            lambda average, gradient, mu: average + mu * (gradient - average),
            "Only 5 % of the way from the gradient to the average: the two have changed places.",
        ),
    ],
    because="`gradient.lerp(average, mu)` in torch: a fresh matrix, so the buffer stays as it is.",
)


def scale(rows, columns):
    return 0.2 * math.sqrt(max(rows, columns))


q3 = Exercise(
    question="Which factor gives every orthogonal (rows, columns) update an RMS of 0.2?",
    reference=scale,
    cases=[(128, 128), (512, 128), (128, 512), (3, 1000)],
    hints=[
        "The lemma: the update's RMS is 1/√max(rows, columns). What brings that to 0.2?",
        "Use math.sqrt. The 0.2 stands outside of the root.",
    ],
    mistakes=[
        (
            lambda rows, columns: math.sqrt(0.2 * max(rows, columns)),
            "The 0.2 slipped under the root: the RMS becomes √0.2 = 0.45. Public code has that.",
        ),
        (
            lambda rows, columns: 0.2 * max(rows, columns),
            "The root is missing: a wide layer would move 20 times too fast.",
        ),
        (
            lambda rows, columns: 0.2 * math.sqrt(min(rows, columns)),
            "That is right for square matrices. For others the longer side decides.",
        ),
        (
            lambda rows, columns: math.sqrt(max(1, rows / columns)),
            "That is the `original` scale; it keeps the spectral norm in view and not the RMS.",
        ),
        (
            lambda rows, columns: 0.2 / math.sqrt(max(rows, columns)),
            "Multiply by the root: the update has been divided by it already.",
        ),
    ],
    because="AdamW's updates have an RMS of 0.2 to 0.4, so its learning rate and decay carry over.",
)


def decayed_step(weight, update, lr, scale, decay):
    weight = weight * (1 - lr * decay)
    return weight - lr * scale * update


q4 = Exercise(
    question="Repair the decay: shrink by lr times decay, then step by lr times scale.",
    reference=decayed_step,
    cases=[
        (_array(3, 2), _array(3, 2, seed=1), 0.1, 4.0, 0.5),
        (_array(2, 2), np.zeros((2, 2)), 0.5, 10.0, 0.1),
    ],
    hints=[
        "The scale repairs the *update's* size. Does the weight that the decay shrinks need it?",
        "weight * (1 - lr * decay), and then weight - lr * scale * update.",
    ],
    mistakes=[
        (
            lambda w, u, lr, scale, decay: w * (1 - lr * scale * decay) - lr * scale * u,
            "The fault still stands: with the scale, wide layers shrink faster than narrow ones.",
        ),
        (
            lambda w, u, lr, scale, decay: w * (1 - decay) - lr * scale * u,
            "Without lr the weights are gone in a few steps, whatever the schedule says.",
        ),
        (
            lambda w, u, lr, scale, decay: (w - lr * scale * u) * (1 - lr * decay),
            "Here the step is shrunk too. First the decay, then the step.",
        ),
        (
            lambda w, u, lr, scale, decay: w * (1 - lr * decay) - lr * u,
            "The decay is right. Now the step has lost its scale.",
        ),
    ],
    because="torch.optim.Muon does so too: only the update is scaled.",
)


def muon_step(weight, average, gradient, lr, mu, decay):
    average = average + (1 - mu) * (gradient - average)
    direction = gradient + mu * (average - gradient)
    update = newton_schulz(direction)
    weight = weight * (1 - lr * decay)
    rows, columns = weight.shape
    return weight - lr * 0.2 * math.sqrt(max(rows, columns)) * update, average


def _muon_variant(*, average=None, direction=None, scale=None, orthogonal=newton_schulz):
    """Return `muon_step` with one of its lines replaced."""

    def step(weight, buffer, gradient, lr, mu, decay):
        buffer = (average or (lambda b, g, mu: b + (1 - mu) * (g - b)))(buffer, gradient, mu)
        ahead = (direction or (lambda b, g, mu: g + mu * (b - g)))(buffer, gradient, mu)
        size = (scale or (lambda r, c: 0.2 * math.sqrt(max(r, c))))(*weight.shape)
        return weight * (1 - lr * decay) - lr * size * orthogonal(ahead), buffer

    return step


q5 = Exercise(
    question="Write Muon: average, look ahead, orthogonalize, decay, step by 0.2·√max.",
    reference=muon_step,
    cases=[
        (_array(4, 6), np.zeros((4, 6)), _array(4, 6, seed=1), 0.1, 0.95, 0.1),
        (_array(6, 3, seed=2), _array(6, 3, seed=3), _array(6, 3, seed=4), 0.02, 0.5, 0.0),
    ],
    hints=[
        "You have written every line of it above: questions 1 to 4.",
        "average + (1 - mu) * (gradient - average); gradient + mu * (average - gradient).",
        "weight * (1 - lr * decay); the last blank is lr * 0.2 * math.sqrt(max(rows, columns)).",
    ],
    mistakes=[
        (
            _muon_variant(average=lambda b, g, mu: mu * b + g),
            "The buffer is a sum now, but the look-ahead is that of the average: they must match.",
        ),
        (
            _muon_variant(direction=lambda b, g, mu: b),
            "Right but for the look-ahead: orthogonalize gradient + mu * (average - gradient).",
        ),
        (
            _muon_variant(scale=lambda r, c: math.sqrt(max(1, r / c))),
            "That is the `original` scale. Here 0.2·√max(rows, columns) is asked for.",
        ),
        (
            _muon_variant(scale=lambda r, c: 1.0),
            "The scale is missing: a wide matrix would move less than a narrow one.",
        ),
        (
            _muon_variant(direction=lambda b, g, mu: g),
            "The average is kept but not used: this orthogonalizes the bare gradient.",
        ),
    ],
    because="That is the whole optimizer. The rest of the module finds the state and makes stacks.",
)


class Reader(torch.nn.Module):
    """A small model with every kind of parameter that question 6 asks about."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(256, 64)
        self.filter = torch.nn.Conv1d(64, 64, 3)
        self.norm = torch.nn.LayerNorm(64)
        self.mix = torch.nn.Linear(64, 64)
        self.head = torch.nn.Linear(64, 256, bias=False)


_PARAMETERS = dict(Reader().named_parameters())
_WITH_TWO_AXES = [n for n, p in _PARAMETERS.items() if p.ndim == 2]
_ALL_WEIGHTS = [n for n in _PARAMETERS if n.endswith("weight")]


def choice(names):
    """Say what is chosen, and of the right choice only that it is right."""
    if isinstance(names, str) or not set(names) <= set(_PARAMETERS):
        raise ValueError("give a list of names that Reader has, such as 'norm.bias'")
    chosen = sorted(set(names))
    right = chosen == ["filter.weight", "mix.weight"]
    return "all hidden matrices and nothing else" if right else ", ".join(chosen) or "none"


q6 = Exercise(
    question="Which parameters of Reader get Muon? Give their names.",
    reference=["filter.weight", "mix.weight"],
    observe=choice,
    hints=[
        "A row of the embedding is a vector looked up by itself: no direction mixes with another.",
        "The head's rows belong to one byte each. And a kernel, flattened, is a matrix.",
    ],
    mistakes=[
        (
            _WITH_TWO_AXES,
            "`ndim == 2` takes embedding and head for hidden matrices, and misses the kernel.",
        ),
        (
            ["mix.weight"],
            "One is missing: a kernel (out, in, 3), flattened, maps in·3 numbers to out.",
        ),
        (
            _ALL_WEIGHTS,
            "`norm.weight` is a gain, one number a channel; there is no matrix to orthogonalize.",
        ),
        (
            ["filter.weight", "head.weight", "mix.weight"],
            "The head is left to AdamW in the references: its rows are bytes, rare ones too.",
        ),
        (
            ["embedding.weight", "filter.weight", "mix.weight"],
            "An embedding's gradient is zero in all rows not seen: it is a table, no map.",
        ),
    ],
    because="Hidden matrices only, and what a module *is* tells them, not how many axes it has.",
)


q7 = Exercise(
    question="How many bytes does Muon remember for a float32 matrix of 3072 × 768?",
    formula="3072 * 768 * 4",
    observe=itself,
    tolerance=1e-9,
    hints=[
        "One buffer, of the matrix's own shape.",
        "A float32 has four bytes.",
    ],
    mistakes=[
        (2 * 3072 * 768 * 4, "That is AdamW: it keeps a second buffer, for the squares."),
        (3072 * 768, "So many numbers. Each takes four bytes."),
        (3072 * 768 * 2, "It iterates in bfloat16; but the buffer has the weight's own dtype."),
    ],
    because="9.4 MB, half of what AdamW keeps.",
)


q8 = Exercise(
    question="Which line of `faulty` makes this optimizer's memory wrong?",
    reference=3,
    observe=itself,
    tolerance=1e-9,
    hints=[
        "Print the buffer before and after. Its norm tells.",
        "When does `astype(..., copy=False)` make a new array, and when does it hand back the old?",
        "Line 2 may give the buffer another name. Which line then writes to it?",
    ],
    mistakes=[
        (1, "Line 1 is the average, and it is meant to be written in place."),
        (2, "Line 2 lays the trap: no copy where the dtype is right already. Who writes?"),
        (4, "Line 4 makes a new array at each step and writes to none that it was given."),
    ],
    because="Dividing in place writes through the second name. `x = x / norm` mends it.",
)
