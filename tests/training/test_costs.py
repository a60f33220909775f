"""Costs count real tensors and real seconds; they are checked against counts by hand."""

import math
import subprocess
import sys
import time

import pytest
import torch

from muon_lab.training.costs import costs, gradient_norm, interleave, peak_flops, state_bytes
from tests.assertions import assert_close


def test_contenders_take_turns_and_the_first_round_does_not_count():
    order = []
    contenders = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = interleave(contenders, seconds=0.0)
    assert order == list("abc") * 4
    assert {name: len(taken) for name, taken in seconds.items()} == dict.fromkeys("abc", 3)


def test_a_turn_is_timed_by_itself():
    seconds = interleave({"sleeps": lambda: time.sleep(0.02), "is at once": int}, seconds=0.0)
    assert min(seconds["sleeps"]) >= 0.02
    assert min(seconds["is at once"]) < 0.02


def test_more_rounds_are_made_while_there_is_time():
    assert len(interleave({"a": lambda: time.sleep(0.005)}, seconds=0.2)["a"]) > 3


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", None),  # another chip, and not in the table
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("AMD EPYC, torch threads: 2", None),
    ],
)
def test_a_chips_peak_is_found_by_its_whole_name(name, peak):
    assert peak_flops(name, "bfloat16") == peak
    assert peak_flops(name, "float32") is None


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_state_is_counted_tensor_by_tensor(new, optimizer):
    training = new(2, optimizer=optimizer)
    model = training.model
    every = 4 * model.parameter_count()
    hidden = 4 * sum(p.numel() for b in model.blocks for p in b.parameters() if p.ndim == 2)
    counted = state_bytes(model, training.optimizer)
    assert counted["weights"] == counted["gradients"] == every
    moments = 2 * every if optimizer == "adamw" else hidden + 2 * (every - hidden)
    steps = counted["optimizer"] - moments  # AdamW counts each parameter's steps in a number
    assert 0 < steps <= 4 * len(list(model.parameters()))


def test_a_tied_weight_counts_once():
    model = torch.nn.ModuleList([torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8, bias=False)])
    model[1].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    assert state_bytes(model, optimizer) == {"weights": 128, "gradients": 128, "optimizer": 0}


def test_the_norm_of_all_gradients_is_that_of_one_long_vector(new):
    model = new(2).model
    whole = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
    assert_close(gradient_norm(model), whole.norm(), rtol=1e-12)


@pytest.mark.parametrize(("value", "finite"), [(3e38, True), (math.inf, False), (math.nan, False)])
def test_the_norm_is_finite_where_every_gradient_is(value, finite):
    model = torch.nn.Linear(2, 2)
    for p in model.parameters():
        p.grad = torch.full_like(p, value)
    assert math.isfinite(gradient_norm(model)) is finite


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset a peak")
def test_the_peak_of_a_process_is_its_own_and_can_be_reset():
    lines = [
        "import torch; from muon_lab.training.costs import forget_peak_memory, peak_memory",
        "def peak(): return peak_memory('cpu')['peak_memory_bytes']",
        "before = peak(); held = torch.ones(50_000_000); full = peak()",
        "del held; forget_peak_memory('cpu'); print(full - before, full - peak())",
    ]
    held_here = torch.ones(100_000_000)  # a child's peak must not begin with its parent's
    said = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert held_here.nbytes == 4e8
    assert [int(word) for word in said.stdout.split()] == [pytest.approx(2e8, rel=0.1)] * 2


def test_speed_share_and_utilisation_are_quotients_of_what_was_measured(new):
    training = new(2, precision="bfloat16")
    training.step, training.seconds, training.optimizer_seconds = 10, 5.0, 2.0
    spent = costs(training, "NVIDIA H100 80GB HBM3")
    assert spent["bytes_per_second"] == 10 * 4 * 16 / 5
    assert spent["optimizer_share"] == 0.4
    assert spent["flops_per_byte"] == training.model.flops_per_byte(training=True)
    used = spent["flops_per_byte"] * spent["bytes_per_second"] / 989e12
    assert spent["model_flops_utilisation"] == pytest.approx(used)


def test_a_run_records_what_it_cost(quietly):
    spent = quietly(optimizer="muon").costs
    assert set(spent) == {
        "bytes_per_second", "optimizer_share", "peak_memory_bytes", "peak_memory_of",
        "state_bytes", "flops_per_byte", "model_flops_utilisation",
    }  # fmt: skip
    assert 0 < spent["optimizer_share"] < 1 and spent["bytes_per_second"] > 0
    assert spent["model_flops_utilisation"] is None  # no processor's peak is in the table
