"""QK-Clip on a whole model, MuonClip's step, and maxima agreed over processes."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard

from muon_lab.clip import MuonClip, qk_clip_
from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.muon import Muon, split_parameters

KINDS = ["mha", "gqa", "mla"]
NAMES = ["blocks.0.attention", "blocks.1.attention"]


def small(kind="mha", **options):
    torch.manual_seed(0)
    config = GPTConfig(layers=2, width=32, heads=4, context=16, attention=kind, **options)
    return GPT(config).double()


def tokens(seed=0, batch=4):
    return torch.randint(256, (batch, 16), generator=torch.Generator().manual_seed(seed))


def middle(model):
    """Return a τ that half of the first layer's heads exceed on ``tokens()``."""
    model(tokens())
    tau = model.max_logits()[0].median().item() * 1.01
    model.forget_max_logits()
    return tau


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_layers_maxima_are_tau_after_the_clip(kind):
    model = small(kind)
    tau = middle(model)
    model(tokens())
    before = model.max_logits()
    gammas = qk_clip_(model, tau)
    assert list(gammas) == NAMES
    model(tokens())
    # Only the first layer sees the same inputs again; its clip changes what the second one reads.
    now = model.max_logits()[0]
    torch.testing.assert_close(now, gammas[NAMES[0]] * before[0], rtol=1e-12, atol=0)
    assert now.max().item() == pytest.approx(tau, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_muonclip_steps_as_muon_does_and_then_clips(kind):
    model, twin = small(kind), small(kind)
    tau = middle(model)
    clipping = MuonClip(model, lr=0.05, tau=tau, weight_decay=0.1)
    plain = Muon(split_parameters(twin), lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        for each, optimizer in ((model, clipping), (twin, plain)):
            optimizer.zero_grad()
            each(tokens(seed), tokens(seed + 1))[1].backward()
            maxima = each.max_logits()
            optimizer.step()
        gammas = qk_clip_(twin, tau)
        for name, row in zip(NAMES, maxima, strict=True):
            assert torch.equal(clipping.gammas[name], gammas[name])
            assert torch.equal(clipping.max_logits[name], row)
        assert model.max_logits() is None
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_muonclip_takes_groups_a_closure_and_a_scheduler():
    model = small()
    groups = split_parameters(model)
    groups[1]["lr"] = 3e-3
    optimizer = MuonClip(model, lr=0.05, tau=1.0, params=groups)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def closure():
        optimizer.zero_grad()
        loss = model(tokens(), tokens(1))[1]
        loss.backward()
        return loss

    first = optimizer.step(closure).item()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 1.5e-3]
    assert optimizer.step(closure).item() < first
    assert (optimizer.gammas[NAMES[0]] < 1).any()


def test_hooks_on_a_step_run_once():
    Muon([nn.Parameter(torch.zeros(2, 2))])  # so that torch has wrapped Muon's own step as well
    model, ran = small(), []
    optimizer = MuonClip(model)
    optimizer.register_step_pre_hook(lambda *_: ran.append("before"))
    optimizer.register_step_post_hook(lambda *_: ran.append("after"))
    model(tokens(), tokens(1))[1].backward()
    optimizer.step()
    assert ran == ["before", "after"]


def test_a_copied_or_unpickled_muonclip_clips_its_own_model():
    model = small()
    optimizer = MuonClip(model, lr=0.05, tau=0.5)
    for make in (copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))):
        model_2, optimizer_2 = make((model, optimizer))
        before = model.blocks[0].attention.query.weight.clone()
        model_2(tokens(), tokens(1))[1].backward()
        optimizer_2.step()
        assert optimizer_2.model is model_2
        assert (optimizer_2.gammas[NAMES[0]] < 1).all()
        assert torch.equal(model.blocks[0].attention.query.weight, before)


def test_a_saved_state_resumes_to_the_same_bits():
    model, optimizer = small(), None
    optimizer = MuonClip(model, lr=0.05, tau=1.0)

    def train(model, optimizer, seed):
        optimizer.zero_grad()
        model(tokens(seed), tokens(seed + 1))[1].backward()
        optimizer.step()

    train(model, optimizer, 0)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = small()
    resumed.load_state_dict(saved["model"])
    again = MuonClip(resumed, lr=0.05, tau=1.0)
    again.load_state_dict(saved["optimizer"])
    train(model, optimizer, 1)
    train(resumed, again, 1)
    for ours, theirs in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_clip_before_a_forward_names_the_layers_and_touches_nothing():
    model = small()
    model.blocks[0].attention(torch.randn(1, 4, 32).double() * 9)
    before = model.blocks[0].attention.query.weight.clone()
    with pytest.raises(RuntimeError, match=r"in blocks\.1\.attention: run a forward"):
        qk_clip_(model, tau=1e-3)
    assert torch.equal(model.blocks[0].attention.query.weight, before)


def test_qk_norm_and_models_without_logits_are_refused_with_the_reason():
    normed = small(qk_norm=True)
    with pytest.raises(ValueError, match="logits ignore the scale"):
        MuonClip(normed)
    normed(tokens())
    with pytest.raises(ValueError, match="logits ignore the scale"):
        qk_clip_(normed)
    with pytest.raises(ValueError, match="nothing to clip"):
        qk_clip_(nn.Linear(2, 2))
    for tau in (0.0, -5.0, "100", None, float("nan")):
        with pytest.raises(ValueError, match="tau must be a positive logit"):
            MuonClip(small(), tau=tau)


def train_one(model, optimizer, seed=0):
    """Take one step; return the weights after it."""
    optimizer.zero_grad()
    model(tokens(seed), tokens(seed + 1))[1].backward()
    optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def assert_equal_weights(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", KINDS)
def test_a_validation_between_steps_changes_no_weight(kind):
    ends = []
    for validated in (False, True):
        model = small(kind)
        optimizer = MuonClip(model, lr=0.05, tau=0.5)
        train_one(model, optimizer)
        if validated:
            loud = tokens(99, batch=32)
            with torch.no_grad():
                model(loud)
            model.eval()
            model(loud)
            model.train()
            model.generate(loud[:, :4], 3)
            assert model.max_logits() is None
        ends.append(train_one(model, optimizer, seed=1))
    assert_equal_weights(*ends)


@pytest.mark.parametrize("zeroed_after_forward", [False, True])
def test_a_step_that_was_skipped_leaves_nothing_behind(zeroed_after_forward):
    ends = []
    for overflow in (False, True):
        model = small()
        optimizer = MuonClip(model, lr=0.05, tau=0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        if overflow:
            # An overflow of the forward, NaN in every logit, and one of the backward alone.
            for factor in (float("inf"), 1.0):
                kept = model.embedding.weight.detach().clone()
                model.embedding.weight.data.mul_(factor)
                scaler.scale(model(tokens(9), tokens(8))[1] * float("inf")).backward()
                model.embedding.weight.data.copy_(kept)
                scaler.step(optimizer)
                scaler.update()
                if not zeroed_after_forward:
                    optimizer.zero_grad()
        loss = model(tokens(), tokens(1))[1]
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        ends.append([*(p.detach().clone() for p in model.parameters()),
                     *optimizer.max_logits.values()])  # fmt: skip
    assert_equal_weights(*ends)


def test_two_forwards_of_one_gradient_and_two_gradients_of_one_step_all_count():
    model = small()
    optimizer = MuonClip(model, lr=0.05, tau=0.5)
    maxima = []
    for seed in range(3):
        model(tokens(seed), tokens(seed))
        maxima.append(model.max_logits())
        model.forget_max_logits()
    first, second = (model(tokens(seed), tokens(seed))[1] for seed in (0, 1))
    (first + second).backward()
    model(tokens(2), tokens(2))[1].backward()
    assert torch.equal(model.max_logits(), torch.stack(maxima).amax(0))
    optimizer.step()


def test_a_step_that_is_refused_moves_no_weight():
    model = small()
    optimizer = MuonClip(model, lr=0.05, tau=0.5)
    before = [p.detach().clone() for p in model.parameters()]
    model(tokens(), tokens(1))[1].backward()
    model.forget_max_logits()
    with pytest.raises(RuntimeError, match=r"blocks\.0\.attention"):
        optimizer.step()
    model(tokens(), tokens(1))[1].backward()
    model.blocks[1].attention.max_logits = torch.tensor([1.0, float("nan"), 1.0, 1.0])
    for refused in (optimizer.step, lambda: qk_clip_(model, 0.5)):
        with pytest.raises(FloatingPointError, match="NaN or Inf"):
            refused()
    assert_equal_weights(before, model.parameters())


def test_a_closure_is_run_before_the_maxima_are_asked_for():
    model = small()
    optimizer = MuonClip(model, lr=0.05)

    def closure():
        loss = model(tokens(), tokens(1))[1]
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0


def test_recording_does_not_outlive_a_transform():
    model = small()
    weights = dict(model.named_parameters())

    def loss(weights, row):
        return torch.func.functional_call(model, weights, (row[None], row[None]))[1]

    torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, tokens())
    assert model.max_logits() is None
    model(tokens())
    assert model.max_logits().isfinite().all()


def test_torchs_distributed_checkpoint_takes_the_state_there_and_back():
    ends = []
    for resumed in (False, True):
        model = small()
        optimizer = MuonClip(model, lr=0.05, tau=0.5)
        train_one(model, optimizer)
        if resumed:
            saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
            fresh = MuonClip(model, lr=0.1, tau=0.5)
            set_optimizer_state_dict(model, fresh, saved)
            optimizer = fresh
        assert {group["lr"] for group in optimizer.param_groups} == {0.05}
        ends.append(train_one(model, optimizer, seed=1))
    assert_equal_weights(*ends)


class Foreign(nn.Module):
    """Another project's attention: no class of ours, only the two members."""

    def __init__(self):
        super().__init__()
        self.max_logits = torch.tensor([10.0, 400.0])
        self.weight = nn.Parameter(torch.ones(2, 3))

    @torch.no_grad()
    def clip_qk_(self, tau):
        gamma = (tau / self.max_logits).clamp(max=1)
        self.weight.mul_(gamma[:, None])
        return gamma


def test_any_module_with_the_two_members_is_clipped():
    model = nn.Sequential(nn.Linear(3, 3), Foreign())
    gammas = qk_clip_(model)
    assert gammas["1"].tolist() == [1.0, 0.25]
    assert model[1].weight[:, 0].tolist() == [1.0, 0.25]


def clip_on_one_rank(rank, world, address, results):
    """Run in its own process: a batch of its own size, the same weights, one clip."""
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    model = small()
    model(tokens(seed=rank, batch=1 + 2 * rank))
    own = model.max_logits()
    gammas = qk_clip_(model, tau=1.0)
    clipping = MuonClip(small(), tau=1.0)
    clipping.model(tokens(seed=rank, batch=1 + 2 * rank))
    clipping.step()  # there are no gradients, so only the clip
    for ours, theirs in zip(clipping.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    weights = [p.detach().clone() for p in model.parameters()]
    torch.save((own, torch.stack(list(gammas.values())), weights), f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_on_the_largest_maxima(tmp_path):
    (tmp_path / "results").mkdir()
    address = f"file://{tmp_path}/meeting"
    mp.spawn(clip_on_one_rank, (2, address, str(tmp_path / "results")), nprocs=2)
    ranks = [torch.load(tmp_path / "results" / f"{r}.pt", weights_only=True) for r in range(2)]
    (own_0, gamma_0, weights_0), (own_1, gamma_1, weights_1) = ranks
    assert not torch.equal(own_0, own_1)
    assert torch.equal(gamma_0, gamma_1)
    torch.testing.assert_close(gamma_0, 1 / torch.maximum(own_0, own_1).clamp(min=1))
    for ours, theirs in zip(weights_0, weights_1, strict=True):
        assert torch.equal(ours, theirs)


def train_sharded(rank, world, address, results):
    """Run in its own process: three steps under FSDP2, each rank with its half of every batch."""
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    for kind in KINDS:
        model = small(kind)
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        optimizer = MuonClip(model, lr=0.05, tau=0.5, ns_dtype=torch.float64)
        for seed in range(3):
            optimizer.zero_grad()
            half = slice(2 * rank, 2 * rank + 2)
            model(tokens(seed)[half], tokens(seed + 1)[half])[1].backward()
            optimizer.step()
        weights = [p.full_tensor() for p in model.parameters()]
        if rank == 0:
            torch.save(weights, f"{results}/{kind}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_under_fsdp2_two_processes_train_and_clip_as_one(tmp_path):
    mp.spawn(train_sharded, (2, f"file://{tmp_path}/meeting", str(tmp_path)), nprocs=2)
    for kind in KINDS:
        model = small(kind)
        optimizer = MuonClip(model, lr=0.05, tau=0.5, ns_dtype=torch.float64)
        for seed in range(3):
            train_one(model, optimizer, seed)
        assert (optimizer.gammas[NAMES[0]] < 1).any()
        sharded = torch.load(tmp_path / f"{kind}.pt", weights_only=True)
        for ours, theirs in zip(model.parameters(), sharded, strict=True):
            torch.testing.assert_close(theirs, ours.detach(), rtol=0, atol=1e-9)
