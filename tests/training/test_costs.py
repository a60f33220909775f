"""Meters count real tensors and real seconds; what they say is checked against counts by hand."""

import math
import subprocess
import sys
import time

import pytest
import torch

from muon_lab.training.config import TrainConfig
from muon_lab.training.costs import costs, gradient_norm, peak_flops, state_bytes
from muon_lab.training.loop import begin, drawn_from, train, train_step_
from tests.assertions import assert_close


@pytest.fixture
def config(tmp_path):
    (tmp_path / "book.txt").write_text("a short text, over and over: " * 100)
    small = {"preset": "tiny", "corpus": str(tmp_path / "book.txt")}
    return lambda **options: TrainConfig(**small | options)


def stepped(config):
    state = begin(config)
    stream = drawn_from(state)
    for _ in range(2):
        train_step_(state, stream)
    return state


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
def test_state_is_counted_tensor_by_tensor(config, optimizer):
    state = stepped(config(optimizer=optimizer))
    model = state.model
    every = 4 * model.parameter_count()
    hidden = 4 * sum(p.numel() for b in model.blocks for p in b.parameters() if p.ndim == 2)
    counted = state_bytes(model, state.optimizer)
    assert counted["weights"] == counted["gradients"] == every
    moments = 2 * every if optimizer == "adamw" else hidden + 2 * (every - hidden)
    steps = counted["optimizer"] - moments  # AdamW counts each parameter's steps in a number
    assert 0 < steps <= 4 * len(list(model.parameters()))


def test_a_tied_weight_counts_once():
    model = torch.nn.ModuleList([torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8, bias=False)])
    model[1].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    assert state_bytes(model, optimizer) == {"weights": 128, "gradients": 128, "optimizer": 0}


def test_the_norm_of_all_gradients_is_that_of_one_long_vector(config):
    model = stepped(config()).model
    whole = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
    assert_close(gradient_norm(model), whole.norm(), rtol=1e-12)


@pytest.mark.parametrize(("value", "finite"), [(3e38, True), (math.inf, False), (math.nan, False)])
def test_the_norm_is_finite_where_every_gradient_is(value, finite):
    model = torch.nn.Linear(2, 2)
    for p in model.parameters():
        p.grad = torch.full_like(p, value)
    assert math.isfinite(gradient_norm(model)) is finite


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a peak begin anew")
def test_the_peak_of_a_process_is_its_own_and_begins_anew():
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


def test_speed_share_and_utilisation_are_quotients_of_what_was_measured(config):
    state = stepped(config(precision="bfloat16"))
    state.step, state.seconds, state.optimizer_seconds = 10, 5.0, 2.0
    spent = costs(state, "NVIDIA H100 80GB HBM3")
    assert spent["bytes_per_second"] == 10 * 4 * 32 / 5
    assert spent["optimizer_share"] == 0.4
    assert spent["flops_per_byte"] == state.model.flops_per_byte(training=True)
    used = spent["flops_per_byte"] * spent["bytes_per_second"] / 989e12
    assert spent["model_flops_utilisation"] == pytest.approx(used)


def test_a_run_records_what_it_cost(config):
    spent = train(config(optimizer="muon"), progress=False).costs
    assert set(spent) == {
        "bytes_per_second", "optimizer_share", "peak_memory_bytes", "peak_memory_of",
        "state_bytes", "flops_per_byte", "model_flops_utilisation",
    }  # fmt: skip
    assert 0 < spent["optimizer_share"] < 1 and spent["bytes_per_second"] > 0
    assert spent["model_flops_utilisation"] is None  # of a processor no peak is known


def test_only_the_optimizers_own_step_counts_as_its_share(config, monkeypatch):
    state = begin(config())
    whole = state.optimizer.step
    monkeypatch.setattr(state.optimizer, "step", lambda: (time.sleep(0.2), whole()))
    train_step_(state, drawn_from(state))
    assert 0.2 < state.optimizer_seconds < state.seconds


def test_a_run_resumed_at_its_end_has_the_same_costs(config, tmp_path):
    asked = config(optimizer="muon")
    first, again = (
        train(asked, progress=False, checkpoint=tmp_path / "state.pt", resume=resume).costs
        for resume in (False, True)
    )
    assert again | {"peak_memory_bytes": 0} == first | {"peak_memory_bytes": 0}
