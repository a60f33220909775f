"""The overhead explorer counts what the shapes of a model say, and draws it at its extremes."""

import math

import numpy as np
import pytest
from traitlets import TraitError

from muon_lab.explorers.overhead import OverheadExplorer, overhead
from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.muon import split_parameters
from muon_lab.roofline import COSTS


def test_the_counts_are_those_of_a_models_hidden_matrices():
    model = GPT(GPTConfig(layers=3, width=64, heads=2))
    hidden = next(group for group in split_parameters(model) if group["use_muon"])["params"]
    found = overhead(width=64, depth=3, batch=100, steps=5)
    assert found["model"] == 6 * 100 * sum(p.numel() for p in hidden)
    assert found["muon"] == sum(COSTS["standard"].flops(*p.shape) for p in hidden)
    assert found["counted"] == pytest.approx(100 * found["muon"] / found["model"])


def test_nanogpts_published_bound_and_gpt2_smalls_flops():
    found = overhead(width=768, depth=12, batch=524_288, steps=5)
    assert found["bound"] == pytest.approx(0.73, abs=0.005)
    assert found["muon"] == pytest.approx(1.63e12, rel=0.005)


def test_the_share_stays_below_the_bound_and_does_not_know_the_depth():
    explorer = OverheadExplorer(width=500, batch=3000, steps=3)
    before = explorer.result
    assert before["counted"] == pytest.approx(5 / 6 * before["bound"])
    explorer.depth = 100
    assert explorer.result["counted"] == pytest.approx(before["counted"])
    assert explorer.result["muon"] == pytest.approx(25 * before["muon"])


def test_at_enough_tokens_the_share_is_one_percent():
    explorer = OverheadExplorer(width=768)
    explorer.batch = explorer.result["enough"]
    assert explorer.result["counted"] == pytest.approx(1)


def test_the_time_is_drawn_at_the_pace_that_was_measured():
    assert "as if" in OverheadExplorer().readouts["time"]
    explorer = OverheadExplorer(pace=0.25)
    assert explorer.result["here"] == explorer.result["counted"] / 4
    assert "measured" in explorer.readouts["time"]
    for pace in (0, -1.0, math.inf, math.nan):
        with pytest.raises(TraitError, match="positive number"):
            OverheadExplorer(pace=pace)


@pytest.mark.parametrize("width", [64, 16_384])
@pytest.mark.parametrize("batch", [256, 2**24])
def test_the_extremes_stay_in_the_picture(width, batch):
    for depth, steps in ((1, 1), (128, 10)):
        found = OverheadExplorer(width=width, batch=batch, depth=depth, steps=steps).result
        assert 1e-4 < found["counted"] < found["bound"] < 1e5
        assert min(found["model"], found["muon"]) > 1e6
        assert max(found["model"], found["muon"]) < 1e21
        assert np.isfinite(found["over_widths"]["muon"]).all()
