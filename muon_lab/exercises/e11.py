"""Exercises of notebook 11: a published Muon to mend, and faults to name by experiment."""

from collections.abc import Callable

import numpy as np

from muon_lab.exercises.exercise import Exercise, itself
from muon_lab.orthogonalize import newton_schulz, polar_factor
from muon_lab.polynomials import resolve


def published_update(gradient):
    """Return the update of the Muon to mend: no line of it after the first is right."""
    rows = len(gradient)
    gram = gradient @ gradient.T / rows
    root = np.sqrt(gram)
    return gradient.T @ root @ gradient


q1 = Exercise(
    question="Which shape has the published update of a gradient of shape (4, 6)?",
    reference=(6, 6),
    observe=itself,
    parts=("rows", "columns"),
    hints=[
        "B Bᵀ is (4, 4), and so is whatever root is taken of it.",
        "Bᵀ (6, 4) times the root (4, 4) times B (4, 6): which two sides are left?",
    ],
    mistakes=[
        ((4, 6), "That is the weight's shape, which the update should have. Multiply it out."),
        ((4, 4), "That is the root's shape: Bᵀ on its left and B on its right still follow."),
        ((6, 4), "That is the shape of Bᵀ @ root: the last factor is missing."),
    ],
    because="It cannot be subtracted from a (4, 6) weight; for a square one nobody notices.",
)


def _grams():
    generator = np.random.default_rng(0)
    matrices = [generator.normal(size=shape) for shape in ((2, 3), (3, 5))]
    return [(matrix @ matrix.T,) for matrix in matrices]


def matrix_root(gram):
    values, vectors = np.linalg.eigh(gram)
    return vectors @ np.diag(np.sqrt(values)) @ vectors.T


q2 = Exercise(
    question="Write the matrix square root of a symmetric positive definite matrix.",
    reference=matrix_root,
    cases=_grams(),
    hints=[
        "R is the root if R @ R gives the matrix back. Which matrices are easy to take a root of?",
        "np.linalg.eigh gives values and vectors: V diag(values) Vᵀ is the matrix itself.",
    ],
    mistakes=[
        (lambda gram: np.sqrt(gram), "That is each entry's root: multiply it by itself and see."),
        ("np.sqrt(values)", "values", "That is the matrix itself: no root has been taken."),
        ("np.sqrt(values)", "1 / np.sqrt(values)", "That is the inverse of the root."),
        ("@ vectors.T", "", "The vectors must be turned back: @ vectors.T is missing."),
        (
            "vectors @ np.diag",
            "vectors.T @ np.diag",
            "The eigenvectors are the columns: V stands on the left without its transpose.",
        ),
    ],
    because="The function acts on the eigenvalues, as a polynomial of the matrix does.",
)


def mended_update(gradient):
    values, vectors = np.linalg.eigh(gradient @ gradient.T)
    inverse_root = vectors @ np.diag(values**-0.5) @ vectors.T
    return inverse_root @ gradient


q3 = Exercise(
    question="Mend the published update, so that all its singular values are 1.",
    reference=mended_update,
    cases=[
        (np.random.default_rng(seed).normal(size=shape),)
        for seed, shape in ((1, (2, 3)), (2, (3, 5)))
    ],
    tolerance=1e-5,
    hints=[
        "B = U S Vᵀ and B Bᵀ = U S² Uᵀ. What must stand before B to leave U Vᵀ?",
        "(B Bᵀ)^(-1/2) @ B; and the division by the number of rows must go.",
    ],
    mistakes=[
        ("values**-0.5", "values**0.5", "It has the root and needs its inverse: S became S²."),
        ("gradient.T)", "gradient.T / len(gradient))", "/ rows leaves a factor of √rows."),
        ("values**-0.5", "1 / values", "It has the inverse without the root: S became 1 / S."),
        ("inverse_root @ gradient", "inverse_root", "The inverse root alone is not the update."),
        (lambda gradient: gradient / np.linalg.norm(gradient), "That only rescales the gradient."),
        (
            lambda gradient: (gradient @ gradient.T / len(gradient)) @ gradient,
            "The published product of B's amplifies what is loud already.",
        ),
    ],
    because="U Vᵀ, by an eigendecomposition; Newton–Schulz computes it by products alone.",
)


# The suspects. Each does one thing wrong, or nothing.


def undivided(matrix):
    """Orthogonalize without dividing by the norm first: right for small matrices, by luck."""
    with np.errstate(all="ignore"):
        for a, b, c in resolve("jordan"):
            gram = matrix @ matrix.T
            matrix = a * matrix + (b * gram + c * gram @ gram) @ matrix
    return matrix


def only_divided(matrix):
    """Divide by the norm, and do nothing else."""
    return matrix / np.linalg.norm(matrix)


_GRADIENT = np.random.default_rng(3).normal(size=(4, 6)) / 10
ORTHOGONALIZERS: dict[str, Callable] = {
    "SVD": polar_factor,
    "Newton–Schulz": newton_schulz,
    "never divides": undivided,
    "only divides": only_divided,
}


def verdicts(experiment, *suspects):
    """Say which suspects the experiment lets pass."""
    return [bool(experiment(suspect)) for suspect in suspects]


def ignores_scale(orthogonalize):
    gradient = np.random.default_rng(0).normal(size=(4, 6)) / 10
    once, larger = orthogonalize(gradient), orthogonalize(100 * gradient)
    return np.allclose(once, larger, atol=1e-3)


q4 = Exercise(
    question="Write an experiment that only an orthogonalizer which ignores scale passes.",
    reference=ignores_scale,
    observe=verdicts,
    cases=[tuple(ORTHOGONALIZERS.values())],
    hints=[
        "Give it one gradient twice: as it is, and much larger. What may not change?",
        "np.allclose(orthogonalize(g), orthogonalize(100 * g), atol=1e-3).",
    ],
    mistakes=[
        (lambda orthogonalize: True, "Everyone passes, the one that never divides as well."),
        (lambda orthogonalize: False, "Nobody passes, the exact SVD included."),
        (
            lambda orthogonalize: (
                orthogonalize is not newton_schulz and ignores_scale(orthogonalize)
            ),
            "Newton–Schulz fails: allow for the norm's small epsilon (atol=1e-3).",
        ),
        (
            lambda orthogonalize: np.ptp(np.linalg.svd(orthogonalize(_GRADIENT))[1]) < 0.5,
            "Flat values on one small gradient acquit the one that never divides. Vary the scale.",
        ),
        (lambda orthogonalize: not ignores_scale(orthogonalize), "Turn the answer round."),
    ],
    because="On one small matrix the fault is invisible. The same gradient, larger, shows it.",
)


def nesterov_before(gradient, average, mu=0.95):
    """Mix the look-ahead in, then orthogonalize: the right order."""
    average = mu * average + (1 - mu) * gradient
    return polar_factor(mu * average + (1 - mu) * gradient)


def nesterov_after(gradient, average, mu=0.95):
    """Orthogonalize the average, then add the bare gradient's share."""
    average = mu * average + (1 - mu) * gradient
    return mu * polar_factor(average) + (1 - mu) * gradient


def no_nesterov(gradient, average, mu=0.95):
    """Orthogonalize the new average alone: a different rule, and a correct one."""
    return polar_factor(mu * average + (1 - mu) * gradient)


def flat_update(rule):
    generator = np.random.default_rng(0)
    gradient, average = generator.normal(size=(2, 4, 6))
    stretches = np.linalg.svd(rule(10 * gradient, average))[1]
    return np.ptp(stretches) < 0.5


q5 = Exercise(
    question="Write an experiment that tells whether anything is added after orthogonalizing.",
    reference=flat_update,
    observe=verdicts,
    cases=[(nesterov_before, nesterov_after, no_nesterov)],
    hints=[
        "What is true of the singular values of whatever orthogonalization leaves?",
        "np.linalg.svd(rule(gradient, average))[1] are all near 1 unless something was added.",
    ],
    mistakes=[
        (lambda rule: True, "All three pass: make the gradient larger, or the tolerance smaller."),
        (lambda rule: False, "All three fail. An update from polar_factor has all values 1."),
        (
            lambda rule: rule is nesterov_before,
            "You convict Muon without Nesterov: nothing is added after in it. Look at the values.",
        ),
        (lambda rule: not flat_update(rule), "Turn the answer round: True means that it is flat."),
    ],
    because="Whatever is added after carries the gradient's own scale and spectrum with it.",
)


# Clips. Queries and keys are (heads, positions, d): what the weights make of the same inputs.


def _logits(query, key):
    return query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])


def _gamma(logits, tau, axis=(1, 2)):
    return np.minimum(1, tau / logits.max(axis, keepdims=True))


def clips_weights(query, key, tau):
    """Scale each head's query and key by √γ; return both and the logits of this step."""
    share = np.sqrt(_gamma(_logits(query, key), tau))
    return query * share, key * share, _logits(query, key)


def clips_scores(query, key, tau):
    """Leave the weights and return smaller logits."""
    logits = _logits(query, key)
    return query, key, np.minimum(logits, tau)


def one_for_all(query, key, tau):
    """Scale all heads by the γ of the loudest."""
    share = np.sqrt(_gamma(_logits(query, key), tau, (0, 1, 2)))
    return query * share, key * share, _logits(query, key)


CLIPS: tuple[Callable, ...] = (clips_weights, clips_scores, one_for_all)


def weights_hold(clip):
    query, key = np.random.default_rng(0).normal(size=(2, 2, 5, 4)) * 10
    query, key, _ = clip(query, key, 30.0)
    again = query @ key.transpose(0, 2, 1) / 2
    return again.max() < 30.001


q6 = Exercise(
    question="Write an experiment that passes a clip only if the weights themselves are clipped.",
    reference=weights_hold,
    observe=verdicts,
    cases=[CLIPS],
    hints=[
        "The logits that the clip returns prove nothing. What would the next forward compute?",
        "Compute query @ key.transpose(0, 2, 1) / √d from what comes back; d is 4 here.",
    ],
    mistakes=[
        (lambda clip: True, "All three pass: make the logits loud, and read the returned q and k."),
        (lambda clip: False, "All three fail: recompute the logits from the *returned* q and k."),
        (
            lambda clip: clip is clips_scores,
            "You trust the returned logits. Recompute them from the query and key that come back.",
        ),
        (
            lambda clip: clip is clips_weights,
            "One maximum for all does hold the weights: its fault is another, the next question's.",
        ),
    ],
    because="A clipped score leaves the weights as loud as they were, and growing.",
)


def spares_quiet_heads(clip):
    query, key = np.random.default_rng(0).normal(size=(2, 2, 5, 4))
    query[0] *= 100  # head 0 is loud, head 1 is not
    after, _, _ = clip(query.copy(), key.copy(), 30.0)
    return np.allclose(after[1], query[1])


q7 = Exercise(
    question="Write an experiment that passes a clip only if it leaves a quiet head as it is.",
    reference=spares_quiet_heads,
    observe=verdicts,
    cases=[CLIPS],
    hints=[
        "You need one loud head and one quiet one in the same call.",
        "Multiply query[0] by 100, clip, and compare query[1] before and after.",
    ],
    mistakes=[
        (lambda clip: True, "All three pass: make head 0 far louder than 30, and look at head 1."),
        (lambda clip: False, "All three fail, the right one too: head 1 must stay below 30."),
        (
            lambda clip: clip is clips_scores,
            "You look at the loud head, which must change. Look at the quiet one.",
        ),
        (
            lambda clip: clip is clips_weights,
            "Clipped scores do leave the quiet head as it is: that fault is the last question's.",
        ),
    ],
    because="γ belongs to one head. A single maximum turns down heads that did nothing.",
)


# Three Muons without names: an update from one gradient and the average before it.


def suspect_a(gradient, average, mu=0.95):
    """Return an update; look at what it does, not in here."""
    return undivided(mu * (mu * average + (1 - mu) * gradient) + (1 - mu) * gradient)


def suspect_b(gradient, average, mu=0.95):
    """Return an update; look at what it does, not in here."""
    return nesterov_after(gradient, average, mu)


def suspect_c(gradient, average, mu=0.95):
    """Return an update; look at what it does, not in here."""
    average = mu * average + (1 - mu) * gradient
    return newton_schulz(mu * average + (1 - mu) * gradient, steps=5)


FAULTS = ("none", "never divides by the norm", "Nesterov after orthogonalizing")
q8 = Exercise(
    question="Name the fault of each suspect.",
    reference=dict(zip("ABC", (FAULTS[1], FAULTS[2], FAULTS[0]), strict=True)),
    observe=itself,
    hints=[
        "Scale gradient and average together by 20. Whose update stays, grows a little, explodes?",
        "The one that explodes never divides; the one that stays exactly is right.",
    ],
    mistakes=[
        (
            dict(zip("ABC", (FAULTS[2], FAULTS[1], FAULTS[0]), strict=True)),
            "A and B are the wrong way round: which of the two explodes when both are scaled up?",
        ),
        (
            dict(zip("ABC", (FAULTS[1], FAULTS[0], FAULTS[2]), strict=True)),
            "B and C are the wrong way round. C's values spread as Jordan's do; B's follow scale.",
        ),
        (
            dict(zip("ABC", (FAULTS[0], FAULTS[2], FAULTS[1]), strict=True)),
            "A and C are the wrong way round: scale both inputs by 100 and look at A again.",
        ),
    ],
    because="One experiment separates all three: explodes, grows in proportion, stays.",
)
