"""The clip's exact identity, RoPE, the two ways to compute, and what a cache holds."""

import cmath
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import flex_attention

from muon_lab.model import attention
from muon_lab.model.attention import (
    MultiHeadAttention,
    MultiHeadLatentAttention,
    causal_logits,
    explicit_attention,
    flex_attention_with_maxima,
    fused_attention,
    rope,
)

WIDTH, HEADS = 32, 4
KINDS = {
    "mha": lambda: MultiHeadAttention(WIDTH, HEADS),
    "gqa2": lambda: MultiHeadAttention(WIDTH, HEADS, 2),
    "gqa1": lambda: MultiHeadAttention(WIDTH, HEADS, 1),
    "mla": lambda: MultiHeadLatentAttention(WIDTH, HEADS),
}


def loud(layer, seed=0, gain=3.0):
    """Give a layer float64 weights, each head's of another size, so that some heads pass τ."""
    torch.manual_seed(seed)
    layer.double()
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
            if name.startswith("query") and "down" not in name and "norm" not in name:
                by_head = weight.view(layer.heads, -1, weight.shape[1])
                by_head *= gain ** torch.arange(layer.heads).double()[:, None, None]
    return layer


def inputs(seed=1, batch=2, length=10, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, width, generator=generator, dtype=torch.float64)


def logits_of(layer, x):
    q, k, _ = layer.project(x)
    return causal_logits(q, k, layer.scale).detach()


def weights_of(layer):
    return {name: weight.detach().clone() for name, weight in layer.named_parameters()}


def between(layer, x):
    """Return a τ that half the heads exceed."""
    return logits_of(layer, x).amax((0, 2, 3)).median().item() * 1.01


def assert_logits_scaled(layer, x, before, gamma, tau):
    """Re-run: each head's logits are γ times the old; a clipped head's maximum is τ."""
    past = before.isfinite()
    after = logits_of(layer, x)
    wanted = before * gamma[:, None, None]
    torch.testing.assert_close(after[past], wanted[past], rtol=1e-12, atol=1e-12)
    clipped = after.amax((0, 2, 3))[gamma < 1]
    torch.testing.assert_close(clipped, torch.full_like(clipped, tau), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_clip_every_heads_logits_are_gamma_times_the_old(kind):
    layer, x = loud(KINDS[kind]()), inputs()
    tau, before = between(layer, x), logits_of(layer, x)
    layer(x)
    gamma = layer.clip_qk_(tau)
    assert 0 < (gamma < 1).sum() < HEADS
    assert_logits_scaled(layer, x, before, gamma, tau)
    layer(x)
    assert layer.max_logits.max().item() == pytest.approx(tau, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["mha", "gqa", "mla"]),
    heads=st.sampled_from([1, 2, 3, 4, 6, 8]),
    half=st.integers(1, 5),
    latent=st.integers(1, 12),
    tau=st.floats(0.05, 20),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_the_identity_holds_for_any_heads_and_widths(kind, heads, half, latent, tau, seed, data):
    width = 2 * half * heads
    if kind == "mla":
        layer = MultiHeadLatentAttention(
            width, heads, query_latent=latent, kv_latent=latent + 1, rotary_width=2 * half
        )
    else:
        shared = [n for n in range(1, heads + 1) if heads % n == 0]
        layer = MultiHeadAttention(
            width, heads, data.draw(st.sampled_from(shared)) if kind == "gqa" else None
        )
    layer, x = loud(layer, seed, gain=2.0), inputs(seed, length=5, width=width)
    before = logits_of(layer, x)
    layer(x)
    gamma = layer.clip_qk_(tau)
    torch.testing.assert_close(gamma, (tau / before.amax((0, 2, 3)).clamp(min=tau)))
    assert_logits_scaled(layer, x, before, gamma, tau)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_under_tau_and_all_that_is_not_a_logit_stay_bit_identical(kind):
    layer, x = loud(KINDS[kind]()), inputs()
    before = weights_of(layer)
    layer(x)
    gamma = layer.clip_qk_(between(layer, x))
    quiet = gamma == 1
    touched = {"query.weight", "key.weight", "query_content.weight", "key_content.weight"}
    touched |= {"query_rotary.weight"}
    if kind.startswith("gqa"):
        touched.remove("key.weight")
    for name, weight in layer.named_parameters():
        if name not in touched:
            assert torch.equal(weight, before[name]), name
            continue
        now, then = (w.view(HEADS, -1, w.shape[1]) for w in (weight, before[name]))
        assert torch.equal(now[quiet], then[quiet]), name
        assert not torch.isclose(now[~quiet], then[~quiet], rtol=1e-9).any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_tau_that_no_head_reaches_changes_no_bit(kind):
    layer, x = loud(KINDS[kind]()), inputs()
    before = weights_of(layer)
    layer(x)
    assert torch.equal(layer.clip_qk_(1e6), torch.ones(HEADS, dtype=torch.float64))
    for name, weight in layer.named_parameters():
        assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_several_clips_in_a_row_each_bring_the_maximum_to_their_tau(kind):
    layer, x = loud(KINDS[kind]()), inputs()
    first = between(layer, x)
    for tau in (first, first, first / 2, first / 7):
        before = logits_of(layer, x)
        layer(x)
        assert_logits_scaled(layer, x, before, layer.clip_qk_(tau), tau)
    layer(x)
    again = layer.clip_qk_(first / 7 * (1 + 1e-9))
    assert torch.equal(again, torch.ones_like(again))


@pytest.mark.parametrize("kind", KINDS)
def test_maxima_accumulate_over_micro_batches_until_the_clip(kind):
    layer, whole = loud(KINDS[kind]()), inputs(batch=6)
    for part in whole.split(2):
        layer(part)
    accumulated = layer.max_logits
    tau = between(layer, whole)
    gamma = layer.clip_qk_(tau)
    assert layer.max_logits is None
    twin = loud(KINDS[kind]())
    twin(whole)
    torch.testing.assert_close(accumulated, twin.max_logits, rtol=1e-14, atol=0)
    torch.testing.assert_close(gamma, twin.clip_qk_(tau), rtol=1e-14, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["mha", "mla"])
def test_alpha_shares_gamma_between_query_and_key(kind, alpha):
    layer, x = loud(KINDS[kind]()), inputs()
    tau, before, weights = between(layer, x), logits_of(layer, x), weights_of(layer)
    layer(x)
    gamma = layer.clip_qk_(tau, alpha=alpha)
    assert_logits_scaled(layer, x, before, gamma, tau)
    suffix = "" if kind == "mha" else "_content"
    for name, power in ((f"query{suffix}.weight", alpha), (f"key{suffix}.weight", 1 - alpha)):
        factor = (gamma**power).repeat_interleave(WIDTH // HEADS)[:, None]
        now = dict(layer.named_parameters())[name]
        torch.testing.assert_close(now, weights[name] * factor, rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_weights_clip_to_within_bf16_rounding(kind):
    layer, x = loud(KINDS[kind]()).bfloat16(), inputs().bfloat16()
    layer(x)
    largest = layer.max_logits
    assert largest.dtype == torch.float32
    tau = largest.median().item() * 1.01
    gamma = layer.clip_qk_(tau)
    assert layer.output.weight.dtype == torch.bfloat16
    layer(x)
    # Queries and keys are themselves rounded to 8 bits; a sum of products keeps about that.
    torch.testing.assert_close(layer.max_logits, largest * gamma, rtol=2**-6, atol=0)


def test_the_maximum_is_a_maximum_over_causal_pairs_and_not_of_absolute_values():
    layer, x = loud(KINDS["mha"]()), inputs()
    layer(x)
    q, k, _ = layer.project(x)
    for head in range(HEADS):
        pairs = [
            (q[b, head, i] @ k[b, head, j] / 8**0.5).item()
            for b in range(2)
            for i in range(10)
            for j in range(i + 1)
        ]
        assert layer.max_logits[head].item() == pytest.approx(max(pairs), rel=1e-12)


def test_a_head_whose_logits_are_all_negative_is_left_alone():
    layer = loud(KINDS["mha"]())
    with torch.no_grad():
        layer.key.weight.copy_(-layer.query.weight)
    layer(inputs(length=1))
    assert layer.max_logits.max() < 0
    assert torch.equal(layer.clip_qk_(1e-3), torch.ones(HEADS, dtype=torch.float64))


@pytest.mark.parametrize("kind", [*KINDS, "qk_norm"])
def test_fused_attention_equals_explicit_with_its_gradients(kind):
    make = KINDS.get(kind, lambda: MultiHeadAttention(WIDTH, HEADS, 2, qk_norm=True))
    layer, x = loud(make(), gain=1.3), inputs().requires_grad_()
    results = []
    for record in (True, False):
        layer.records_max_logits = record
        layer.zero_grad()
        x.grad = None
        out = layer(x)
        out.square().sum().backward()
        results.append([out, x.grad, *(p.grad for p in layer.parameters())])
    for explicit, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, explicit, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "qk_norm"])
@pytest.mark.parametrize("record", [True, False])
def test_under_autocast_queries_keys_and_values_have_one_dtype(kind, record):
    layer = KINDS.get(kind, lambda: MultiHeadAttention(WIDTH, HEADS, qk_norm=True))()
    layer.records_max_logits = record
    with torch.autocast("cpu", torch.bfloat16):
        assert {part.dtype for part in layer.project(inputs().float())} == {torch.bfloat16}
        out = layer(inputs().float())
    out.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_logits_are_still_formed_in_float32(kind):
    layer, x = loud(KINDS[kind]()).float(), inputs().float()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
        q, k, _ = layer.project(x)
    exact = causal_logits(q.double(), k.double(), layer.scale).amax((0, 2, 3))
    torch.testing.assert_close(layer.max_logits, exact.float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads_read_their_own_groups_key(kv_heads):
    q, k, v = (torch.randn(1, n, 6, 8, dtype=torch.float64) for n in (4, kv_heads, kv_heads))
    together, _ = explicit_attention(q, k, v, 0.5)
    for head in range(4):
        one = slice(head, head + 1)
        group = slice(head // (4 // kv_heads), head // (4 // kv_heads) + 1)
        alone = fused_attention(q[:, one], k[:, group], v[:, group], 0.5)
        torch.testing.assert_close(together[:, one], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["mha", "gqa2", "gqa1"])
def test_a_layer_is_its_heads_one_by_one(kind):
    layer, x = loud(KINDS[kind]()), inputs()
    q, k, v = (part(x).unflatten(-1, (-1, 8)) for part in (layer.query, layer.key, layer.value))
    outs = []
    for head in range(HEADS):
        own = head // (HEADS // layer.kv_heads)
        logits = rope(q[:, :, head]) @ rope(k[:, :, own]).mT / 8**0.5  # (B, T, T)
        future = torch.ones(10, 10, dtype=torch.bool).triu(1)
        outs.append(logits.masked_fill(future, -torch.inf).softmax(-1) @ v[:, :, own])
    torch.testing.assert_close(layer(x), layer.output(torch.cat(outs, -1)), rtol=1e-12, atol=1e-12)


def test_without_recording_maxima_stay_as_they_were():
    layer = loud(KINDS["mha"]())
    layer.records_max_logits = False
    layer(inputs())
    assert layer.max_logits is None


@pytest.mark.parametrize("kind", KINDS)
def test_other_weights_forget_the_maxima_of_those_before(kind):
    layer, x = loud(KINDS[kind]()), inputs()
    saved = weights_of(layer)
    layer(x * torch.inf)
    layer.load_state_dict(saved)
    assert layer.max_logits is None
    layer(x)
    assert layer.clip_qk_(10.0).isfinite().all()


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(0, 500), half=st.integers(1, 8), seed=st.integers(0, 99))
def test_rope_sees_only_relative_positions_and_keeps_lengths(shift, half, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 7, 2 * half, generator=generator, dtype=torch.float64)
    here, there = (rope(q, start) @ rope(k, start).mT for start in (0, shift))
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(rope(q, shift).norm(dim=-1), q.norm(dim=-1))
    assert torch.equal(rope(q)[0], q[0])


def test_rope_in_bf16_rounds_only_its_result():
    x = torch.randn(7, 8).bfloat16()
    assert torch.equal(rope(x, start=1000), rope(x.float(), start=1000).bfloat16())


@pytest.mark.parametrize(("pairs", "base"), [(1, 10_000.0), (4, 10_000.0), (5, 100.0)])
def test_rope_turns_pair_i_by_position_times_base_to_minus_i_over_the_pairs(pairs, base):
    x = torch.randn(7, 2 * pairs, dtype=torch.float64)
    turned = torch.complex(*rope(x, 3, base).chunk(2, dim=-1))  # (T, pairs)
    for t in range(7):
        for i in range(pairs):
            turn = cmath.exp(1j * (3 + t) * base ** (-i / pairs))
            wanted = complex(x[t, i], x[t, i + pairs]) * turn
            assert turned[t, i].item() == pytest.approx(wanted, rel=1e-12)


def test_attention_never_looks_ahead():
    for make in KINDS.values():
        layer, x = loud(make()), inputs()
        before = layer(x)
        x[:, 6:] += 1
        torch.testing.assert_close(layer(x)[:, :6], before[:, :6])


def test_mla_scales_by_content_and_rotary_width_and_shares_one_rotary_key():
    layer, x = loud(MultiHeadLatentAttention(32, 4, rotary_width=6)), inputs()
    assert layer.scale == pytest.approx((8 + 6) ** -0.5)
    _, k, _ = layer.project(x)
    rotary = k[..., 8:]
    assert torch.equal(rotary, rotary[:, :1].expand_as(rotary))
    assert layer.key_rotary.weight.shape == (6, 32)


def test_mla_is_its_formula_and_turns_only_the_rotary_parts():
    layer, x = loud(KINDS["mla"]()), inputs()
    c_q, c_kv = layer.query_norm(layer.query_down(x)), layer.kv_norm(layer.kv_down(x))
    from_latents = (layer.query_content(c_q), layer.query_rotary(c_q))
    from_latents += (layer.key_content(c_kv), layer.value(c_kv))
    q_c, q_r, k_c, v = (p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in from_latents)
    k_r = rope(layer.key_rotary(x))[:, None]  # (B, 1, T, 4): of all heads
    logits = (q_c @ k_c.mT + rope(q_r) @ k_r.mT) / (8 + 4) ** 0.5  # (B, heads, T, T)
    future = torch.ones(10, 10, dtype=torch.bool).triu(1)
    out = logits.masked_fill(future, -torch.inf).softmax(-1) @ v  # (B, heads, T, 8)
    wanted = layer.output(out.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), wanted, rtol=1e-12, atol=1e-12)


def test_cache_bytes_count_what_a_decoder_must_keep():
    kept = {name: make().cache_bytes_per_token(torch.bfloat16) // 2 for name, make in KINDS.items()}
    # keys and values; the same for fewer heads; a latent of 16 and a rotary key of 4
    assert kept == {"mha": 2 * 32, "gqa2": 2 * 16, "gqa1": 2 * 8, "mla": 16 + 4}
    assert KINDS["mha"]().cache_bytes_per_token(torch.float32) == 4 * 64


@pytest.mark.parametrize("kind", KINDS)
def test_clip_before_a_forward_says_what_to_do(kind):
    layer = KINDS[kind]()
    with pytest.raises(RuntimeError, match="run the model in training mode"):
        layer.clip_qk_(10.0)


def test_clip_refuses_what_it_cannot_do():
    normed = MultiHeadAttention(WIDTH, HEADS, qk_norm=True)
    normed(inputs().float())
    with pytest.raises(ValueError, match="norms undo any scale"):
        normed.clip_qk_(10.0)
    layer = loud(KINDS["mha"]())
    layer(inputs())
    for tau in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="tau must be a positive logit"):
            layer.clip_qk_(tau)
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            layer.clip_qk_(10.0, alpha)
    layer(inputs() * torch.inf)
    with pytest.raises(FloatingPointError, match="not finite"):
        layer.clip_qk_(10.0)


def test_qk_norm_makes_the_logits_blind_to_the_weights_scale():
    layer, x = loud(MultiHeadAttention(WIDTH, HEADS, qk_norm=True)), inputs()
    before = logits_of(layer, x)
    with torch.no_grad():
        layer.query.weight *= 1000
    past = before.isfinite()
    torch.testing.assert_close(logits_of(layer, x)[past], before[past], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiHeadAttention(30, 4), "next larger width that works is 32"),
        (lambda: MultiHeadAttention(32, 0), "at least 1"),
        (lambda: MultiHeadAttention(32, 4, 3), r"one of \[1, 2, 4\]; got 3"),
        (lambda: MultiHeadAttention(12, 4), "even"),
        (lambda: MultiHeadLatentAttention(32, 4, rotary_width=3), "must be even; got 3"),
        (lambda: MultiHeadLatentAttention(32, 4, kv_latent=0), "kv_latent must be at least 1"),
    ],
)
def test_shapes_that_cannot_work_are_refused_with_what_would(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_way_through_flex_attention_passes_mask_groups_and_scale(monkeypatch):
    """Only the maxima's kernel needs CUDA; here torch's plain version stands in for it."""
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    request = attention._compiled_flex()[1]

    def flex(q, k, v, *, return_aux, **options):
        assert return_aux == flex_attention.AuxRequest(max_scores=True)
        out = flex_attention.flex_attention(q, k, v, **options)
        maxima = causal_logits(q, k, options["scale"]).amax(-1)
        return out, flex_attention.AuxOutput(max_scores=maxima)

    monkeypatch.setattr(attention, "_compiled_flex", lambda: (flex, request))
    q, k, v = (torch.randn(2, n, 20, 16) for n in (4, 2, 2))
    out, maxima = flex_attention_with_maxima(q, k, v, 0.3)
    wanted, wanted_maxima = explicit_attention(q, k, v, 0.3)
    torch.testing.assert_close(out, wanted)
    assert torch.equal(maxima, wanted_maxima)


def test_flex_attention_is_for_cuda_and_heads_it_can_take():
    q, v = torch.randn(1, 2, 8, 16), torch.randn(1, 2, 8, 16)
    assert not attention._flex_can_run(q, v)
    on_cuda = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, shape=q.shape)
    assert attention._flex_can_run(on_cuda, v)
    assert not attention._flex_can_run(on_cuda, v[..., :8])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention's maxima need CUDA")
def test_flex_attention_equals_explicit_on_cuda():
    q, k, v = (torch.randn(2, n, 256, 32, device="cuda") for n in (4, 2, 2))
    out, maxima = flex_attention_with_maxima(q, k, v, 0.2)
    wanted, wanted_maxima = explicit_attention(q, k, v, 0.2)
    torch.testing.assert_close(out, wanted, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(maxima, wanted_maxima, rtol=1e-2, atol=1e-2)
