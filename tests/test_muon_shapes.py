"""What Muon takes for a matrix, what it keeps of it, and what that costs in memory."""

import pytest
import torch
from torch.nn import Parameter

from muon_lab.muon import STACK, Muon, matrix_shape, split_parameters
from muon_lab.orthogonalize import newton_schulz, newton_schulz_fast, polar_factor
from muon_lab.polynomials import SCHEDULES
from tests.assertions import assert_close, assert_orthogonal


def step(shape, **options):
    """Return the gradient of one step from 0 with Muon, and what it subtracted."""
    p = Parameter(torch.zeros(shape))
    p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    group = {"params": [p], **options}
    Muon([group], lr=1.0, ns_coefficients="convergent", ns_steps=30, ns_dtype=torch.float64).step()
    return p.grad, -p.detach()


@pytest.mark.parametrize("shape", [(3, 8, 12), (3, 12, 8), (2, 8, 8)])
def test_each_matrix_of_a_stack_is_made_orthogonal_by_itself(shape):
    grad, update = step(shape)
    scale = max(1, shape[1] / shape[2]) ** 0.5
    assert_orthogonal(update / scale, atol=1e-5)
    alone = torch.stack([step_of(matrix) for matrix in grad])
    assert_close(update, alone, atol=1e-5)


def step_of(grad):
    """Return Muon's update of one matrix with this gradient."""
    p = Parameter(torch.zeros_like(grad))
    p.grad = grad
    Muon([p], lr=1.0, ns_coefficients="convergent", ns_steps=30, ns_dtype=torch.float64).step()
    return -p.detach()


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (8, 2, 5, 5), (4, 2, 3, 3, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_is_one_matrix_with_a_row_for_each_output_channel(shape, layout):
    if layout is torch.channels_last and len(shape) == 5:
        layout = torch.channels_last_3d
    p = Parameter(torch.zeros(shape).to(memory_format=layout))
    p.grad = torch.randn(shape).to(memory_format=layout)
    options = {"ns_coefficients": "convergent", "ns_steps": 30, "ns_dtype": torch.float64}
    Muon([p], lr=1.0, **options).step()
    assert_close(-p.detach(), step_of(p.grad.flatten(1)).view(shape), atol=1e-5)
    assert p.is_contiguous(memory_format=layout)


def test_a_kernel_of_three_axes_is_one_where_the_group_says_so():
    grad, update = step((6, 4, 3), kernels=True)
    assert_orthogonal(update.flatten(1), atol=1e-5)
    assert_close(update, step_of(grad.flatten(1)).view(6, 4, 3), atol=1e-5)
    _, stacked = step((6, 4, 3, 3), kernels=False)
    assert_orthogonal(stacked / (4 / 4) ** 0.5, atol=1e-5)


def test_heads_are_made_orthogonal_one_by_one():
    grad, update = step((12, 10), heads=3)
    assert_orthogonal(update.view(3, 4, 10), atol=1e-5)
    together = torch.cat([step_of(head) for head in grad.chunk(3)])
    assert_close(update, together, atol=1e-5)
    gram = update @ update.T
    assert (gram - torch.eye(12)).abs().max() > 0.05  # but not with each other


@pytest.mark.parametrize(
    ("shape", "options", "wanted"),
    [
        ((4, 6), {}, (4, 6)),
        ((5, 4, 6), {}, (5, 4, 6)),
        ((5, 4, 6), {"kernels": True}, (5, 24)),
        ((5, 4, 3, 3), {}, (5, 36)),
        ((5, 4, 3, 3), {"kernels": False}, (5, 4, 3, 3)),
        ((4, 6), {"kernels": True, "heads": 2}, (2, 2, 6)),
        ((5, 4, 6), {"heads": 2}, (5, 2, 2, 6)),
    ],
)
def test_matrix_shape(shape, options, wanted):
    assert matrix_shape(shape, **options) == wanted


def test_muon_keeps_one_buffer_and_adamw_two():
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 256), torch.nn.LayerNorm(256), torch.nn.Linear(256, 10)
    )
    groups = split_parameters(model)
    optimizer = Muon(groups)
    model(torch.randn(3, 64)).sum().backward()
    optimizer.step()
    for group, buffers in zip(groups, (1, 2), strict=True):
        held = [s for p in group["params"] for s in optimizer.state[p].values() if s.numel() > 1]
        size = sum(p.numel() * p.element_size() for p in group["params"])
        assert sum(s.numel() * s.element_size() for s in held) == buffers * size


def test_parameters_of_many_shapes_and_dtypes_share_one_optimizer():
    params = [
        Parameter(torch.zeros(shape, dtype=dtype))
        for shape in [(4, 6), (6, 4), (4, 6), (2, 4, 6), (3, 2, 2, 2)]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for p in params:
        p.grad = torch.randn_like(p)
    Muon(params, lr=0.1).step()
    assert all(p.abs().max() > 0 for p in params)
    assert all(torch.isfinite(p).all() for p in params)


def test_a_bound_on_the_stack_changes_no_result(monkeypatch):
    ends = []
    for bound in (2**26, 50):
        monkeypatch.setitem(STACK, "cpu", bound)
        torch.manual_seed(0)
        params = [Parameter(torch.randn(4, 6)) for _ in range(5)]
        for p in params:
            p.grad = torch.randn_like(p)
        Muon(params, lr=0.1, ns_dtype=torch.float64).step()
        ends.append(torch.stack([p.detach() for p in params]))
    assert_close(ends[0], ends[1], atol=1e-7)


@pytest.mark.parametrize("shape", [(2, 400, 400), (1, 390, 800), (3, 20, 64), (2, 64, 20)])
def test_the_fast_way_is_the_plain_way(shape):
    stack = torch.randn(shape, dtype=torch.float64)
    fast = newton_schulz_fast(stack, "you", dtype=torch.float64)
    assert_close(fast, newton_schulz(stack, "you"), atol=1e-10)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("decay", [0, -3, -6])
def test_in_bfloat16_the_fast_way_stays_bounded_on_any_spectrum(schedule, decay):
    U, _ = torch.linalg.qr(torch.randn(48, 48, dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn(160, 48, dtype=torch.float64))
    stack = ((U * torch.logspace(0, decay, 48, dtype=torch.float64)) @ V.T).float()[None]
    fast = newton_schulz_fast(stack, schedule, dtype=torch.bfloat16).double()
    assert torch.linalg.matrix_norm(fast, 2).item() < 1.3


def test_the_iterations_dtype_follows_the_device(monkeypatch):
    for native, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert newton_schulz_fast(torch.randn(1, 3, 4)).dtype == wanted
    assert newton_schulz_fast(torch.randn(1, 3, 4), dtype=torch.float64).dtype == torch.float64


def test_a_torch_dtype_is_iterated_in_and_returned():
    matrix = torch.randn(6, 9)
    result = newton_schulz(matrix, dtype=torch.float64)
    assert_close(result, newton_schulz(matrix.double()), atol=1e-6)
    assert result.dtype == torch.float64


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_fast_way_survives_low_rank_and_fading_spectra_in_bfloat16(schedule):
    """A restart too few, and `you` ends above 8, `deepseek_v4` in infinity; `cans` reaches 2."""
    generator = torch.Generator().manual_seed(1)
    matrices = []
    for trial in range(60):
        U, V = (polar_factor(torch.randn(n, 48, generator=generator).double()) for n in (48, 160))
        fade, rank = 10 * torch.rand((), generator=generator), 48
        if trial % 2:
            rank = torch.randint(1, 49, (), generator=generator)
        values = torch.logspace(0, -fade.item(), 48) * (torch.arange(48) < rank)
        matrices.append((U * values) @ V.mT)
    for stack in (torch.stack(matrices).float(), torch.stack(matrices).float().mT):
        got = newton_schulz_fast(stack, schedule, dtype=torch.bfloat16).float()
        assert torch.linalg.matrix_norm(got, 2).max().item() < 2.5
