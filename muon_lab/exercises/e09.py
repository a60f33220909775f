"""Exercises of notebook 09: what orthogonalization costs, and what makes it fast."""

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.polynomials import JORDAN, SCHEDULES


def step_flops(shapes, steps):
    total = 0
    for rows, columns in shapes:
        m, n = min(rows, columns), max(rows, columns)
        total += steps * (4 * m**2 * n + 2 * m**3)
    return total


EACH = "4 * m**2 * n + 2 * m**3"

q1 = Exercise(
    question="How many FLOPs does Newton-Schulz take for all hidden matrices together?",
    reference=step_flops,
    cases=[([(128, 128)], 5), ([(512, 128), (128, 512)], 5), ([(4, 6), (5, 5), (9, 2)], 3)],
    hints=[
        "Three products per step: X Xᵀ, A A, and the sum of both times X.",
        "(m, k) times (k, n) takes 2·m·k·n FLOPs: a multiplication and an addition per term.",
        "m is the smaller side: the iteration transposes a tall matrix first.",
    ],
    mistakes=[
        (EACH, "2 * m**2 * n + m**3", "A term is a multiplication and an addition: count both."),
        (EACH, "2 * m**2 * n + 2 * m**3", "Two products have the long side: X Xᵀ, and B times X."),
        (EACH, "4 * m**2 * n", "A A is missing: a product of two (m, m) matrices."),
        (EACH, "6 * m**2 * n", "A A has no long side: it is (m, m) times (m, m), 2m³."),
        (EACH, "4 * n**2 * m + 2 * n**3", "That is on the longer side. Transpose first."),
        (
            "min(rows, columns), max(rows, columns)",
            "rows, columns",
            "A tall matrix is transposed first: m is the smaller side, whichever it is.",
        ),
        ("steps * (", "(", "That is one step of the iteration: there are `steps` of them."),
        ("total += ", "total = ", "That is the last matrix alone: add them all up."),
    ],
    because="T(4m²n + 2m³) per matrix: for GPT-2 small's 72 matrices, 1.63 TFLOP per step.",
)


q2 = Exercise(
    question="From which α = n/m on does the Gram form need fewer FLOPs?",
    formula="(22 - 10) / (20 - 12)",
    observe=itself,
    tolerance=0.01,
    hints=[
        "Set the two counts equal: 20α + 10 = 12α + 22.",
        "The Gram form saves 8α and pays 12 more.",
    ],
    mistakes=[
        ((20 - 12) / (22 - 10), "Upside down: 8α has to make up for 12."),
        (4.0, "At 4 it is 70 against 90 already. Where are 20α + 10 and 12α + 22 equal?"),
        ((22 + 10) / (20 + 12), "That is where the sum is as large; set them equal instead."),
        (22 / 12, "Compare with the standard form: 20α + 10."),
    ],
    because="At α = 1.5 both take 40 m³; at 4, as in an MLP, it is 70 against 90.",
)


def binding(calls, moved, flops, call_seconds, bytes_per_second, flops_per_second):
    times = {
        "launches": calls * call_seconds,
        "bytes": moved / bytes_per_second,
        "arithmetic": flops / flops_per_second,
    }
    return max(times, key=times.get)


q3 = Exercise(
    question="What takes longest: launches, bytes or arithmetic?",
    reference=binding,
    cases=[
        (15, 1e6, 1e8, 1e-5, 1e10, 1e12),  # 150, 100, 100 microseconds
        (15, 1e7, 1e8, 1e-6, 1e10, 1e12),  # 15, 1000, 100
        (15, 1e7, 1e10, 1e-6, 1e10, 1e12),  # 15, 1000, 10,000
        (1000, 5e6, 4e8, 1e-6, 1e10, 1e12),  # 1000, 500, 400
    ],
    hints=[
        "Three times in seconds: each is an amount, and a rate or a time per piece.",
        "calls * call_seconds, moved / bytes_per_second, flops / flops_per_second.",
        "The name of the largest: max(times, key=times.get).",
    ],
    mistakes=[
        ("max(", "min(", "That names the fastest of the three. The slowest one binds."),
        ("calls * call_seconds", "call_seconds", "Every call has to be started: calls times."),
        (
            lambda c, b, f, *_: max((c, "launches"), (b, "bytes"), (f, "arithmetic"))[1],
            "Amounts cannot be compared: bytes and FLOPs need their rates. Compare seconds.",
        ),
        (
            lambda c, b, f, s, w, r: "bytes" if f / b < r / w else "arithmetic",
            "Bytes against arithmetic is right, but launches may take longer than either.",
        ),
    ],
    because="They overlap, so the slowest sets the pace. A faster one of the others gains nothing.",
)


def gram_form(x, triples, restart_after):
    eye = np.eye(len(x))
    for start in range(0, len(triples), restart_after):
        R, Q = x @ x.T, eye
        for a, b, c in triples[start : start + restart_after]:
            Z = a * eye + b * R + c * R @ R
            Q = Z @ Q
            R = Z @ R @ Z
        x = Q @ x
    return x


_random = np.random.default_rng(0)

q4 = Exercise(
    question="Write the Gram form with restarts: touch the wide matrix only once per chunk.",
    reference=gram_form,
    cases=[
        (_random.normal(size=(3, 7)) / 6, [JORDAN] * 5, 2),
        (_random.normal(size=(4, 4)) / 6, list(SCHEDULES["you"].coefficients), 3),
        (_random.normal(size=(2, 5)) / 4, [JORDAN] * 3, 3),
    ],
    hints=[
        "One step is X ← Z X with Z = aI + bR + cR². Collect the product of all Z in Q.",
        "If X becomes Z X, then R = X Xᵀ becomes Z R Zᵀ, and Z is symmetric.",
        "At the end of a chunk: x = Q @ x. The next chunk begins with R = x @ x.T.",
    ],
    mistakes=[
        ("R = Z @ R @ Z", "R = Z @ R", "R is X Xᵀ: X has Z on its left, so R has it on both."),
        ("R = Z @ R @ Z", "R = R", "R must follow X: after a step it is Z R Z."),
        ("Q = Z @ Q", "Q = Z", "Q forgets the earlier steps of the chunk: multiply them up."),
        ("Q = Z @ Q", "Q = Z + Q", "Steps follow one another: their Z multiply, they do not add."),
        ("x = Q @ x\n    return x", "pass\n    return Q @ x", "x stays as it was: at each "
         "restart it must be Q @ x."),
        ("a * eye + b * R", "a * eye + b * x @ x.T", "Z takes the present R, not the first one."),
        ("+ c * R @ R", "+ c * R * R", "R² is R @ R; R * R squares each entry by itself."),
        ("a * eye + b", "a + b", "a times the identity: `a + matrix` adds a to every entry."),
    ],
    because="Inside a chunk all is (m, m): for m much smaller than n that is most of the saving.",
)  # fmt: skip


q5 = Exercise(
    question="From how many tokens per batch on is T·m/B at most 1 %, at width 768?",
    formula="5 * 768 / 0.01",
    observe=itself,
    tolerance=0.01,
    hints=[
        "T·m/B = 0.01, with T = 5 and m = 768. Solve for B.",
        "B = T·m / 0.01.",
    ],
    mistakes=[
        (5 * 768, "There T·m/B is 1, that is 100 %. For a hundredth of it?"),
        (5 * 768 * 0.01, "Upside down: a smaller share takes a larger batch."),
        (768 / 0.01, "That is one step of the iteration. Muon takes five."),
        (5 * 3072 / 0.01, "3072 is the MLP's longer side; m is the smaller."),
        (5 * 768 / 0.1, "That is where it is 10 %."),
    ],
    because="384,000 tokens. NanoGPT's batch of 524,288 is just above that: 0.73 %.",
)


def seconds_share(flops_share, model_rate, muon_rate):
    return flops_share * model_rate / muon_rate


q6 = Exercise(
    question="Muon adds a share of FLOPs. What share of the seconds is that?",
    reference=seconds_share,
    cases=[(0.31, 50.0, 200.0), (0.01, 400.0, 100.0), (0.2, 3.0, 3.0)],
    hints=[
        "Seconds are FLOPs over the rate, for the model as for Muon.",
        "(Muon's FLOPs / muon_rate) / (the model's FLOPs / model_rate).",
    ],
    mistakes=[
        (lambda s, a, b: s * b / a, "Upside down: if Muon's products run faster, it takes less."),
        (lambda s, a, b: s, "That is the share of FLOPs. The two run at different rates."),
        (lambda s, a, b: s / b, "The model's seconds count too: its FLOPs over model_rate."),
    ],
    because="Stacks of equal shapes in bfloat16 run faster than the model: Muon costs less here.",
)
