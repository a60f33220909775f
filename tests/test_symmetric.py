"""Symmetric products on a CPU; those on a GPU are in test_gpu.py."""

import pytest
import torch

from muon_lab import symmetric
from muon_lab.orthogonalize import (
    ALONE,
    newton_schulz,
    newton_schulz_fast,
    newton_schulz_gram,
    newton_schulz_turbo,
    polar_factor,
)
from muon_lab.symmetric import pays, symmetric_product
from tests.assertions import assert_close

BAND = 100


@pytest.fixture(autouse=True)
def narrow_bands(monkeypatch):
    """Let small matrices be cut, most of them into several bands."""
    monkeypatch.setattr(symmetric, "CPU_ROWS", BAND)
    monkeypatch.setattr(symmetric, "BAND", BAND)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


@pytest.mark.parametrize("side", [BAND - 1, BAND, 2 * BAND + 3, 1001])
@pytest.mark.parametrize("times", [1.0, -2.0, 0.0])
def test_it_is_the_product_and_symmetric(side, times):
    x, addend = random(side, 700), random(side, side, seed=1)
    addend = addend + addend.mT
    for plus, factor in ((None, 0.0), ((0.5, addend), 0.5)):
        got = symmetric_product(x, x, plus, times)
        wanted = times * x.double() @ x.double().mT + factor * addend.double()
        assert_close(got, wanted, atol=1e-5)
        if side >= BAND:
            assert_close(got[: side // 2, side // 2 :], got[side // 2 :, : side // 2].mT)


@pytest.mark.parametrize("form", [newton_schulz, newton_schulz_gram])
@pytest.mark.parametrize("shape", [(500, 500), (400, 900), (900, 400)])
def test_a_large_matrix_is_orthogonalized_as_in_a_stack_where_no_product_is_cut(form, shape):
    x = random(*shape).double()
    assert pays(x if shape[0] <= shape[1] else x.mT)
    assert not pays(x[None])
    assert_close(form(x), form(x[None])[0], atol=1e-12)


def test_the_other_schedules_take_bands_too():
    x = random(450, 450).double()
    for run in (newton_schulz_turbo, lambda x: newton_schulz(x, "convergent", steps=3)):
        assert_close(run(x), run(x[None])[0], atol=1e-12)
    cubic = newton_schulz(x, (1.5, -0.5, 0.0), steps=60)
    assert_close(cubic, polar_factor(x), atol=1e-6)


def test_a_large_matrix_alone_is_multiplied_as_a_matrix():
    stack = random(1, 600, 900)
    assert stack.numel() > ALONE
    got = newton_schulz_fast(stack, dtype=torch.float32)
    assert torch.equal(got, newton_schulz(stack[0])[None])
    assert_close(got, newton_schulz(stack), atol=1e-4)


def test_a_product_overwrites_what_its_memory_held(monkeypatch):
    nans = torch.full((300, 300), torch.nan)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *_: nans)
    x = random(300, 300)
    assert_close(symmetric_product(x, x), x @ x.mT, atol=1e-5)


def test_the_addend_stays_as_it_was():
    x, addend = random(300, 300), torch.ones(300, 300)
    symmetric_product(x, x, plus=(2.0, addend))
    assert torch.equal(addend, torch.ones(300, 300))


def test_gradients_flow_through_a_large_matrix():
    x = random(400, 400).requires_grad_()
    newton_schulz(x, steps=2).sum().backward()
    y = x.detach()[None].requires_grad_()
    newton_schulz(y, steps=2).sum().backward()
    assert_close(x.grad, y.grad[0], atol=1e-4)
