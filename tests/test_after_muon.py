"""Each member of the family changes what it says, and nothing else."""

import copy

import pytest
import torch
from torch.nn import Linear, Parameter

from muon_lab.after_muon import Hyperball, NorMuon, SpectralMuon, Whitening, per_head
from muon_lab.model.attention import MultiHeadLatentAttention
from muon_lab.muon import Muon, split_parameters, update_scale
from muon_lab.orthogonalize import polar_factor
from muon_lab.polynomials import SCHEDULES
from tests.assertions import assert_close

SHAPES = [(8, 8), (24, 8), (8, 24)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
members = pytest.mark.parametrize("member", [NorMuon, Hyperball, Whitening, SpectralMuon])
EXACT = {"ns_coefficients": SCHEDULES["convergent"], "ns_steps": 30, "ns_dtype": torch.float64}


def moves(optimizer, gradients):
    """Take a step per gradient; return by how much each moved the one parameter."""
    (p,) = optimizer.param_groups[0]["params"]
    found = []
    for gradient in gradients:
        before = p.detach().clone()
        p.grad = gradient.clone()
        optimizer.step()
        found.append(before - p.detach())
    return found


def parameter(shape, seed=0):
    torch.manual_seed(seed)
    return Parameter(torch.randn(shape, dtype=torch.float64))


def gradients(shape, count):
    """Return noise whose rows differ tenfold in size."""
    sizes = torch.logspace(0, -1, shape[0], dtype=torch.float64)[:, None]
    return list(sizes * torch.randn(count, *shape, dtype=torch.float64))


@shapes
def test_whitening_without_memory_and_momentum_is_muon(shape):
    class Forgetful(Whitening):
        memory = 0.0

    options = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.0}
    steps = gradients(shape, 3)
    found = moves(Forgetful([parameter(shape)], **options), steps)
    for step, moved in zip(steps, found, strict=True):
        polar = torch.as_tensor(polar_factor(step))
        assert_close(moved, 0.1 * update_scale(*shape) * polar, atol=1e-9)


def test_whitening_with_memory_weighs_a_steady_direction_more_than_noise():
    steady, noisy = torch.zeros(2, 4, 4, dtype=torch.float64)
    steady[0, 0] = noisy[1, 1] = 1.0
    steps = [steady + (-1) ** i * noisy for i in range(40)]
    last = moves(Whitening([parameter((4, 4))], lr=1.0, weight_decay=0.0), steps)[-1]
    assert last[0, 0] > 0.8 and abs(last[1, 1]) < 0.2


@shapes
def test_the_norm_of_a_weight_on_the_hyperball_stays(shape):
    p = parameter(shape)
    norm = p.norm().item()
    moved = moves(Hyperball([p], lr=0.1, weight_decay=0.5), gradients(shape, 50))
    assert abs(p.norm().item() / norm - 1) < 1e-12
    assert all(0.05 < float(step.norm()) / norm < 0.106 for step in moved)


def test_a_weight_of_zeros_stays_zero_on_the_hyperball():
    p = Parameter(torch.zeros(3, 3))
    moves(Hyperball([p], lr=0.1), [torch.randn(3, 3)])
    assert torch.equal(p, torch.zeros(3, 3))


def test_rows_of_an_exact_update_differ_only_where_the_weight_is_tall():
    for shape in SHAPES:
        options = {"lr": 1.0, "weight_decay": 0.0, "adjust_lr_fn": "original", **EXACT}
        (moved,) = moves(Muon([parameter(shape)], **options), gradients(shape, 1))
        rows = moved.norm(dim=1) / update_scale(*shape)
        alike = float(rows.max() / rows.min())
        assert alike > 2 if shape[0] > shape[1] else abs(alike - 1) < 1e-6


def test_normuon_evens_out_the_rows_and_keeps_the_norm():
    shape, options = (24, 8), {"lr": 1.0, "weight_decay": 0.0, "ns_dtype": torch.float64}
    steps = gradients(shape, 200)
    plain, even = (moves(make([parameter(shape)], **options), steps) for make in (Muon, NorMuon))
    ratios = [mean_square_rows(found[100:]) for found in (plain, even)]
    spreads = [float(rows.max() / rows.min()) for rows in ratios]
    assert spreads[0] > 3 and spreads[1] < 1.5
    for one, other in zip(plain, even, strict=True):
        assert abs(float(other.norm() / one.norm()) - 1) < 1e-9


def mean_square_rows(found):
    return torch.stack(found).square().mean(dim=(0, 2))


def test_normuon_remembers_one_number_per_row():
    optimizer = NorMuon([Parameter(torch.randn(6, 5))])
    moves(optimizer, [torch.randn(6, 5)])
    (state,) = optimizer.state.values()
    assert state["memories"][0]["rows"].shape == (6, 1)


def test_several_matrices_in_one_parameter_have_memories_of_their_own():
    whole, parts = (
        parameter((9, 4)),
        [Parameter(p) for p in parameter((9, 4)).detach().split((4, 5))],
    )
    one = NorMuon([{"params": [whole], "rows": (4, 5)}], ns_dtype=torch.float64)
    two = NorMuon(parts, ns_dtype=torch.float64)
    for gradient in gradients((9, 4), 5):
        whole.grad = gradient
        for part, piece in zip(parts, gradient.split((4, 5)), strict=True):
            part.grad = piece.contiguous()
        one.step()
        two.step()
    assert_close(whole.detach(), torch.cat([p.detach() for p in parts]), atol=1e-12)


@members
def test_a_member_saves_its_memory_and_goes_on_bit_for_bit(member):
    p, steps = parameter((12, 6)), gradients((12, 6), 6)
    optimizer = member([p])
    moves(optimizer, steps[:3])
    twin = Parameter(p.detach().clone())
    second = member([twin])
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    moves(optimizer, steps[3:])
    moves(second, steps[3:])
    assert torch.equal(p, twin)


@members
def test_what_is_not_a_matrix_is_adamws_still(member):
    bias, twin = Parameter(torch.ones(5)), Parameter(torch.ones(5))
    mine = member([{"params": [bias], "use_muon": False}], lr=0.1, weight_decay=0.1)
    theirs = torch.optim.AdamW([twin], lr=0.1, weight_decay=0.1)
    for optimizer, p in ((mine, bias), (theirs, twin)):
        p.grad = torch.arange(5.0)
        optimizer.step()
    assert torch.equal(bias, twin)


@pytest.mark.parametrize("member", [NorMuon, Whitening])
def test_what_remembers_does_not_leave_the_momentum_to_another_rank(member):
    with pytest.raises(
        ValueError, match=f"{member.__name__} remembers .* leave out shard_momentum"
    ):
        member([parameter((3, 3))], process_group=object(), shard_momentum=True)


def test_members_combine():
    class Both(NorMuon, Hyperball):
        pass

    p = parameter((24, 8))
    norm = p.norm().item()
    optimizer = Both([p], lr=0.1, ns_dtype=torch.float64)
    moved = moves(optimizer, gradients((24, 8), 100))
    assert abs(p.norm().item() / norm - 1) < 1e-12
    rows = mean_square_rows(moved[50:])
    assert float(rows.max() / rows.min()) < 1.6


def test_each_head_alone_is_each_blocks_own_polar_factor():
    layer = MultiHeadLatentAttention(width=32, heads=4)
    groups = split_parameters(layer, head=(), matrices=per_head(layer))
    split = {n for g in groups if g.get("heads") == 4 for n in g["names"]}
    names = ("query_content", "query_rotary", "key_content", "value")
    assert split == {f"{name}.weight" for name in names}


def test_a_loud_head_leaves_the_quiet_ones_little_of_a_tall_update():
    torch.manual_seed(0)
    gradient = torch.randn(8, 16, 16, dtype=torch.float64)  # 8 heads of 16 rows, 8 : 1
    gradient[0] *= 10
    polar = torch.as_tensor(polar_factor(gradient.flatten(0, 1))).view(8, 16, 16)
    norms = torch.linalg.matrix_norm(polar, 2)
    assert norms[0] > 0.9 and norms[1:].max() < 0.5
    square = torch.as_tensor(polar_factor(torch.randn(128, 128).double())).view(8, 16, 128)
    assert_close(torch.linalg.matrix_norm(square, 2), torch.ones(8).double(), atol=1e-9)


@pytest.mark.parametrize("decay", [0.5, 2.0])
def test_decay_holds_the_spectral_norm_under_its_inverse(decay):
    p = parameter((12, 12))
    torch.nn.init.orthogonal_(p, gain=5.0)
    torch.manual_seed(1)
    steady = torch.randn(12, 12, dtype=torch.float64)
    options = {"lr": 0.05, "weight_decay": decay, **EXACT}
    moves(Muon([p], **options), [steady] * 600)
    values = torch.linalg.svdvals(p.detach())
    assert abs(values[0] * decay - 1) < 1e-3


def test_the_spectral_scale_is_for_muons_groups():
    layer = Linear(8, 16)
    groups = SpectralMuon(split_parameters(layer, head=())).param_groups
    assert {g["adjust_lr_fn"] for g in groups if g["use_muon"]} == {"spectral_unclamped"}
