"""Exercises of notebook 08: γ, who takes which share of it, and why shared keys are left alone."""

from itertools import islice

import numpy as np
import torch

from muon_lab.exercises.compare import difference
from muon_lab.exercises.exercise import Exercise, itself


def gammas(largest, tau):
    return torch.clamp(tau / largest, max=1.0)


CLAMPED = "torch.clamp(tau / largest, max=1.0)"

q1 = Exercise(
    question="Give each head's γ from its largest logit; all largest logits here are positive.",
    reference=gammas,
    cases=[
        (torch.tensor([20.0, 100.0, 400.0, 101.0]), 100.0),
        (torch.tensor([3.0, 60.0]), 30.0),
        (torch.tensor([1.0, 2.0]), 50.0),
    ],
    hints=[
        "After multiplying by γ the largest logit of a loud head is to be exactly τ.",
        "A quiet head must be left alone: its γ is 1, never more.",
        "min(1, τ / largest), head by head: torch.clamp(..., max=1.0).",
    ],
    mistakes=[
        (CLAMPED, "tau / largest", "This turns quiet heads up to τ: no γ may be above 1."),
        ("max=", "min=", "This leaves loud heads loud and turns quiet ones up: no γ above 1."),
        (
            "tau / largest",
            "tau / largest.max() + 0 * largest",
            "Each head has its own γ, not one for all.",
        ),
        ("tau / largest", "(tau / largest) ** 0.5", "No root yet: it comes when γ is shared out."),
        ("tau / largest", "largest / tau", "Upside down: the loud head must get the small factor."),
        (
            CLAMPED,
            "min(1.0, tau / largest)",
            "Python's min and if take one number; use torch.clamp.",
        ),
        (CLAMPED, "largest / tau", "Upside down: γ times a loud head's largest is to be τ."),
        (CLAMPED, "torch.clamp(largest, max=tau)", "That is the logit after the clip, not γ."),
    ],
    because="A head at or under τ gets exactly 1, and times 1 changes not a single bit.",
)


def clip_heads(query, key, gamma):
    share = gamma.sqrt()[:, None, None]  # (heads, 1, 1)
    return query * share, key * share


AXES = "γ of shape (heads,) lines up with width, the last axis: use [:, None, None]."
ROOTS = "gamma.sqrt()[:, None, None]"

q2 = Exercise(
    question="Clip a multi-head layer; query and key are (heads, d, width), gamma is (heads,).",
    reference=clip_heads,
    parts=("query", "key"),
    cases=[
        (*torch.arange(1.0, 25).view(2, 2, 2, 3), torch.tensor([1.0, 0.25])),
        (torch.ones(3, 3, 3), torch.full((3, 3, 3), 2.0), torch.tensor([0.5, 1.0, 0.1])),
    ],
    hints=[
        "The logit feels the product of both factors, and that product is to be γ.",
        "Two equal factors whose product is γ: the root of γ, one per head: [:, None, None].",
    ],
    mistakes=[
        (ROOTS, "gamma.sqrt()", AXES),
        (ROOTS, "gamma", f"{AXES} And two factors of γ make γ²."),
        (ROOTS, "gamma.sqrt()[:, None]", "One axis more is needed on the right: (heads, 1, 1)."),
        (
            ".sqrt()",
            "",
            "Both by γ makes the logits γ² times: the head falls below τ. Share γ out.",
        ),
        (ROOTS, "gamma[:, None, None] / 2", "Factors multiply: what times itself is γ?"),
        (ROOTS, "gamma.min().sqrt()", "All heads got the smallest factor. Give each its own."),
        (".sqrt()", ".sqrt().sqrt()", "A root too many: two factors of γ^¼ make √γ."),
        (".sqrt()", ".square()", "A square makes the logits γ⁴ times: what times itself is γ?"),
    ],
    because="√γ on each side: query and key stay of one size, and their product carries γ.",
)

q3 = Exercise(
    question="Two heads share a key; their γ are 0.5 and 0.1. Each scales its query and the key "
    "by √γ. By what factor do the first head's logits change?",
    formula="0.5**0.5 * (0.5 * 0.1) ** 0.5",
    observe=itself,
    tolerance=0.02,
    hints=[
        "The first head's query is scaled once, by √0.5.",
        "The key they share is scaled by both heads: by √0.5 and then by √0.1.",
        "√0.5 · √0.5 · √0.1",
    ],
    mistakes=[
        (0.5, "So it should be. But the other head scaled the same key as well."),
        (0.05, "Close: the other head gives √0.1. Its query's share is its own business."),
        (0.1**0.5, "That is what the other head did to the key. The first did something too."),
        (0.05**0.5, "A factor √0.5 is missing: the first head scales both its query and the key."),
        (0.5**0.5, "√0.5 is one side's share alone. What happens to query and key in all?"),
        (0.1, "0.1 is the other head's γ: of that, only √0.1 on the key reaches the first."),
        (15.8, "That is right in percent. As a factor it is a hundredth of that."),
        (0.25, "0.5² is γ twice: the other head gives √0.1, and each share is a root."),
    ],
    because="0.5 was wanted and 0.158 came out: what is shared is scaled once for every sharer.",
)


WHOLE = "The key is to stay, so the query takes all of γ, not √γ."


def clip_group(query, key, gamma):
    return query * gamma[:, None, None], key


q4 = Exercise(
    question="Clip grouped-query attention: query is (heads, d, width), key (kv_heads, d, width).",
    reference=clip_group,
    parts=("query", "key"),
    cases=[
        (*torch.arange(1.0, 37).view(6, 2, 3).split(4), torch.tensor([1.0, 0.25, 0.5, 0.04])),
        (torch.ones(6, 6, 6), torch.ones(3, 6, 6), torch.tensor([0.3, 0.9, 1, 0.2, 0.6, 0.7])),
    ],
    hints=[
        "Each head needs its own γ, but heads in a group have one key. What is a head's own?",
        "Leave the key as it is; then the query must carry the whole γ: [:, None, None].",
    ],
    mistakes=[
        ("[:, None, None]", "", f"In the query, {AXES}"),
        ("gamma[:, None, None]", "gamma.sqrt()", f"{WHOLE} And {AXES}"),
        ("[:, None, None]", "[:, None]", "One axis more is needed on the right: (heads, 1, 1)."),
        ("gamma[", "gamma.sqrt()[", WHOLE),
        (
            "None], key",
            "None], key * gamma[:, None, None]",
            "γ has an entry per query head, and keys are fewer. Must the key change at all?",
        ),
        (
            lambda q, k, g: (q * g.view(-1, 1, 1).sqrt(), k * g.view(-1, 2, 1, 1).prod(1).sqrt()),
            "The key was scaled once for every head that reads it, and each head feels them all.",
        ),
        (
            lambda q, k, g: clip_group(q, k, g.view(-1, 2).amin(1).repeat_interleave(2)),
            "The whole group got its loudest head's factor: the quiet ones are turned down too.",
        ),
        ("query * gamma[:, None, None]", "query", "The query stays as it was: who carries γ?"),
    ],
    because="What a head owns alone can carry its whole γ; what it shares stays untouched.",
)


def clip_latent(q_content, k_content, q_rotary, k_rotary, gamma):
    return q_content * gamma**0.5, k_content * gamma**0.5, q_rotary * gamma, k_rotary


def summands(clip, q_content, k_content, q_rotary, k_rotary, gamma):
    """Return what a clip leaves alone, both parts of the logits, and how content shares γ."""
    qc, kc, qr, kr = clip(q_content, k_content, q_rotary, k_rotary, gamma)
    whole = torch.equal(torch.as_tensor(kr), k_rotary)
    return {"k_R untouched": whole, "q_R·k_R": qr * k_rotary, "q_C·k_C": qc * kc, "q_C": qc}


def first_fault(clip, q_content, k_content, q_rotary, k_rotary, gamma):
    """Return the right results, but for the first that this clip has wrong."""
    case = q_content, k_content, q_rotary, k_rotary, gamma
    right, seen = summands(clip_latent, *case), summands(clip, *case)
    wrong = (name for name in right if difference(right[name], seen[name], 1e-6))
    return right | {name: seen[name] for name in islice(wrong, 1)}


GAMMAS = torch.tensor([0.25, 0.81])
CONTENT = "q_content * gamma**0.5, k_content * gamma**0.5"

q5 = Exercise(
    question="Clip latent attention; all parts are (heads,) numbers but the one shared k_rotary.",
    reference=clip_latent,
    observe=first_fault,
    cases=[
        (*torch.tensor([[3.0, 2.0], [5.0, 1.0], [1.0, 4.0]]), torch.tensor(2.0), GAMMAS),
    ],
    hints=[
        "A logit is q_C·k_C + q_R·k_R, and each of the two summands is to become γ times itself.",
        "A head owns its q_C, k_C and q_R. The rotary key belongs to all heads.",
        "√γ, √γ, γ, 1.",
    ],
    mistakes=[
        (", k_rotary\n", ", k_rotary * gamma\n", "k_R is one for all heads: leave it as it is."),
        ("q_rotary * gamma", "q_rotary * gamma**0.5", "With k_R left alone, q_R takes all of γ."),
        ("q_rotary * gamma", "q_rotary", "q_R·k_R is as large as before: who carries its γ?"),
        ("q_rotary * gamma", "q_rotary * gamma**2", "q_R·k_R got γ²: q_R takes γ once."),
        (CONTENT, "q_content * gamma, k_content * gamma", "q_C·k_C got γ²: share γ between them."),
        (CONTENT, "q_content * gamma**0.5, k_content", "q_C·k_C got √γ in all, not γ."),
        (CONTENT, "q_content, k_content", "q_C·k_C is as large as before: who carries its γ?"),
        (
            CONTENT,
            "q_content * gamma, k_content",
            "The logit is right, but k_C takes half the work: √γ.",
        ),
        (
            CONTENT,
            "q_content, k_content * gamma",
            "The logit is right, but q_C takes half the work: √γ.",
        ),
    ],
    because="Both summands carry γ exactly, so the whole logit does; k_R is nobody's own.",
)


def clipped_share(maxima, tau):
    return [float((step > tau).mean()) for step in maxima]


SHARE = "(step > tau).mean()"

q6 = Exercise(
    question="What share of all heads is above τ, at each step? maxima is (steps, layers, heads).",
    reference=clipped_share,
    cases=[
        (np.array([[[3.0, 60.0], [31.0, 2.0]], [[5.0, 9.0], [30.0, 1.0]]]), 30.0),
        (np.array([[[400.0, 90.0, 1.0]]]), 100.0),
        (np.array([[[40.0, 1.0, 60.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]), 30.0),
    ],
    hints=[
        "step is (layers, heads): compare it with τ, and count.",
        "The mean of a comparison is the share that is true.",
    ],
    mistakes=[
        ("mean", "any", "That says whether any head is above. How large a share of them?"),
        ("mean", "sum", "That is a count. Divide by the number of heads."),
        (SHARE, "100 * (step > tau).mean()", "That is right in percent: give a share of 1."),
        (
            lambda maxima, tau: list((maxima > tau).mean(1)),
            "That is several shares per step, one for each head of a layer: average them too.",
        ),
        (
            lambda maxima, tau: list((maxima > tau).mean(2)),
            "That is several shares per step, one for each layer: average them too.",
        ),
        (
            lambda maxima, tau: list(maxima > tau),
            "That says of each head whether it is above. What share of them is?",
        ),
        (SHARE, "(step > tau).sum() / len(step)", "len(step) counts layers: divide by all heads."),
        (SHARE, "(step.mean() > tau)", "A mean hides single heads: compare first, then average."),
        (SHARE, "(maxima > tau).mean()", "That is over all steps together: look at each `step`."),
        (">", "<", "Those are the quiet heads: count those above τ."),
        (">", ">=", "A head exactly at τ is not clipped: count those above."),
    ],
    because="Clipping is about single heads; a share over time shows when it stops.",
)
