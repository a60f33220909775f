"""Exercises of notebook 08: γ, who takes which share of it, and why shared keys are left alone."""

import numpy as np
import torch

from muon_lab.exercises.exercise import Exercise, itself


def gammas(largest, tau):
    return torch.clamp(tau / largest, max=1.0)


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
        (
            lambda largest, tau: tau / largest,
            "This turns quiet heads up to τ. The clip only turns down: no γ above 1.",
        ),
        (
            lambda largest, tau: torch.clamp(tau / largest.max(), max=1.0).expand_as(largest),
            "One loud head turns all the others down here. Each head has its own γ.",
        ),
        (
            lambda largest, tau: torch.clamp((tau / largest) ** 0.5, max=1.0),
            "The root comes later, when γ is shared out between query and key. γ itself has none.",
        ),
        (
            lambda largest, tau: torch.clamp(largest / tau, max=1.0),
            "Upside down: the loud head must get the small factor.",
        ),
    ],
    because="A head at or under τ gets exactly 1, and times 1 changes not a single bit.",
)


def clip_heads(query, key, gamma):
    share = gamma.sqrt()[:, None, None]  # (heads, 1, 1)
    return query * share, key * share


q2 = Exercise(
    question="Clip a multi-head layer; query and key are (heads, d, width), gamma is (heads,).",
    reference=clip_heads,
    cases=[
        (
            torch.arange(1.0, 13).view(2, 2, 3),
            torch.arange(2.0, 14).view(2, 2, 3) / 3,
            torch.tensor([1.0, 0.25]),
        ),
        (torch.ones(3, 3, 3), torch.full((3, 3, 3), 2.0), torch.tensor([0.5, 1.0, 0.1])),
    ],
    hints=[
        "The logit feels the product of both factors, and that product is to be γ.",
        "Two equal factors whose product is γ: the root of γ, one a head: [:, None, None].",
    ],
    mistakes=[
        (
            lambda q, k, g: (q * g[:, None, None], k * g[:, None, None]),
            "Both by γ makes the logits γ² times: the head falls below τ. Share γ out.",
        ),
        (
            lambda q, k, g: (q * g[:, None, None] / 2, k * g[:, None, None] / 2),
            "Halves add up to γ, but factors multiply: what times itself is γ?",
        ),
        (
            lambda q, k, g: (q * g.min() ** 0.5, k * g.min() ** 0.5),
            "All heads got the smallest factor. Give each head its own.",
        ),
        (
            lambda q, k, g: (q * g[:, None, None] ** 0.25, k * g[:, None, None] ** 0.25),
            "A root too many: two factors of γ^¼ make √γ.",
        ),
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
        (0.05, "Close: the other head gives √0.1, its query's share is its own business."),
        (0.1**0.5, "That is what the other head did to the key. The first did something too."),
    ],
    because="0.5 was wanted and 0.158 came out: what is shared is scaled once for every sharer.",
)


def clip_group(query, key, gamma):
    return query * gamma[:, None, None], key


q4 = Exercise(
    question="Clip grouped-query attention: query is (heads, d, width), key (kv_heads, d, width).",
    reference=clip_group,
    cases=[
        (
            torch.arange(1.0, 25).view(4, 2, 3),
            torch.arange(2.0, 14).view(2, 2, 3),
            torch.tensor([1.0, 0.25, 0.5, 0.04]),
        ),
        (torch.ones(2, 2, 2), torch.ones(1, 2, 2), torch.tensor([0.3, 0.9])),
    ],
    hints=[
        "Each head needs its own γ, but heads in a group have one key. What is a head's own?",
        "Leave the key as it is; then the query must carry the whole γ.",
    ],
    mistakes=[
        (
            lambda q, k, g: (q * g.sqrt()[:, None, None], k),
            "With the key left alone, √γ on the query leaves the head above τ: it takes all of γ.",
        ),
        (
            lambda q, k, g: (
                q * g.sqrt()[:, None, None],
                k * g.view(len(k), -1).prod(1).sqrt()[:, None, None],
            ),
            "The key was scaled once for every head that reads it, and each head feels them all.",
        ),
        (
            lambda q, k, g: (
                q * g.view(len(k), -1).amin(1).repeat_interleave(len(q) // len(k))[:, None, None],
                k,
            ),
            "The whole group got its loudest head's factor: the quiet ones are turned down too.",
        ),
    ],
    because="What a head owns alone can carry its whole γ; what it shares stays untouched.",
)


def clip_latent(q_content, k_content, q_rotary, k_rotary, gamma):
    return q_content * gamma**0.5, k_content * gamma**0.5, q_rotary * gamma, k_rotary


q5 = Exercise(
    question="Clip latent attention; all parts are (heads,) numbers but the one shared k_rotary.",
    reference=clip_latent,
    cases=[
        (
            torch.tensor([3.0, 2.0]),
            torch.tensor([5.0, 1.0]),
            torch.tensor([1.0, 4.0]),
            torch.tensor(2.0),
            torch.tensor([0.25, 0.81]),
        ),
    ],
    hints=[
        "A logit is q_C·k_C + q_R·k_R, and each of the two summands is to become γ times itself.",
        "A head owns its q_C, k_C and q_R. The rotary key belongs to all heads.",
        "√γ, √γ, γ, 1.",
    ],
    mistakes=[
        (
            lambda qc, kc, qr, kr, g: (qc * g**0.5, kc * g**0.5, qr * g**0.5, kr),
            "The rotary summand shrinks by √γ only: its key is not scaled, so q_R takes all of γ.",
        ),
        (
            lambda qc, kc, qr, kr, g: (qc * g**0.5, kc * g**0.5, qr * g**0.5, kr * g**0.5),
            "The one rotary key cannot take a factor for each head: leave it alone.",
        ),
        (
            lambda qc, kc, qr, kr, g: (qc * g, kc * g, qr * g, kr),
            "The content summand became γ² times itself: share γ out between q_C and k_C.",
        ),
        (
            lambda qc, kc, qr, kr, g: (qc * g, kc, qr * g, kr),
            "That keeps τ as well. But q_C and k_C are both the head's own: share γ out evenly.",
        ),
        (
            lambda qc, kc, qr, kr, g: (qc, kc * g, qr * g, kr),
            "Every logit is γ times itself here. K2 halves the way, though: √γ on q_C and on k_C.",
        ),
        (
            lambda qc, kc, qr, kr, g: (qc * g**0.5, kc * g**0.5, qr, kr),
            "The rotary summand is as large as before, so the logit is not γ times the old one.",
        ),
    ],
    because="Both summands carry γ exactly, so the whole logit does; k_R is nobody's own.",
)


def clipped_share(maxima, tau):
    return [float((step > tau).mean()) for step in maxima]


q6 = Exercise(
    question="What share of all heads is above τ, at each step? maxima is (steps, layers, heads).",
    reference=clipped_share,
    cases=[
        (np.array([[[3.0, 60.0], [31.0, 2.0]], [[5.0, 9.0], [29.0, 1.0]]]), 30.0),
        (np.array([[[400.0, 90.0, 1.0]]]), 100.0),
        (np.array([[[40.0, 1.0, 60.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]), 30.0),
    ],
    hints=[
        "step is (layers, heads): compare it with τ, and count.",
        "The mean of a comparison is the share that is true.",
    ],
    mistakes=[
        (
            lambda maxima, tau: [float((step > tau).any()) for step in maxima],
            "That says whether any head is above. How large a share of them?",
        ),
        (
            lambda maxima, tau: [float((step > tau).sum()) for step in maxima],
            "That is a count. Divide by the number of heads.",
        ),
        (
            lambda maxima, tau: [float(step.mean() > tau) for step in maxima],
            "The mean logit says little of single heads: compare first, then average.",
        ),
    ],
    because="Clipping is about single heads; a share over time shows when it stops.",
)
