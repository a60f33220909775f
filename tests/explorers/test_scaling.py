"""The scaling explorer's formulas against what can be counted."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from muon_lab.explorers.scaling import (
    ALL,
    BLOCKS,
    FSDP,
    MACHINES,
    OWN,
    OWNED,
    SHARED,
    ScalingExplorer,
    held_gigabytes,
    iteration_flops,
    matrices,
    muon_flops,
    numbers_sent,
)
from muon_lab.model.gpt import GPT
from muon_lab.orthogonalize import newton_schulz
from muon_lab.split import split_parameters
from muon_lab.training.config import TrainConfig


@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (96, 32)])
def test_newton_schulz_takes_the_flops_that_the_formula_says(shape):
    with FlopCounterMode(display=False) as counter:
        newton_schulz(torch.randn(shape), "jordan", 5)
    assert counter.get_total_flops() == iteration_flops(*shape)


def test_the_matrices_are_those_of_the_courses_model():
    config = TrainConfig(preset="cpu")
    counted = sum(n * rows * cols for n, rows, cols in matrices(config.width, config.layers, 1))
    muon = split_parameters(GPT(config.model()))[0]["params"]
    assert counted == sum(p.numel() for p in muon)
    assert sum(n for n, *_ in matrices(config.width, config.layers, 1)) == len(muon)


def ring_all_reduce(ranks: int) -> tuple[np.ndarray, list[int]]:
    """Add up one vector per rank, piece by piece around a ring; count the numbers each sends."""
    held = np.arange(ranks * ranks).reshape(ranks, ranks).astype(float)  # (rank, piece)
    sent = [0] * ranks
    for turn in range(2 * (ranks - 1)):
        before = held.copy()
        for rank in range(ranks):
            piece, right = (rank - turn) % ranks, (rank + 1) % ranks
            held[right, piece] = before[rank, piece] + (turn < ranks - 1) * before[right, piece]
            sent[rank] += 1
    return held, sent


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_an_all_reduce_sends_what_the_formula_says(ranks):
    held, sent = ring_all_reduce(ranks)
    wanted = np.arange(ranks * ranks).reshape(ranks, ranks).sum(axis=0)
    assert (held == wanted).all()
    assert set(sent) == {numbers_sent(ranks, ranks, ALL)}


def test_one_rank_sends_nothing_and_holds_everything():
    assert {numbers_sent(1e9, 1, way, 5) for way in (ALL, SHARED, OWNED, FSDP, BLOCKS)} == {0}
    held = held_gigabytes(1e9, 1)
    assert held["muon"] == held["owned"] == held["fsdp"] == 12


def test_sharing_never_cuts_a_matrix():
    shapes = matrices(128, 4, 1)
    every = muon_flops(shapes, 1, SHARED)
    assert muon_flops(shapes, 4, SHARED) == every / 4
    assert muon_flops(shapes, 1000, SHARED) == iteration_flops(512, 128)
    assert muon_flops(shapes, 1000, ALL) == every


def test_block_periodic_with_period_one_is_plain():
    shapes = matrices(128, 4, 1)
    assert muon_flops(shapes, 4, BLOCKS, 1) == muon_flops(shapes, 4, FSDP)
    assert numbers_sent(1e6, 4, BLOCKS, 1) == numbers_sent(1e6, 4, FSDP)
    assert muon_flops(shapes, 4, BLOCKS, 5) < muon_flops(shapes, 4, FSDP)


def test_the_last_example_is_about_kimi_k2():
    found = ScalingExplorer(machine="a trillion on 2,048 GPUs").result
    assert found["count"] == pytest.approx(1.04e12, rel=0.2)  # arXiv 2507.20534, table 2
    assert found["active_count"] == pytest.approx(32.6e9, rel=0.2)


def test_an_example_sets_the_sliders_and_a_slider_leaves_the_example():
    explorer = ScalingExplorer()
    for name, settings in MACHINES.items():
        explorer.machine = name
        assert settings.items() <= explorer.settings().items()
        assert explorer.machine == name
    explorer.wires = 51.0
    assert explorer.machine == OWN
    assert ScalingExplorer(machine="this laptop", ranks=4).machine == OWN
    assert ScalingExplorer(width=128).machine == OWN


@pytest.mark.parametrize(
    ("settings", "binds"),
    [
        ({}, "arithmetic"),
        ({"machine": "this laptop", "wires": 0.01}, "wires"),
        ({"machine": "64 billion on 1,024 GPUs"}, "memory"),
        ({"machine": "64 billion on 1,024 GPUs", "way": FSDP}, "arithmetic"),
        ({"machine": "a trillion on 2,048 GPUs", "way": FSDP}, "wires"),
    ],
)
def test_it_says_what_binds(settings, binds):
    explorer = ScalingExplorer(**settings)
    assert explorer.result["binds"] == binds
    assert binds in explorer.readouts["binds"].lower()
