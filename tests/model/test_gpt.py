"""The model's configuration, its counts, its sampling, and its switch for recording maxima."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from muon_lab.model.gpt import GPT, GPTConfig, _sample

SMALL = {"layers": 2, "width": 32, "heads": 4, "context": 16}
KINDS = ["mha", "gqa", "mla"]


def small(seed=0, **options):
    torch.manual_seed(seed)
    return GPT(GPTConfig(**SMALL | options))


def tokens(batch=3, length=16, seed=0):
    return torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_guesses_almost_evenly_among_256_bytes(kind):
    logits, loss = small(attention=kind)(tokens(), tokens(seed=1))
    assert logits.shape == (3, 16, 256)
    assert loss.item() == pytest.approx(math.log(256), abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_can_be_learnt_by_heart(kind):
    model = small(attention=kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(tokens()[:, :-1], tokens()[:, 1:])[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5


def test_the_loss_is_the_mean_cross_entropy_of_the_next_byte():
    model = small().double()
    logits, loss = model(tokens(), tokens(seed=1))
    chosen = logits.log_softmax(-1).gather(-1, tokens(seed=1)[..., None])
    assert loss.item() == pytest.approx(-chosen.mean().item(), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True])
def test_flops_per_byte_equal_torchs_own_count(kind, tied):
    model = small(attention=kind, tied=tied)
    for length in (16, 7):
        inputs = tokens(length=length)
        with FlopCounterMode(display=False) as forward:
            loss = model(inputs, inputs)[1]
        with FlopCounterMode(display=False) as backward:
            loss.backward()
        counted = forward.get_total_flops()
        assert counted == model.flops_per_byte(length) * inputs.numel()
        counted += backward.get_total_flops()
        assert counted == model.flops_per_byte(length, training=True) * inputs.numel()
    assert model.flops_per_byte() == model.flops_per_byte(16)


def test_parameters_of_multi_head_attention_can_be_counted_by_hand():
    layer = 4 * 32 * 32 + 2 * 4 * 32 * 32 + 2 * 32  # q k v o, the MLP, two norms
    both_ends = 256 * 32
    assert small().parameter_count() == 2 * layer + 32 + 2 * both_ends
    assert small(tied=True).parameter_count() == 2 * layer + 32 + both_ends
    saved = 2 * 2 * 16 * 32  # two layers' keys and values, from 32 rows to 16
    assert small(attention="gqa").parameter_count() == small().parameter_count() - saved


def test_a_tied_head_is_the_embedding():
    model = small(tied=True)
    assert model.head.weight is model.embedding.weight
    assert small().head.weight is not small().embedding.weight


def test_the_cache_shrinks_from_mha_to_gqa_to_mla():
    sizes = [small(attention=kind).cache_bytes_per_token() for kind in KINDS]
    assert sizes == [2 * 2 * 64, 2 * 2 * 32, 2 * 2 * (16 + 4)]


@pytest.mark.parametrize("kind", KINDS)
def test_generate_repeats_with_its_seed_and_keeps_the_prompt(kind):
    model, prompt = small(attention=kind), tokens(batch=2, length=5)
    first, again, other = (
        model.generate(prompt, 20, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert first.shape == (2, 25)
    assert torch.equal(first[:, :5], prompt)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_temperature_zero_and_top_one_both_take_the_likeliest_byte():
    model, prompt = small(), tokens(batch=1, length=3)
    likeliest = model.generate(prompt, 8, temperature=0)
    assert torch.equal(model.generate(prompt, 8, top_k=1), likeliest)
    assert likeliest[0, 3] == model(prompt)[0][0, -1].argmax()


def test_top_k_draws_only_among_the_k_likeliest():
    model, prompt = small(), tokens(batch=1, length=4)
    allowed = set(model(prompt)[0][0, -1].topk(3).indices.tolist())
    dice = torch.Generator().manual_seed(0)
    drawn = {model.generate(prompt, 1, 5.0, 3, dice)[0, -1].item() for _ in range(40)}
    assert drawn == allowed


def test_top_k_keeps_no_more_than_k_of_equal_logits():
    dice = torch.Generator().manual_seed(0)
    drawn = {_sample(torch.zeros(1, 16), 1.0, 3, dice).item() for _ in range(60)}
    assert len(drawn) == 3


def test_bad_sampling_options_and_too_long_inputs_are_refused():
    model = small()
    for temperature in (-1, math.nan):
        with pytest.raises(ValueError, match="temperature must be ≥ 0"):
            model.generate(tokens(), 1, temperature=temperature)
    for prompt in (tokens()[0], tokens(length=0)):
        with pytest.raises(ValueError, match=r"tokens must be \(B, T\) with at least one"):
            model.generate(prompt, 1)
    with pytest.raises(ValueError, match="top_k ≥ 1"):
        model.generate(tokens(), 1, top_k=0)
    with pytest.raises(ValueError, match="17 tokens exceed the context of 16"):
        model(tokens(length=17))


def test_only_training_forwards_record_and_recording_can_be_switched_off():
    model = small()
    assert model.max_logits() is None
    model(tokens())
    seen = model.max_logits()
    assert seen.shape == (2, 4)
    model.generate(tokens(), 3)
    with torch.no_grad():
        model(tokens() * 0)
    model.eval()
    model(tokens() * 0)
    model.train()
    assert torch.equal(model.max_logits(), seen)
    model.forget_max_logits()
    model.record_max_logits(False)
    model(tokens())
    assert model.max_logits() is None


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (torch.rand(2, 8), TypeError, "float32"),
        (torch.zeros(8, dtype=torch.long), TypeError, r"\(8,\)"),
        (torch.zeros(0, 8, dtype=torch.long), TypeError, r"\(0, 8\)"),
        (torch.zeros(2, 8, dtype=torch.uint8), TypeError, r"uint8.*tokens\.long\(\)"),
        (torch.full((2, 8), 256), ValueError, r"\[0, 256\); got 256 to 256"),
        (torch.full((2, 8), -1), ValueError, "got -1 to -1"),
    ],
)
def test_tokens_that_are_no_bytes_are_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        small()(wrong)


def test_bf16_weights_train_and_sample():
    model = small().bfloat16()
    loss = model(tokens(), tokens(seed=1))[1]
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.generate(tokens(), 2).shape == (3, 18)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "flash"}, r"\('mha', 'gqa', 'mla'\); got 'flash'"),
        ({"width": 30}, "next larger width that works is 32"),
        ({"width": 12}, "must be even"),
        ({"layers": 0}, "layers must be a whole number of at least 1; got 0"),
        ({"layers": 2.0}, r"layers must be a whole number of at least 1; got 2\.0"),
        ({"context": "16"}, "context must be a whole number of at least 1; got '16'"),
        ({"attention": "gqa", "kv_heads": 3}, r"one of \[1, 2, 4\]; got 3"),
        ({"kv_heads": 2}, "Use attention='gqa'"),
        ({"attention": "mla", "kv_heads": 2}, "has no kv_heads"),
        ({"attention": "mla", "qk_norm": True}, "latents are normalised already"),
        ({"attention": "mla", "rotary_width": 3}, "must be even; got 3"),
        ({"attention": "mla", "kv_latent": 0}, "kv_latent must be at least 1"),
        ({"kv_latent": 8}, "kv_latent belong"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_at_once(options, words):
    with pytest.raises(ValueError, match=words):
        GPTConfig(**SMALL | options)


@pytest.mark.parametrize("kind", ["mha", "mla"])
def test_a_model_that_records_its_maxima_compiles_to_one_graph(kind):
    plain, model = (small(attention=kind) for _ in range(2))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for each, run in ((plain, plain), (model, compiled)):
        run(tokens(), tokens(seed=1))[1].backward()
        assert each.max_logits().isfinite().all()
    torch.testing.assert_close(model.max_logits(), plain.max_logits())
