"""Costs are what torch counts; the slowest of three binds; measured rates are rates."""

from unittest import mock

import matplotlib.pyplot as plt
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from muon_lab import roofline
from muon_lab.orthogonalize import newton_schulz, newton_schulz_gram, newton_schulz_turbo
from muon_lab.roofline import COSTS, Cost, Machine, draw_roofline, gram_cost, svd_flops

WAYS = {
    "standard": newton_schulz,
    "Gram form": newton_schulz_gram,
    "Gram form, one restart": lambda x: newton_schulz_gram(x, restart_after=3),
    "cubic5": lambda x: newton_schulz(x, "cubic5"),
    "Turbo-Muon": newton_schulz_turbo,
}


def counted(run, *shape):
    with FlopCounterMode(display=False) as counter:
        run(torch.randn(shape))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (8, 8)])
def test_the_formulas_are_what_torch_counts(name, shape):
    assert COSTS[name].flops(*shape) == counted(WAYS[name], *shape)


@pytest.mark.parametrize(("steps", "restart"), [(5, 1), (5, 2), (5, 4), (5, None), (7, 3)])
def test_the_gram_forms_cost_follows_its_restarts(steps, restart):
    def run(x):
        return newton_schulz_gram(x, steps=steps, restart_after=restart)

    assert gram_cost(steps, restart).flops(8, 24) == counted(run, 8, 24)


@pytest.mark.parametrize(
    ("name", "whole", "half"),
    [
        ("standard", (20, 10), (15, 5)),
        ("Gram form", (12, 22), (9, 11)),
        ("Gram form, one restart", (8, 28), (6, 14)),
        ("cubic5", (20, 0), (15, 0)),
        ("Turbo-Muon", (16, 8), (12, 4)),
    ],
)
def test_costs_in_cubes_of_the_smaller_side(name, whole, half):
    for alpha in (1, 4):
        for (a, b), symmetric in ((whole, False), (half, True)):
            flops = COSTS[name].flops(8, 8 * alpha, symmetric=symmetric)
            assert flops == (a * alpha + b) * 8**3


def test_the_gram_form_breaks_even_at_one_and_a_half():
    for name in ("Gram form", "Gram form, one restart"):
        assert COSTS[name].flops(8, 12) == COSTS["standard"].flops(8, 12)


def test_bytes_are_those_of_the_factors_and_results():
    gram, square, wide = Cost(1, 0, 0), Cost(0, 1, 0), Cost(0, 0, 1)
    assert gram.bytes(8, 24) == 2 * (8 * 24 + 8 * 8)
    assert square.bytes(24, 8, width=4) == 4 * 3 * 8 * 8
    assert wide.bytes(8, 24) == 2 * (8 * 8 + 2 * 8 * 24)
    assert wide.intensity(8, 24) == wide.flops(8, 24) / wide.bytes(8, 24)


def test_the_svd_is_an_estimate_on_the_smaller_side():
    assert svd_flops(8, 24) == svd_flops(24, 8) == (8 * 3 + 20) * 8**3


MACHINE = Machine(call_seconds=1e-5, bytes_per_second=1e10, flops_per_second=1e12)


@pytest.mark.parametrize(
    ("amounts", "binds"),
    [((10, 1e5, 1e6), "launches"), ((1, 1e7, 1e6), "bytes"), ((1, 1e5, 1e9), "arithmetic")],
)
def test_the_slowest_of_three_binds(amounts, binds):
    assert MACHINE.binds(*amounts) == binds
    assert max(MACHINE.seconds(*amounts), key=MACHINE.seconds(*amounts).get) == binds


def test_the_roof_is_a_slope_and_then_flat():
    assert [MACHINE.roof(x) for x in (10, 100, 1000)] == [1e11, 1e12, 1e12]


def test_rates_are_amounts_over_the_shortest_time():
    def instead(runs, seconds, device):
        for run in runs.values():
            run()
        return {name: [2.0, 1.0] for name in runs}

    with mock.patch.object(roofline, "interleave", instead):
        machine = roofline.measure_machine(size=8)
        rates = roofline.matmul_rates((4, 8), (torch.float32, torch.bfloat16))
    assert machine == Machine(0.01, 2 * 2**25, 2 * 8**3)
    assert rates == {
        (name, size): 2 * size**3 for name in ("float32", "bfloat16") for size in (4, 8)
    }


def test_the_picture_names_each_point():
    _, ax = plt.subplots()
    draw_roofline(MACHINE, {"here": (50.0, 1e11), "there": (500.0, 5e11)}, ax)
    assert {"here", "there", "bytes bind"} <= {text.get_text() for text in ax.texts}
    assert max(ax.lines[0].get_ydata()) == MACHINE.flops_per_second
    plt.close("all")
