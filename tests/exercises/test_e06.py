"""Exercises of notebook 06: the pattern that the slider asks for, and each wrong coordinate."""

import math

import pytest
import torch

from muon_lab.exercises import e06
from muon_lab.explorers import LogitExplorer


def test_the_right_scale_of_another_pattern_is_not_correct():
    explorer = LogitExplorer(pattern="one ahead", count=64)
    assert e06.q6.check(explorer).status == "not attempted"
    explorer.scale = 4.1
    assert e06.q6.check(explorer).status == "correct"
    for explorer.pattern in ("near tie", "gaussian"):
        assert '"one ahead"' in e06.q6.check(explorer).text
    explorer.pattern, explorer.count = "one ahead", 16
    assert "64" in e06.q6.check(explorer).text


@pytest.mark.parametrize("scale", [0.05, 0.5, 2.0, 3.9, 4.0, 4.2, 4.4, 10.0, 100.0])
def test_the_direction_told_is_the_one_that_helps(scale):
    reply = e06.q6.check(e06.START | {"scale": scale})
    share = 1 / (1 + 63 * math.exp(-scale))
    assert ("raise" in reply.text) == (share < 0.47)
    assert ("lower" in reply.text) == (share > 0.53)


def turned(first="x * c - y * s", second="x * s + y * c", angle="position * speed"):
    """Write a learner's turn of which each line can be another."""
    names = {"math": math}
    source = f"def turn(pair, position, speed):\n    x, y = pair\n    angle = {angle}\n"
    source += f"    c, s = math.cos(angle), math.sin(angle)\n    return {first}, {second}"
    exec(source, names)
    return names["turn"]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ({"first": "x * c + y * s"}, "first coordinate"),
        ({"second": "x * s - y * c"}, "second coordinate"),
        ({"first": "x * c + y * s", "second": "-x * s + y * c"}, "clockwise"),
        ({"first": "x * c + y * s", "second": "x * s - y * c"}, "first coordinate"),
        ({"angle": "-position * speed"}, "clockwise"),
        ({"angle": "math.degrees(position * speed)"}, "first coordinate: wanted"),
        ({"second": "y * c"}, "second coordinate: wanted"),
        ({"first": "x * s - y * c", "second": "x * c + y * s"}, "changed places"),
        ({"first": "x * s - y * c"}, "first coordinate: wanted"),
    ],
    ids=str,
)
def test_the_wrong_coordinate_is_named(lines, named):
    assert named in e06.q3.check(turned(**lines)).text


@pytest.mark.parametrize("hidden", ["-1e9", "float('-inf')"])
def test_any_logit_that_hides_is_taken(hidden):
    def attend(q, k, v):
        logits = q @ k.mT / math.sqrt(q.shape[1])
        future = logits.new_ones(logits.shape).triu(1) > 0
        return logits.masked_fill(future, eval(hidden)).softmax(1) @ v

    assert e06.q2.check(attend).status == "correct"


@pytest.mark.parametrize("logits", ["q @ k", "torch.matmul(q, k)", "q * k"])
def test_a_product_without_the_transpose_is_told_the_logits_shape(logits):
    def attend(q, k, v):
        scores = eval(logits) / q.shape[-1] ** 0.5
        future = torch.ones_like(scores).triu(1).bool()
        return scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ v

    assert "logits are (T, T)" in e06.q2.check(attend).text
