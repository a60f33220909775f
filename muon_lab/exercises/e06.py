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
    cases=[(2, 10), (1, 64), (12, 768)],
    hints=[
        "Query, key, value and output are each width × width: the heads only cut them into blocks.",
        "The MLP's two matrices are (4·width, width) and (width, 4·width).",
    ],
    mistakes=[
        ("4 * width * w", "3 * width * w", "Attention has a fourth matrix: its output."),
        ("= 4 * width * w", "= w", "Attention has four matrices of width × width, not one."),
        ("4 * width * width", "4 * width", "A matrix of attention holds width × width numbers."),
        (lambda layers, width: layers * 12 * width, "A matrix holds width² numbers, not width."),
        ("2 * width * (4 * width)", "(4 * width) ** 2", "Only one side of each is 4·width."),
        ("2 * width * (4", "width * (4", "The MLP has two matrices: up to 4·width and back down."),
        ("(4 * width)", "width", "The MLP's inner side is 4·width: each of its two is 4·width²."),
        ("layers * (a", "(a", "That is one layer. There are several."),
    ],
    because="12·width² per layer: one third in attention, two in the MLP. All of it is Muon's.",
)


def attend(q, k, v):
    logits = q @ k.mT / q.shape[-1] ** 0.5  # (T, T)
    future = torch.ones_like(logits).triu(1).bool()
    weights = logits.masked_fill(future, -torch.inf).softmax(dim=-1)  # (T, T)
    return weights @ v


def _tokens(seed, length=5, width=4):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, length, width, generator=generator, dtype=torch.float64))


MASKED = "logits.masked_fill(future, -torch.inf).softmax(dim=-1)"

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
        (MASKED, "logits.softmax(dim=-1)", "Each position reads its own future: hide those keys."),
        ("-torch.inf", "0.0", "A logit of 0 hides nothing: its weight is e⁰ = 1 before sharing."),
        ("-torch.inf", "torch.inf", "The weights are nan: hide a key with minus infinity."),
        (
            MASKED,
            "logits.softmax(dim=-1).masked_fill(future, 0)",
            "Hidden after the softmax, the future has already taken its share of each row's 1.",
        ),
        (" ** 0.5", "", "That divides by d. A sum of d products grows as √d, so divide by √d."),
        (" / q.shape[-1] ** 0.5", "", "The scale 1/√d is missing: logits would grow with √d."),
        (" / q.shape[-1]", " * q.shape[-1]", "Divide by √d: this multiplies by it."),
        ("q.shape[-1]", "q.shape[0]", "The root is of d, the width of q, not of T, its length."),
        ("k.mT", "k", "Multiply q by k transposed: logits are (T, T), each query with each key."),
        ("q @ k.mT", "k @ q.mT", "Rows and columns have changed places: queries are the rows."),
        ("dim=-1", "dim=-2", "Your columns sum to 1. Each query (row) shares out 1 over its keys."),
    ],
    because="Mask, softmax, mix: three lines, and explicit_attention has the same three.",
)


def turn(pair, position, speed):
    x, y = pair
    angle = position * speed
    return (
        x * math.cos(angle) - y * math.sin(angle),
        x * math.sin(angle) + y * math.cos(angle),
    )


q3 = Exercise(
    question="Turn one pair of coordinates counter-clockwise by position · speed.",
    reference=turn,
    parts=("first coordinate", "second coordinate"),
    cases=[((3.0, 2.0), 3, 0.5), ((0.4, -2.0), 10, 0.01), ((0.0, 1.0), 0, 1.0)],
    hints=[
        "The angle grows with the position: twice as far along the text, twice the angle.",
        "Counter-clockwise (1, 0) becomes (cos, sin), and (0, 1) becomes (−sin, cos).",
        "x·cos − y·sin, x·sin + y·cos.",
    ],
    mistakes=[
        ("* speed", "* -speed", "That turns clockwise: (1, 0) must turn towards (0, 1)."),
        ("position * speed", "speed", "Every position turns by the same angle: use it as well."),
        ("position * speed", "position", "Every pair turns equally fast: use speed as well."),
        ("position * speed", "position + speed", "The angle is the position times the speed."),
        ("position * speed", "math.radians(position * speed)", "The angle is in radians already."),
        (lambda *given: turn(*given)[::-1], "The order is wrong: the coordinate of x comes first."),
        (
            lambda pair, at, speed: (
                pair[0] * math.cos(at * speed),
                pair[1] * math.sin(at * speed),
            ),
            "Each coordinate needs a share of both, or lengths change as the pair turns.",
        ),
        (
            "x * math.cos(angle) - y * math.sin(angle)",
            "x * math.sin(angle) - y * math.cos(angle)",
            "x * math.sin(angle) + y * math.cos(angle)",
            "x * math.cos(angle) + y * math.sin(angle)",
            "cos and sin have changed places: at the angle 0 the pair must stay as it is.",
        ),
        (") - y", ") + y", "The first coordinate's y·sin needs a minus: it turns towards −x."),
        (") + y", ") - y", "The second coordinate's y·cos needs a plus."),
        ("x * math.s", "-x * math.s", "The second coordinate's x·sin needs a plus."),
        (
            "x * math.sin(angle)",
            "(x * math.cos(angle) - y * math.sin(angle)) * math.sin(angle)",
            "The second coordinate was made from the turned x: keep the old one for it.",
        ),
    ],
    because="With q and k both turned, their product keeps only the difference of the angles.",
)


def cache_bytes(layers, kv_heads, head_width, tokens):
    return layers * 2 * kv_heads * head_width * tokens * 2


q4 = Exercise(
    question="How many bytes does a text of so many tokens leave in the cache, in bf16?",
    reference=cache_bytes,
    cases=[(2, 3, 10, 5), (32, 8, 128, 8192), (3, 1, 64, 5)],
    hints=[
        "Each layer keeps, for each token and each key head, one key and one value.",
        "A number in bf16 is 2 bytes.",
    ],
    mistakes=[
        (" * 2 * ", " * ", "Only half: keys and values are both kept, 2 bytes per number."),
        (" * 2 * ", " * 4 * ", "Twice too much: one key and one value, 2 bytes per number."),
        (" * 2 * ", " * 3 * ", "Queries are not kept: a later token needs keys and values only."),
        ("tokens * 2", "tokens * 16", "That is in bits: a number in bf16 takes 2 bytes."),
        ("layers * 2", "2", "Every layer has a cache of its own."),
        (" * tokens", "", "That is one token: each of them leaves its keys and values."),
        ("tokens * 2", "tokens**2 * 2", "Each token leaves its own part: the cache grows with T."),
        (" * head_width", "", "A key holds head_width numbers, and so does a value."),
        (" * kv_heads", "", "That is one key head: each has its own keys and values."),
        (
            lambda *sizes: math.prod(sizes),
            "Only a quarter: a key and a value, 2 bytes per number.",
        ),
    ],
    because="2 · kv_heads · d numbers per token and layer: the query heads do not occur in it.",
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
        (128 * 128 / 576, "Only half: whole heads keep a key and a value, a latent serves both."),
        (128 * 128 / 512, "Count the value beside the key, and the rotary key beside the latent."),
        (2 * 128 / 576, "There are 128 heads, each with its own key and value."),
        (2 * 128 * 128 / (512 + 128 * 64), "The rotary key is one for all heads: 64 numbers."),
        (576 / (2 * 128 * 128), "Upside down: the whole cache over the latent one."),
    ],
    because="One latent for all heads, for keys and values both, and one small rotary key.",
)


def share_of_best(pattern, count, scale):
    """Say how much weight a key one unit ahead of count − 1 others gets, at this scale."""
    if pattern != "one ahead":
        return "another pattern"
    if count < 64:
        return "too few keys"
    share = 1 / (1 + (count - 1) * math.exp(-scale))
    return "little" if share < 0.47 else "half" if share <= 0.53 else "most"


START = {"pattern": "one ahead", "count": 64, "scale": 1.0}

q6 = Exercise(
    question="With 64 keys, give the one that is ahead half of all the weight.",
    reference=START | {"scale": math.log(63)},
    start=START,
    observe=share_of_best,
    hints=[
        "The number over the bar is the weight of the key that is ahead.",
        "Its share is e^s / (e^s + 63) where s is the scale: when are the two terms equal?",
    ],
    mistakes=[
        (START | {"pattern": "near tie"}, 'That is another pattern: choose "one ahead" again.'),
        (START | {"count": 8}, "With fewer keys it is easier. Set 64 of them again."),
        (START | {"scale": 20.0}, "It has more than half of all the weight: lower the scale."),
        (START | {"scale": 2.0}, "The 63 others together still weigh more: raise the scale."),
    ],
    because="A lead of ln 63 = 4.1 against 63 others: longer contexts ask for larger logits.",
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
        (" * ", " + ", "Factors multiply: with 1 and 1 the logits must stay as they are."),
        (lambda q, k: (q * k) ** 0.5, "No root: 1/√d is about the width, which has not changed."),
        (lambda q, k: (q * k) ** 2, "Each factor counts once: no square."),
        (max, "A logit feels both matrices, not only the one that grew more."),
        (lambda q, k: q, "The key weights count as well."),
        (lambda q, k: k, "The query weights count as well."),
    ],
    because="Two matrices that each triple make logits nine times as large: growth compounds.",
)
