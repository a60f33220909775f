"""Muon's rule: torch's own where both have it, SGD and AdamW where its novel part is off."""

import math

import pytest
import torch
from torch.nn import Parameter

from muon_lab.muon import Muon, muon_update_, split_parameters, update_scale
from muon_lab.orthogonalize import newton_schulz
from tests.assertions import assert_close, assert_unchanged

SHAPES = [(16, 16), (16, 40), (40, 16), (16, 16), (5, 6), (1, 7)]
BOTH_HAVE = [
    {},
    {"lr": 0.05},
    {"lr": torch.tensor(0.02, dtype=torch.float64)},
    {"weight_decay": 0.0},
    {"weight_decay": 0.5},
    {"momentum": 0.0},
    {"momentum": 0.8, "nesterov": False},
    {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 9},
    {"ns_steps": 1},
    {"eps": 10.0},
    {"adjust_lr_fn": "original"},
    {"adjust_lr_fn": "match_rms_adamw"},
]


def parameters(shapes=SHAPES, dtype=torch.float32, seed=0):
    """Return parameters, the same for the same seed."""
    dice = torch.Generator().manual_seed(seed)
    return [Parameter(torch.randn(shape, generator=dice).to(dtype)) for shape in shapes]


def walk(optimizer, params, steps, seed=1):
    """Step with gradients that the seed decides; return the parameters."""
    dice = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=dice).to(p.dtype)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("options", BOTH_HAVE, ids=str)
def test_fifty_steps_of_torchs_muon_in_double_precision(options, monkeypatch):
    # torch iterates in bfloat16 whatever it is given. Made to iterate in float64, as ours can be
    # asked to, it leaves nothing between the two but the rounding of float64.
    ours, theirs = parameters(dtype=torch.float64), parameters(dtype=torch.float64)
    walk(Muon(ours, ns_dtype=torch.float64, **options), ours, steps=50)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.double().clone())
    walk(torch.optim.Muon(theirs, **options), theirs, steps=50)
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p, q, atol=1e-11)


@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (96, 32), (64, 256)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_fifty_steps_in_bfloat16_end_within_its_rounding(shape, nesterov):
    # Neither iteration in bfloat16 is the exact one. Square matrices take torch's form, and come as
    # near. The others take the Gram form: five steps of at most two roundings of 2⁻⁹ each.
    options = {"lr": 0.02, "weight_decay": 0.1, "nesterov": nesterov}
    ends = {}
    for name, make in {
        "exact": lambda p: Muon(p, ns_dtype=torch.float64, **options),
        "ours": lambda p: Muon(p, ns_dtype=torch.bfloat16, **options),
        "torch": lambda p: torch.optim.Muon(p, **options),
    }.items():
        params = parameters([shape] * 3)
        ends[name] = torch.stack(walk(make(params), params, steps=50))
    distance = (ends["exact"] - torch.stack([p.detach() for p in parameters([shape] * 3)])).norm()
    ours, theirs = ((ends[name] - ends["exact"]).norm() / distance for name in ("ours", "torch"))
    assert theirs < 10 * 2**-9
    assert ours < (1.2 * theirs if shape[0] == shape[1] else 10 * 2**-9)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("nesterov", [True, False])
def test_with_the_identity_it_is_sgd_with_momentum_bit_for_bit(momentum, nesterov):
    # Whole numbers and powers of two, so that no sum rounds. Our buffer is an average, SGD's a sum
    # 1/(1 - μ) times as large, which its learning rate makes up for.
    nesterov = nesterov and momentum > 0
    dice = torch.Generator().manual_seed(0)
    ours = [torch.zeros(3, 4, dtype=torch.float64) for _ in range(2)]
    theirs = [Parameter(p.clone()) for p in ours]
    buffers = [torch.zeros_like(p) for p in ours]
    sgd = torch.optim.SGD(theirs, lr=(1 - momentum) / 8, momentum=momentum, nesterov=nesterov)
    for _ in range(20):
        grads = [torch.randint(-9, 10, (3, 4), generator=dice).double() for _ in ours]
        muon_update_(
            ours, grads, buffers, lr=1 / 8, weight_decay=0.0, momentum=momentum,
            nesterov=nesterov, scale=1.0, orthogonalize=lambda stack: stack,
        )  # fmt: skip
        for p, grad in zip(theirs, grads, strict=True):
            p.grad = grad.clone()
        sgd.step()
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)
        assert p.abs().max() > 1


def test_decay_takes_the_unscaled_learning_rate():
    p = torch.full((4, 1), 2.0)
    muon_update_(
        [p], [torch.zeros(4, 1)], [torch.zeros(4, 1)], lr=0.25, weight_decay=0.5, momentum=0.5,
        nesterov=True, scale=100.0, orthogonalize=lambda stack: stack,
    )  # fmt: skip
    assert torch.equal(p, torch.full((4, 1), 2.0 * (1 - 0.25 * 0.5)))


@pytest.mark.parametrize(
    "options",
    [{}, {"betas": (0.8, 0.95), "eps": 1e-3}, {"lr": torch.tensor(0.1), "maximize": True}],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adamw_groups_are_torchs_adamw_bit_for_bit(options, dtype):
    shapes = [(7,), (5, 3), (), (2, 3, 4)]
    ours, theirs = parameters(shapes, dtype), parameters(shapes, dtype)
    walk(Muon([{"params": ours, "use_muon": False, **options}], weight_decay=0.3), ours, 20)
    walk(torch.optim.AdamW(theirs, weight_decay=0.3, **options), theirs, 20)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_adamw_counts_past_256_where_bfloat16_is_the_default():
    torch.set_default_dtype(torch.bfloat16)
    try:
        p = parameters([(3,)], torch.bfloat16)[0]
        optimizer = Muon([{"params": [p], "use_muon": False}])
        walk(optimizer, [p], 260)
    finally:
        torch.set_default_dtype(torch.float32)
    assert optimizer.state[p]["step"].item() == 260


@pytest.mark.parametrize("shape", [(12, 12), (8, 24), (24, 8)])
def test_a_stack_is_stepped_as_its_matrices_one_by_one(shape):
    options = {"lr": 0.1, "ns_dtype": torch.float64}
    together, alone = parameters([shape] * 5), parameters([shape] * 5)
    walk(Muon(together, **options), together, steps=10)
    walk(Muon([{"params": [p]} for p in alone], **options), alone, steps=10)
    for p, q in zip(together, alone, strict=True):
        assert_close(p, q, atol=1e-6)


@pytest.mark.parametrize("name", ["you", "polar_express", "cans", "deepseek_v4", "taylor"])
def test_a_schedule_runs_to_its_end_by_name_and_as_a_table(name):
    p = parameters([(6, 9)])[0]
    before, grad = p.detach().clone(), torch.randn(6, 9)
    p.grad = grad
    Muon([p], lr=1.0, weight_decay=0, ns_coefficients=name, ns_dtype=torch.float64).step()
    assert_close(before - p.detach(), newton_schulz(grad.double(), name), atol=1e-6)


def test_ns_steps_cuts_a_table_short():
    p = parameters([(6, 9)])[0]
    before, grad = p.detach().clone(), torch.randn(6, 9)
    p.grad = grad
    options = {"ns_coefficients": "you", "ns_steps": 2, "ns_dtype": torch.float64}
    Muon([p], lr=1.0, weight_decay=0, **options).step()
    assert_close(before - p.detach(), newton_schulz(grad.double(), "you", 2), atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (32, 128), (128, 32)])
def test_the_scales_give_the_update_the_sizes_that_they_promise(shape):
    update = newton_schulz(torch.randn(shape, dtype=torch.float64), "convergent", 30)
    rms = {
        rule: (update_scale(*shape, rule) * update).square().mean().sqrt().item()
        for rule in ("original", "match_rms_adamw", "spectral_unclamped")
    }
    assert math.isclose(rms["match_rms_adamw"], 0.2, rel_tol=1e-6)
    assert math.isclose(rms["original"], max(1, shape[0] / shape[1]) ** 0.5 / max(shape) ** 0.5)
    spectral = update_scale(*shape, "spectral_unclamped") * torch.linalg.matrix_norm(update, 2)
    assert math.isclose(spectral.item(), (shape[0] / shape[1]) ** 0.5, rel_tol=1e-6)


def test_maximize_climbs_where_it_would_descend():
    down, up = parameters(), parameters()
    start = [p.detach().clone() for p in down]
    walk(Muon(down, weight_decay=0.0), down, 1)
    walk(Muon(up, weight_decay=0.0, maximize=True), up, 1)
    for p, q, origin in zip(down, up, start, strict=True):
        assert_close(p.detach() - origin, origin - q.detach(), atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_no_gradient_is_written_and_the_buffer_is_the_plain_average(dtype, nesterov):
    p = parameters([(8, 12)], dtype)[0]
    optimizer = Muon([p], nesterov=nesterov, momentum=0.5)
    grads = [torch.randn(8, 12).to(dtype) for _ in range(3)]
    average = torch.zeros(8, 12, dtype=dtype)
    for grad in grads:
        p.grad = grad.clone()
        optimizer.step()
        assert_unchanged(grad, p.grad)
        average.lerp_(grad, 0.5)
    assert torch.equal(optimizer.state[p]["momentum_buffer"], average)


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="seen in torch 2.13")
def test_torchs_muon_divides_its_own_buffer_in_bfloat16_without_nesterov():
    # `.bfloat16()` of a bfloat16 tensor is no copy, and the next line divides in place.
    p = parameters([(8, 12)], torch.bfloat16)[0]
    p.grad = torch.full((8, 12), 4.0, dtype=torch.bfloat16)
    optimizer = torch.optim.Muon([p], nesterov=False, momentum=0.5)
    optimizer.step()
    buffer = optimizer.state[p]["momentum_buffer"]
    assert buffer.norm() < 1.01  # the average has norm 2·√96
    assert not torch.equal(buffer, torch.full_like(buffer, 2.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_float_dtype_is_kept_and_learns(dtype):
    p = parameters([(8, 6)], dtype)[0]
    target = torch.ones(8, 6, dtype=dtype)
    optimizer = Muon([p], lr=0.2, weight_decay=0.0)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (p - target).float().square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert (p.dtype, optimizer.state[p]["momentum_buffer"].dtype) == (dtype, dtype)
    assert losses[-1] < 0.1 * losses[0]


def test_a_zero_gradient_changes_nothing_but_the_decay():
    p = parameters([(3, 4)])[0]
    before = p.detach().clone()
    p.grad = torch.zeros(3, 4)
    Muon([p], lr=0.1, weight_decay=0.0).step()
    assert torch.equal(p, before)


def test_a_hidden_layer_learns_faster_than_its_first_loss():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh(),
        torch.nn.Linear(32, 1),
    )  # fmt: skip
    inputs = torch.randn(256, 8)
    targets = inputs[:, :1] * inputs[:, 1:2]
    optimizer = Muon(split_parameters(model), lr=0.02, weight_decay=0.0)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
