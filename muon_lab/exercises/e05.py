"""Exercises of notebook 05: Muon, line by line."""

import math
from itertools import islice

import numpy as np
import torch

from muon_lab.exercises.compare import difference
from muon_lab.exercises.exercise import Exercise, Unreadable, itself
from muon_lab.orthogonalize import newton_schulz


def _arrays(count, *shape, seed=0):
    return tuple(np.random.default_rng(seed).normal(size=(count, *shape)))


def _row(*numbers):
    """Make one row: the first case of a question is small enough to be followed by hand."""
    return np.array([numbers])


def _in_place_of(old, sentences):
    """Make mistakes of a line's replacements, {new: sentence}; several questions share them."""
    return [(old, new, sentence) for new, sentence in sentences.items()]


AVERAGE = "mu * average + (1 - mu) * gradient"
AVERAGES = {
    "mu * average + gradient": "`average` is a sum: in an average the gradient counts 1 - mu.",
    "(1 - mu) * average + mu * gradient": "In `average`, mu and 1 - mu have changed places.",
    "average + (1 - mu) * gradient": "`average` never forgets: keep the share mu of it.",
    "mu * (average + gradient)": "In `average` the gradient counts mu: it should be 1 - mu.",
    "(1 - mu) * gradient": "`average` has lost what it had: keep the share mu of it.",
}


def remember(total, average, gradient, mu):
    total = mu * total + gradient
    average = mu * average + (1 - mu) * gradient
    return total, average


q1 = Exercise(
    question="Write momentum in both conventions: as a sum, and as an average.",
    reference=remember,
    parts=("total", "average"),
    cases=[
        (_row(8.0, 4.0), _row(2.0, -4.0), _row(4.0, 8.0), 0.75),
        (*_arrays(3, 2, 2), 0.95),
    ],
    hints=[
        "Both keep the share mu of what they had. How much of the gradient does each add?",
        "The sum adds the whole gradient; the average adds the share that is left: 1 - mu.",
    ],
    mistakes=[
        ("total, average\n", "average, total\n", "The order is wrong: `total` comes first."),
        *_in_place_of(
            "mu * total + gradient",
            {
                "mu * total + (1 - mu) * gradient": "`total` is an average: a sum adds all of g.",
                "total + gradient": "`total` never forgets: keep the share mu of it.",
                "mu * (total + gradient)": "`total` adds mu times the gradient: add all of it.",
            },
        ),
        *_in_place_of(AVERAGE, AVERAGES),
        (
            "(1 - mu) * gradient",
            "(1 - mu) * total",
            "`average` takes in `total`: use the gradient.",
        ),
        (
            lambda t, a, g, mu: (mu * t + g, (1 - mu) * (mu * t + g)),
            "That ignores the `average` that is given: keep mu times it.",
        ),
    ],
    because="Begun at zero, the sum is 1/(1 - mu) times the average: the same direction, longer.",
)

LERP = "lerp is a method of tensors; these are NumPy arrays: write it out."
LOOK_AHEAD = "gradient + mu * (average - gradient)"
LOOK_AHEADS = {
    "gradient + mu * average": "That is the direction for a sum: here g counts 1 - mu.",
    "gradient + (1 - mu) * (average - gradient)": (
        "The direction gives the average 1 - mu and the gradient mu: it should be the reverse."
    ),
    "gradient + mu * (gradient - average)": "The direction leads away from the average.",
    "gradient - mu * average": "The direction subtracts the average: mix it in with +mu.",
    "average": "The direction is the average, without the look-ahead: mix in (1 - mu) g.",
    "gradient": "The direction is the bare gradient: go the share mu of the way to the average.",
}


def look_ahead(average, gradient, mu):
    return gradient + mu * (average - gradient)


q2 = Exercise(
    question="Write Nesterov's direction from the average: (1 - mu) g + mu B, as one lerp.",
    reference=look_ahead,
    cases=[(_row(4.0, 8.0), _row(8.0, 4.0), 0.75), (*_arrays(2, 2, 2), 0.95)],
    hints=[
        "Start at the gradient and go the share mu of the way to the average.",
        "The way from the gradient to the average is (average - gradient).",
    ],
    mistakes=[
        *_in_place_of(LOOK_AHEAD, LOOK_AHEADS),
        (
            LOOK_AHEAD,
            "gradient + (1 - mu) * gradient + mu * average",
            "The gradient counts 2 - mu: it stands there already, so add mu times the difference.",
        ),
        (LOOK_AHEAD, "gradient.lerp(average, mu)", LERP),
        (
            LOOK_AHEAD,
            "torch.lerp(gradient, average, mu)",
            "torch.lerp takes tensors; these are NumPy arrays: write it out.",
        ),
        (LOOK_AHEAD, "mu * average", "Only the average's part is there: add (1 - mu) * gradient."),
    ],
    because="`gradient.lerp(average, mu)` in torch: a new matrix, so the buffer stays as it is.",
)

SCALE = "0.2 * math.sqrt(max(rows, columns))"
SCALES = {
    "math.sqrt(0.2 * max(rows, columns))": "0.2 is under the root: the RMS becomes √0.2 = 0.45.",
    "0.2 * max(rows, columns)": "The scale lacks its root: 80 in place of 4 for a side of 400.",
    "0.2 * math.sqrt(min(rows, columns))": "The scale takes the shorter side: take the longer.",
    "0.2 * math.sqrt(rows)": "The scale is right for tall matrices only: take the longer side.",
    "0.2 * math.sqrt(columns)": "The scale is right for wide matrices only: take the longer side.",
    "0.2 * math.sqrt(rows * columns)": "The root is of the longer side, not of both multiplied.",
    "math.sqrt(max(rows, columns))": "The scale brings the RMS to 1: the factor 0.2 is missing.",
    "math.sqrt(max(1, rows / columns))": "That is the `original` scale: it sets no RMS.",
    "0.2 * math.sqrt(max(1, rows / columns))": "That is 0.2 times the `original` scale.",
    "0.2 / math.sqrt(max(rows, columns))": "Multiply by the root: the RMS is 1/√max so far.",
    "1 / math.sqrt(max(rows, columns))": "That is the RMS before scaling. What makes it 0.2?",
    "0.2": "The scale lacks √max: the RMS would still be smaller for a longer side.",
}


def scale(rows, columns):
    return 0.2 * math.sqrt(max(rows, columns))


q3 = Exercise(
    question="Which factor gives every orthogonal (rows, columns) update an RMS of 0.2?",
    reference=scale,
    cases=[(512, 128), (128, 512), (128, 128), (3, 1000)],
    hints=[
        "The lemma: the update's RMS is 1/√max(rows, columns). What brings that to 0.2?",
        "Use math.sqrt. The 0.2 stands outside the root.",
    ],
    mistakes=_in_place_of(SCALE, SCALES),
    because="AdamW's updates have an RMS of 0.2 to 0.4, so its learning rate and decay carry over.",
)

DECAY = "weight * (1 - lr * decay)"
DECAYS = {
    "weight * (1 - lr * scale * decay)": "The decay is scaled: only the update needs the scale.",
    "weight * (1 - decay)": "The decay lacks lr: it must follow the learning rate's schedule.",
    "weight * (1 - lr)": "The decay is lr alone: multiply the weight by 1 - lr * decay.",
    "weight * (1 + lr * decay)": "The weight grows: multiply it by 1 - lr * decay.",
    "weight * lr * decay": "The weight keeps only the share that should go: 1 - lr * decay.",
    "weight": "The weight does not shrink by a share of itself: multiply it by 1 - lr * decay.",
}
SHRUNK = "The update shrinks too: decay the weight before the step."


def decayed_step(weight, update, lr, scale, decay):
    weight = weight * (1 - lr * decay)
    return weight - lr * scale * update


q4 = Exercise(
    question="Repair the decay: shrink by lr times decay, then step by lr times scale.",
    reference=decayed_step,
    cases=[
        (_row(10.0, 20.0), _row(1.0, -1.0), 0.1, 4.0, 0.5),
        (*_arrays(2, 2, 2), 0.5, 10.0, 0.1),
    ],
    hints=[
        "The scale repairs the *update's* size. Does the weight that the decay shrinks need it?",
        "weight * (1 - lr * decay), and then weight - lr * scale * update.",
    ],
    mistakes=[
        (lambda w, u, lr, s, decay: (w - lr * s * u) * (1 - lr * decay), SHRUNK),
        (DECAY, "weight - lr * decay", "Decay takes a share of each weight, not one number."),
        *_in_place_of(DECAY, DECAYS),
        *_in_place_of(
            "- lr * scale * update",
            {
                "- lr * update": "The decay is right; the step has lost its scale.",
                "- scale * update": "The decay is right; the step has lost its lr.",
                "- update": "The decay is right; the step has lost lr and scale.",
                "+ lr * scale * update": "The decay is right; the step must be subtracted.",
            },
        ),
    ],
    because="torch.optim.Muon does the same: the scale is the update's alone.",
)


def muon_step(weight, average, gradient, lr, mu, decay):
    average = mu * average + (1 - mu) * gradient
    direction = gradient + mu * (average - gradient)
    update = newton_schulz(direction)
    weight = weight * (1 - lr * decay)
    rows, columns = weight.shape
    return weight - lr * 0.2 * math.sqrt(max(rows, columns)) * update, average


def lines_of(step, rows, columns, lr, mu, decay):
    """Show what each line of a step does, and where three steps lead.

    A step from weight zero is the update alone; the rest of a step is the decayed weight.
    """
    weight, average, gradient = _arrays(3, rows, columns)

    def go(weight, average, gradient):
        result = step(weight.copy(), average.copy(), gradient.copy(), lr, mu, decay)
        if not isinstance(result, list | tuple) or len(result) != 2:
            raise Unreadable("Return two values: the new weight and the new average.")
        return result

    moved, remembered = go(weight, average, gradient)
    update, _ = go(np.zeros_like(weight), average, gradient)
    length = np.linalg.norm(update)
    trained = weight, np.zeros_like(weight)
    for count in range(3):
        trained = go(*trained, np.roll(gradient, count))
    return remembered, moved - update, update / (length or 1.0), length, trained[0]


LINES = ("new average", "decayed weight", "update's direction", "update's length", "three steps")
CONFIGURATIONS = {
    "{}×{}, lr={}, mu={}, decay={}".format(*options): options
    for options in [(4, 2, 0.1, 0.95, 0.1), (2, 4, 0.02, 0.8, 0.5), (3, 3, 0.5, 0.6, 0.0)]
}


def results(step):
    """Return what each line of a step does: {line: {configuration: result}}."""
    runs = {name: lines_of(step, *options) for name, options in CONFIGURATIONS.items()}
    return {line: {name: runs[name][i] for name in runs} for i, line in enumerate(LINES)}


RIGHT = results(muon_step)


def first_fault(step):
    """Return the right results, but for the first line that this step has wrong."""
    seen = results(step)
    wrong = (line for line in LINES if difference(RIGHT[line], seen[line], 1e-6))
    return RIGHT | {line: seen[line] for line in islice(wrong, 1)}


q5 = Exercise(
    question="Write Muon: average, look ahead, orthogonalize, decay, step by 0.2·√max.",
    reference=muon_step,
    observe=first_fault,
    hints=[
        "You have written every line of it above: questions 1 to 4.",
        "mu * average + (1 - mu) * gradient; gradient + mu * (average - gradient).",
        "weight * (1 - lr * decay); the last blank is lr * 0.2 * math.sqrt(max(rows, columns)).",
    ],
    mistakes=[
        (lambda *args: muon_step(*args)[::-1], "The order is wrong: the weight comes first."),
        *_in_place_of(AVERAGE, AVERAGES),
        (AVERAGE, "average.lerp(gradient, 1 - mu)", LERP),
        (") * gradient\n", ") * newton_schulz(gradient)\n", "Average first, then orthogonalize."),
        (") * gradient\n", ") * (gradient + decay * weight)\n", "The decay belongs to the weight."),
        *_in_place_of(
            DECAY, {new.replace("scale", "scale(*weight.shape)"): DECAYS[new] for new in DECAYS}
        ),
        *_in_place_of(LOOK_AHEAD, LOOK_AHEADS),
        *_in_place_of(
            "newton_schulz(direction)",
            {
                "direction": "The direction is not orthogonalized: that is momentum, not Muon.",
                "newton_schulz(direction.T)": "No transposing: newton_schulz keeps any shape.",
                "-newton_schulz(direction)": "The update must be subtracted: this walks uphill.",
            },
        ),
        *_in_place_of(SCALE, SCALES),
        *_in_place_of(
            "lr * 0.2 * math.sqrt(max(rows, columns)) * update",
            {
                f"{SCALE} * update": "The update lacks its learning rate: multiply it by lr.",
                "lr * update": "The update lacks its scale, 0.2·√max(rows, columns).",
                "update": "The update lacks lr and its scale.",
                f"lr * {SCALE} * (1 - lr * decay) * update": SHRUNK,
            },
        ),
    ],
    because="These are torch.optim.Muon's own steps, for a tall, a wide and a square weight.",
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


MUONS = ["filter.weight", "mix.weight"]
WRONGLY_CHOSEN = {
    "embedding.weight": "An embedding is a table: each row is looked up alone, none are mixed.",
    "head.weight": "The head has two axes, but each row belongs to one byte: AdamW takes it.",
    "norm.weight": "`norm.weight` is a gain, one number per channel: there is no matrix in it.",
    "norm.bias": "`norm.bias` is a vector, added as it is: AdamW takes it.",
    "filter.bias": "`filter.bias` is a vector: the filter's matrix is its weight.",
    "mix.bias": "`mix.bias` is a vector: it is added and maps nothing.",
}


def choice(names):
    """Return the first wrong choice or, where there is none, what is missing."""
    listed = isinstance(names, list | tuple | set)
    if not listed or not all(name in [*WRONGLY_CHOSEN, *MUONS] for name in names):
        raise Unreadable("Give a list of names that Reader has, such as ['norm.bias'].")
    wrong = [name for name in WRONGLY_CHOSEN if name in names]
    missing = [name for name in MUONS if name not in names]
    return wrong[0] if wrong else f"without {missing}"


q6 = Exercise(
    question="Which parameters of Reader get Muon? Give their names.",
    reference=MUONS,
    observe=choice,
    hints=[
        "A row of the embedding is a vector looked up by itself: no direction mixes with another.",
        "The head's rows belong to one byte each. And a kernel, flattened, is a matrix.",
    ],
    mistakes=[
        *(([*MUONS, name], sentence) for name, sentence in WRONGLY_CHOSEN.items()),
        ([], "Both are missing: which weights mix all the numbers of a vector?"),
        (MUONS[1:], "One is missing: it has three axes, and flattened it is a matrix."),
        (MUONS[:1], "One is missing: a plain matrix inside the network."),
    ],
    because="Hidden matrices only: what counts is what a module *is*, not how many axes it has.",
)


q7 = Exercise(
    question="How many bytes does Muon remember for a float32 matrix of 3072 × 768?",
    formula="3072 * 768 * 4",
    observe=itself,
    tolerance=0.01,
    hints=["One buffer, of the matrix's own shape.", "A float32 has four bytes."],
    mistakes=[
        (2 * 3072 * 768 * 4, "Twice too many: one buffer (AdamW has two), 4 bytes per number."),
        (3 * 3072 * 768 * 4, "Count neither the weight nor its gradient: only what Muon keeps."),
        (3072 * 768, "That is how many numbers there are. Each takes four bytes."),
        (3072 * 768 * 2, "Only half: the buffer has the weight's own dtype, 4 bytes per number."),
        (4 * (3072 + 768), "A matrix has rows times columns numbers, not rows plus columns."),
        (3072 * 768 * 4 / 1e6, "That is in megabytes. How many bytes?"),
        (3072 * 768 * 4 / 2**20, "That is in MiB, of 1024 · 1024 bytes each. How many bytes?"),
        (3072 * 768 * 32, "That is in bits: a float32 has four bytes."),
    ],
    because="9.4 MB, half of what AdamW keeps.",
)


q8 = Exercise(
    question="Which line of `faulty` makes this optimizer's memory wrong?",
    reference=3,
    observe=itself,
    choices=(1, 2, 3, 4),
    hints=[
        "Print the buffer's norm after each line. After which one has it changed?",
        "When does `astype(..., copy=False)` make a new array, and when does it return the old?",
        "Line 2 may give the buffer another name. Which line then writes to it?",
    ],
    mistakes=[
        (1, "Line 1 is the average, and it is meant to be written in place."),
        (2, "Line 2 prepares the fault: no copy where the dtype already fits. Which line writes?"),
        (4, "Line 4 returns a new array and writes to none that it was given."),
    ],
    because="Dividing in place writes to the buffer by its second name. `x = x / norm` mends it.",
)
