"""What runs differently on a GPU, each compared with the plain way to compute the same.

``pytest -m gpu`` runs these tests; on a machine without CUDA they are skipped.
"""

import numpy as np
import pytest
import torch

from muon_lab import symmetric
from muon_lab.muon import Muon
from muon_lab.orthogonalize import newton_schulz, newton_schulz_gram, newton_schulz_turbo
from muon_lab.training.checkpoint import load_checkpoint_, save_checkpoint
from muon_lab.training.config import TrainConfig
from muon_lab.training.costs import gradient_norm, peak_flops
from muon_lab.training.loop import backward, compile_ahead, train, training_steps
from muon_lab.training.state import new_training, remaining_batches
from tests.assertions import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA"),
]
SMALL = {
    "device": "cuda", "layers": 2, "width": 128, "heads": 2, "context": 128, "batch": 8,
    "steps": 8, "valid_every": 4, "valid_windows": 8, "sample": 8,
}  # fmt: skip
PLAIN = {"precision": "float32", "compile": False}
FAST = {"precision": "bfloat16", "compile": True}


def loss_and_gradient(**options):
    training = new_training(TrainConfig(**SMALL, **options))
    if training.config.compile:
        compile_ahead(training)
    batch = next(remaining_batches(training))
    return backward(training.forward, batch, training.config.accumulate), training.model


@pytest.mark.parametrize(
    ("optimizer", "attention"),
    [("adamw", "mha"), ("muonclip", "mha"), ("muonclip", "gqa"), ("muonclip", "mla")],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_bfloat16_and_compiling_keep_loss_and_gradient(optimizer, attention, parts):
    """Bfloat16 has 8 significant bits: gradients keep their direction and about their length."""
    shared = {"optimizer": optimizer, "attention": attention, "accumulate": parts}
    loss, plain = loss_and_gradient(**shared, **PLAIN)
    fast_loss, fast = loss_and_gradient(**shared, **FAST)
    assert fast_loss == pytest.approx(loss, rel=5e-3)
    assert_close(gradient_norm(fast), gradient_norm(plain), rtol=0.05)
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        cosine = torch.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0)
        assert cosine.item() > 0.98
    if optimizer == "muonclip":
        assert_close(fast.max_logits(), plain.max_logits(), rtol=0.05, atol=0.05)


def test_compiling_alone_keeps_the_losses_of_a_run():
    runs = [
        train(TrainConfig(**SMALL, precision="float32", compile=on), progress=False)
        for on in (True, False)
    ]
    for name in ("loss", "valid_loss"):
        np.testing.assert_allclose(runs[0].curves[name], runs[1].curves[name], rtol=2e-3)


def test_fused_adamw_is_adamw():
    params = [
        [torch.nn.Parameter(torch.ones(64, 32, device="cuda")) for _ in range(3)] for _ in range(2)
    ]
    optimizers = [
        torch.optim.AdamW(copies, lr=0.1, weight_decay=0.1, fused=fused, foreach=False)
        for copies, fused in zip(params, (True, False), strict=True)
    ]
    generator = torch.Generator("cuda").manual_seed(0)
    for _ in range(5):
        for pair in zip(*params, strict=True):
            grad = torch.randn(64, 32, device="cuda", generator=generator)
            for p in pair:
                p.grad = grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for fused, plain in zip(*params, strict=True):
        assert_close(fused, plain, rtol=1e-5, atol=1e-6)


def test_a_gpu_with_little_memory_reads_a_batch_in_parts():
    """Half the memory that a whole batch needs is enough for its parts, with the same losses."""
    options = SMALL | PLAIN | {"width": 512, "batch": 64, "context": 512, "steps": 2}
    whole = train(TrainConfig(**options), progress=False)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(0.5 * whole.costs["peak_memory_bytes"] / total)
        with pytest.raises(MemoryError, match="raise accumulate to 2"):
            train(TrainConfig(**options), progress=False)
        torch.cuda.empty_cache()
        parts = train(TrainConfig(**options, accumulate=8), progress=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(parts.curves["loss"], whole.curves["loss"], rtol=2e-3)


def test_costs_are_those_of_the_gpu():
    run = train(TrainConfig(**SMALL, **FAST, optimizer="muon"), progress=False)
    assert run.costs["peak_memory_of"] == "device"
    assert run.costs["peak_memory_bytes"] > sum(run.costs["state_bytes"].values())
    known = peak_flops(run.provenance["device"], "bfloat16") is not None
    used = run.costs["model_flops_utilisation"]
    assert (0 < used < 1) if known else used is None


@pytest.mark.parametrize("shape", [(256, 256), (128, 512), (512, 128)])
def test_muon_steps_as_torchs_muon_does(shape):
    """Both iterate in bfloat16, whose rounding adds up to a few per cent over five steps."""
    generator = torch.Generator("cuda").manual_seed(0)
    ours, theirs = (
        [torch.nn.Parameter(torch.zeros(shape, device="cuda")) for _ in range(3)] for _ in range(2)
    )
    for pair in zip(ours, theirs, strict=True):
        grad = torch.randn(shape, device="cuda", generator=generator)
        for p in pair:
            p.grad = grad
    Muon(ours, lr=1.0).step()
    torch.optim.Muon(theirs, lr=1.0).step()
    for p, q in zip(ours, theirs, strict=True):
        assert ((p - q).norm() / q.norm()).item() < 0.05


@pytest.mark.parametrize("optimizer", ["adamw", "muonclip"])
def test_a_run_continues_from_its_checkpoint(tmp_path, optimizer):
    config = TrainConfig(**SMALL, **PLAIN, optimizer=optimizer)
    whole, stopped = new_training(config), new_training(config)
    loop = training_steps(whole)
    for _ in range(3):
        next(loop)
    save_checkpoint(whole, tmp_path / "state.pt")
    load_checkpoint_(stopped, tmp_path / "state.pt")
    losses = [next(loop), next(training_steps(stopped))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for p, q in zip(whole.model.parameters(), stopped.model.parameters(), strict=True):
        states = [whole.optimizer.state[p], stopped.optimizer.state[q]]
        where = [{name: value.device for name, value in state.items()} for state in states]
        assert where[0] == where[1]
        assert_close(q, p, rtol=1e-3, atol=1e-4)


on_hopper = pytest.mark.skipif(
    not (torch.cuda.is_available() and symmetric._runs_on(torch.device("cuda"))),
    reason="needs a Hopper GPU, and Triton",
)


def on_gpu(*shape, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(*shape, device="cuda", generator=generator) / shape[-1] ** 0.5


@on_hopper
@pytest.mark.parametrize("shape", [(1, 256, 64), (3, 1000, 777), (2, 768, 3072), (900, 1100)])
def test_the_symmetric_product_is_the_product_and_symmetric(shape):
    """Each entry is a sum in float32, rounded once; sides that tiles do not divide are whole."""
    x, addend = on_gpu(*shape).bfloat16(), on_gpu(*shape[:-1], shape[-2], seed=1)
    addend = (addend + addend.mT).bfloat16()
    for plus, factor in ((None, 0.0), ((-0.5, addend), -0.5)):
        got = symmetric.symmetric_product(x, x, plus, times=2.0)
        wanted = 2 * x.double() @ x.double().mT + factor * addend.double()
        assert torch.equal(got, got.mT)
        assert_close(got, wanted, rtol=2**-8, atol=1e-4)
    strided = x.mT.contiguous().mT  # as a tall matrix comes
    assert torch.equal(symmetric.symmetric_product(strided, strided, plus, times=2.0), got)


@on_hopper
@pytest.mark.parametrize("form", [newton_schulz, newton_schulz_gram, newton_schulz_turbo])
@pytest.mark.parametrize("shape", [(8, 800, 800), (8, 800, 2400), (8, 2400, 800)])
def test_the_iteration_with_the_kernel_is_as_exact_as_without(monkeypatch, form, shape):
    x = on_gpu(*shape)
    exact = form(x.double())
    errors = []
    for smallest in ((1, 1), (10**9, 1)):
        monkeypatch.setattr(symmetric, "SMALLEST", smallest)
        got = form(x, dtype=torch.bfloat16)
        errors.append(((got - exact).norm() / exact.norm()).item())
    assert errors[0] < 1.2 * errors[1] < 0.1


@on_hopper
def test_a_gradient_flows_through_the_iteration_of_a_large_matrix():
    x = on_gpu(1, 2048, 2048).bfloat16().requires_grad_()
    assert symmetric.pays(x)
    newton_schulz(x).float().square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.norm() > 0


def muon_on_gpu(shape=(8, 1024, 1024)):
    params = [torch.nn.Parameter(p.clone()) for p in on_gpu(*shape)]
    for p, grad in zip(params, on_gpu(*shape, seed=1), strict=True):
        p.grad = grad.clone()
    return params, Muon(params, lr=0.1)


def test_a_step_never_waits_for_the_gpu():
    """The host can then run ahead of it; torch raises for whatever would make it wait."""
    _, optimizer = muon_on_gpu()
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
        with pytest.raises(RuntimeError, match="synchronizing"):
            optimizer.param_groups[0]["params"][0].sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_compiled_step_is_the_plain_one():
    (plain, one), (compiled, other) = muon_on_gpu(), muon_on_gpu()
    step = torch.compile(other.step)
    for _ in range(3):
        one.step()
        step()
    for p, q in zip(plain, compiled, strict=True):
        assert ((p - q).norm() / p.norm()).item() < 0.01
