import math

import pytest

from muon_lab.training.optimizers import lr_factor


def test_muon_gets_the_hidden_matrices_and_adamw_all_others(new):
    training = new(optimizer="muon", lr=0.5, adamw_lr=0.25)
    model = training.model
    groups = training.optimizer.param_groups
    matrices, others = ([g for g in groups if g["use_muon"] is on] for on in (True, False))
    assert {g["lr"] for g in matrices} == {0.5} and {g["lr"] for g in others} == {0.25}
    assert any(p is model.head.weight for g in others for p in g["params"])
    assert any(p is model.blocks[0].mlp.up.weight for g in matrices for p in g["params"])
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
def test_the_learning_rate_warms_up_and_stays_within_its_peak(schedule):
    factors = [lr_factor(step, 100, schedule) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0 < factor <= 1 for factor in factors)
    last = {"linear": 1 / 95, "cosine": (math.pi / 95 / 2) ** 2, "constant": 1.0, "wsd": 1 / 20}
    assert factors[-1] == pytest.approx(last[schedule], rel=1e-3)


def test_warm_up_then_stable_then_decay_over_the_last_fifth():
    factors = [lr_factor(step, 100, "wsd", warm_up=0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert set(factors[9:81]) == {1.0}
    assert factors[80:] == pytest.approx([left / 20 for left in range(20, 0, -1)])


@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 19])
@pytest.mark.parametrize("schedule", ["linear", "wsd"])
def test_the_shortest_runs_have_a_schedule_too(schedule, steps, warm_up):
    assert all(0 < lr_factor(step, steps, schedule, warm_up) <= 1 for step in range(steps))


def test_without_a_warm_up_the_first_step_is_a_whole_one():
    assert lr_factor(0, 100, "cosine", warm_up=0.0) == 1.0
