"""Exercises of notebook 06: the matrices of a transformer, attention by hand, caches, logits."""

import math

import torch

from muon_lab.exercises.exercise import Exercise, itself


def hidden_parameters(layers, width):
    attention = 4 * width * width  # query, key, value, output
    mlp = 2 * width * (4 * width)  # up, down
    return layers * (attention + mlp)


q1 = Exercise(
    question="How many numbers do the hidden matrices hold, for any number of layers and width?",
    reference=hidden_parameters,
    cases=[(4, 128), (1, 64), (12, 768)],
    hints=[
        "Query, key, value and output are each width × width: the heads only cut them into blocks.",
        "The MLP's two matrices are (4·width, width) and (width, 4·width).",
    ],
    mistakes=[
        (
            lambda layers, width: layers * (3 * width**2 + 8 * width**2),
            "A matrix is missing in attention: after the heads, output mixes them.",
        ),
        (
            lambda layers, width: layers * (4 * width**2 + 4 * width**2),
            "The MLP goes up to 4·width and comes down again: two such matrices.",
        ),
        (
            lambda layers, width: 12 * width**2,
            "That is one layer. There are several.",
        ),
    ],
    because="12 · width² a layer: a third in attention, two thirds in the MLP. It is Muon's share.",
)


def attend(q, k, v):
    logits = q @ k.mT / q.shape[-1] ** 0.5  # (T, T)
    future = torch.ones_like(logits).triu(1).bool()
    weights = logits.masked_fill(future, -torch.inf).softmax(dim=-1)  # (T, T)
    return weights @ v


def _attend(q, k, v, *, scale=None, hidden=-torch.inf, axis=-1, late=False):
    """Attend with one thing changed, for the mistakes."""
    logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    future = torch.ones_like(logits).triu(1).bool()
    if hidden is not None and not late:
        logits = logits.masked_fill(future, hidden)
    weights = logits.softmax(dim=axis)
    return (weights.masked_fill(future, 0) if late else weights) @ v


def _tokens(seed, length=5, width=4):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, length, width, generator=generator, dtype=torch.float64))


q2 = Exercise(
    question="Write one head of causal attention; q, k, v are (T, d).",
    reference=attend,
    cases=[_tokens(0), _tokens(1, length=3), _tokens(2, length=1), _tokens(3, 6, 9)],
    hints=[
        "q @ k.mT has query i in row i; divide it by the root of q.shape[-1].",
        "What must a logit be for its softmax weight to be exactly 0?",
        "Each query shares out a weight of 1 over its keys, and the keys lie along the last axis.",
    ],
    mistakes=[
        (
            lambda q, k, v: _attend(q, k, v, hidden=None),
            "A position reads its own future here: hide the keys above the diagonal.",
        ),
        (
            lambda q, k, v: _attend(q, k, v, hidden=0.0),
            "A logit of 0 hides nothing: its weight is e⁰ = 1 before the shares are taken.",
        ),
        (
            lambda q, k, v: _attend(q, k, v, late=True),
            "Hidden after the softmax, the future has still taken its share of each row's 1.",
        ),
        (
            lambda q, k, v: _attend(q, k, v, scale=1 / q.shape[-1]),
            "That divides by d. A sum of d products grows as √d, so divide by √d.",
        ),
        (
            lambda q, k, v: _attend(q, k, v, scale=1.0),
            "The scale 1/√d is missing: at width 128 the softmax would pick one key from birth.",
        ),
        (
            lambda q, k, v: _attend(q, k, v, axis=-2),
            "Your columns sum to 1. Each query (row) shares out 1 over its keys.",
        ),
    ],
    because="Mask, then softmax, then mix: three lines, and explicit_attention has the same three.",
)


def turn(pair, position, speed):
    x, y = pair
    angle = position * speed
    return (
        x * math.cos(angle) - y * math.sin(angle),
        x * math.sin(angle) + y * math.cos(angle),
    )


def _turn_by(pair, angle):
    return turn(pair, 1, angle)


q3 = Exercise(
    question="Turn one pair of coordinates counter-clockwise by position · speed.",
    reference=turn,
    cases=[((1.0, 0.0), 3, 0.5), ((0.4, -2.0), 10, 0.01), ((0.0, 1.0), 0, 1.0)],
    hints=[
        "The angle grows with the position: twice as far along the text, twice the angle.",
        "Counter-clockwise (1, 0) becomes (cos, sin), and (0, 1) becomes (−sin, cos).",
        "x·cos − y·sin, x·sin + y·cos.",
    ],
    mistakes=[
        (
            lambda pair, position, speed: _turn_by(pair, -position * speed),
            "That turns clockwise: the minus belongs to the first coordinate's sine.",
        ),
        (
            lambda pair, position, speed: _turn_by(pair, speed),
            "Every position turns by the same angle here, so positions cannot be told apart.",
        ),
        (
            lambda pair, position, speed: (
                pair[0] * math.cos(position * speed),
                pair[1] * math.sin(position * speed),
            ),
            "Each coordinate needs a share of both, or lengths change as the pair turns.",
        ),
    ],
    because="Turning both q and k, their product keeps only the difference of the angles.",
)


def cache_bytes(layers, kv_heads, head_width, tokens):
    return layers * 2 * kv_heads * head_width * tokens * 2


q4 = Exercise(
    question="How many bytes does a text of so many tokens leave in the cache, in bf16?",
    reference=cache_bytes,
    cases=[(4, 4, 32, 128), (32, 8, 128, 8192), (1, 1, 64, 1)],
    hints=[
        "Each layer keeps, for each token and each key head, one key and one value.",
        "A number in bf16 is 2 bytes.",
    ],
    mistakes=[
        (
            lambda layers, kv_heads, head_width, tokens: (
                layers * kv_heads * head_width * tokens * 2
            ),
            "A factor 2 is lost: keys and values are both kept, and each number takes 2 bytes.",
        ),
        (
            lambda layers, kv_heads, head_width, tokens: (
                layers * 2 * kv_heads * head_width * tokens * 4
            ),
            "That is float32. The cache is kept in bf16, 2 bytes a number.",
        ),
        (
            lambda layers, kv_heads, head_width, tokens: 4 * kv_heads * head_width * tokens,
            "Every layer has a cache of its own.",
        ),
    ],
    because="2 · kv_heads · d numbers a token and layer: the query heads do not occur in it.",
)

q5 = Exercise(
    question="How many times smaller is the latent cache (512 + 64) than 128 heads of width 128?",
    formula="2 * 128 * 128 / (512 + 64)",
    observe=itself,
    tolerance=0.02,
    hints=[
        "Count the numbers one token leaves in one layer, first with whole keys and values.",
        "Whole: 2 · 128 · 128. Latent: c_kv (512) and the one rotary key (64).",
    ],
    mistakes=[
        (64.0, "The rotary key has to be kept as well: 512 + 64 numbers, not 512."),
        (
            128 * 128 / 576,
            "A factor 2: whole heads keep a key and a value, one latent serves for both.",
        ),
        (2 * 128 / 576, "There are 128 heads, each with its own key and value."),
    ],
    because="One latent for all heads, for keys and values both, and one small rotary key.",
)


def share_of_best(count, scale):
    """Say how much weight a key one unit ahead of count − 1 others gets, at this scale."""
    if count < 64:
        return "too few keys"
    share = 1 / (1 + (count - 1) * math.exp(-scale))
    return "little" if share < 0.47 else "half" if share <= 0.53 else "most"


q6 = Exercise(
    question="With 64 keys, give the one that is ahead half of all the weight.",
    reference={"count": 64, "scale": 4.14},
    start={"count": 64, "scale": 1.0},
    observe=share_of_best,
    hints=[
        "The number over the bar is the weight of the key that is ahead.",
        "Its share is e^s / (e^s + 63) where s is the scale: when do the two summands balance?",
    ],
    mistakes=[
        (
            {"count": 64, "scale": 20.0},
            "It has more than half of all the weight: a smaller scale.",
        ),
        (
            {"count": 64, "scale": 2.0},
            "It has less than half: all 63 others together still weigh more. Raise the scale.",
        ),
        (
            {"count": 8, "scale": 2.0},
            "That is with fewer keys, where it is easier. Set 64 of them again.",
        ),
    ],
    because="ln 63 = 4.1 units lead against 63 others: longer contexts ask for larger logits.",
)


def logit_growth(query_factor, key_factor):
    return query_factor * key_factor


q7 = Exercise(
    question="The query and key weights grow by these factors. By what factor do the logits grow?",
    reference=logit_growth,
    cases=[(3.0, 3.0), (2.0, 1.0), (10.0, 0.1), (1.5, 4.0)],
    hints=[
        "A logit is a product of a query with a key.",
        "Three times the query alone makes three times the logit. Now the key as well.",
    ],
    mistakes=[
        (
            lambda query_factor, key_factor: query_factor + key_factor,
            "Factors of a product multiply: 1 and 1 must leave the logits as they are.",
        ),
        (
            lambda query_factor, key_factor: (query_factor * key_factor) ** 0.5,
            "No root: 1/√d is about the width, which has not changed.",
        ),
        (
            max,
            "Both grow, and the logit feels both: it is their product.",
        ),
    ],
    because="Two matrices that each triple make logits nine times as large: growth compounds.",
)
