"""Exercises of notebook 08: missing axes, shared keys, and every way to share γ out in MLA."""

import itertools

import pytest

from muon_lab.exercises import e08


@pytest.mark.parametrize("axes", ["", "[None, :]", "[None, None]"])
def test_a_gamma_that_lines_up_with_width_is_told_so(axes):
    def clip_heads(query, key, gamma):
        share = eval(f"gamma.sqrt(){axes}")
        return query * share, key * share

    def clip_group(query, key, gamma):
        return query * eval(f"gamma{axes}"), key

    for exercise, answer in ((e08.q2, clip_heads), (e08.q4, clip_group)):
        assert "[:, None, None]" in exercise.check(answer).text


@pytest.mark.parametrize("power", [0.5, 1])
def test_a_key_that_is_scaled_per_query_head_is_named(power):
    def clip_group(query, key, gamma):
        share = (gamma**power)[:, None, None]
        return query * share, key * share

    assert "Must the key change at all?" in e08.q4.check(clip_group).text


@pytest.mark.parametrize(
    ("factor", "named"),
    [
        (0.2236, "√0.5 is missing"),
        (0.5, "same key"),
        (0.9, "too large"),
        (15.8, "right in percent"),
    ],
)
def test_each_way_to_miss_a_factor_is_told(factor, named):
    assert named in e08.q3.check(factor).text


POWERS = (0, 0.5, 1)


@pytest.mark.parametrize("powers", list(itertools.product(POWERS, repeat=4)), ids=str)
def test_what_is_told_of_latent_attention_is_true(powers):
    def clip_latent(q_content, k_content, q_rotary, k_rotary, gamma):
        parts = (q_content, k_content, q_rotary, k_rotary)
        return tuple(
            part * gamma**power if power else part
            for part, power in zip(parts, powers, strict=True)
        )

    q_content, k_content, q_rotary, k_rotary = powers
    text = e08.q5.check(clip_latent).text
    assert ("k_R is one for all" in text) == (k_rotary > 0)
    if not k_rotary:
        assert ("q_R" in text) == (q_rotary != 1)
        content = q_content + k_content
        assert ("The logit is right" in text) == (
            q_rotary == content == 1 and q_content != k_content
        )
        told = {"got γ²": 2, "got √γ": 0.5, "q_C·k_C is as large": 0}
        assert all(content == power for words, power in told.items() if words in text)


def test_inputs_of_latent_attention_are_shown_by_their_own_names():
    reply = e08.q5.check(lambda qc, kc, qr, kr, gamma: (qc * gamma**0.3, kc, qr * gamma, kr))
    for name in ("q_content=", "k_content=", "q_rotary=", "k_rotary=", "gamma="):
        assert name in str(reply)


@pytest.mark.parametrize(
    ("share", "named"),
    [
        ("100 * (step > tau).mean()", "in percent"),
        ("(step > tau).mean(0)", "one for each head of a layer"),
        ("(step > tau).mean(1)", "one for each layer"),
        ("step > tau", "What share"),
    ],
)
def test_anything_but_one_share_per_step_is_told_what_it_is(share, named):
    answer = eval(f"lambda maxima, tau: [{share} for step in maxima]")
    assert named in e08.q6.check(answer).text
