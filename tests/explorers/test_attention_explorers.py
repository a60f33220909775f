"""The logit and the clip explorer, without a kernel or a browser."""

from itertools import product

import numpy as np
import pytest
import torch
from traitlets import TraitError

from muon_lab.explorers.base.sentences import lookup
from muon_lab.explorers.clipping import ALONE, LAYER, PAIRS, ClipExplorer, clip_maxima
from muon_lab.explorers.logits import PATTERNS, SCALES, LogitExplorer, attend
from muon_lab.model.attention import MultiHeadAttention


def maxima(steps=5, layers=2, heads=4, seed=0):
    return np.exp(np.random.default_rng(seed).normal(4, 1.5, (steps, layers, heads)))


def finite(explorer):
    for mark in explorer.marks:
        for name in {"x", "y", "low", "high"} & set(mark):
            assert np.isfinite(np.array(lookup(explorer.numbers, mark[name]), float)).all()
    assert all(explorer.readouts.values())
    return explorer.numbers


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e4])
def test_attend_is_torchs_softmax_and_entropy(scale):
    logits = scale * np.random.default_rng(1).standard_normal(20)
    found = attend(logits)
    kind = torch.distributions.Categorical(logits=torch.from_numpy(logits))
    assert np.allclose(found["weights"], kind.probs, rtol=1e-12, atol=1e-15)
    assert found["entropy"] == pytest.approx(kind.entropy().item(), abs=1e-12)


def test_answers_is_the_sum_of_the_weights_slopes():
    logits = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slopes = torch.autograd.functional.jacobian(lambda z: z.softmax(0), logits).diagonal()
    assert attend(logits.numpy())["answers"] == pytest.approx(slopes.sum().item(), rel=1e-12)


def test_moving_the_scale_moves_the_entropy():
    explorer = LogitExplorer()
    seen = []
    for scale in (0.05, 1.0, 10.0, 100.0):
        explorer.scale = scale
        seen.append(explorer.result["entropy"])
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == pytest.approx(np.log(16), abs=0.01)
    assert seen[-1] < 0.01
    assert "hardly any gradient" in explorer.readouts["answers"]
    explorer.reset()
    assert explorer.scale == 1.0


def test_every_extreme_of_the_logit_explorer_is_finite():
    explorer = LogitExplorer()
    for explorer.pattern, explorer.count, explorer.scale in product(PATTERNS, (2, 64), SCALES):
        finite(explorer)


def test_logits_of_ones_own_are_scaled_and_fix_their_number():
    explorer = LogitExplorer(np.array([3.0, 1.0, 2.0]), scale=2.0)
    assert explorer.result["logits"].tolist() == [6.0, 2.0, 4.0]
    assert finite(explorer)["idle"] == ["count"]
    for bad in (np.ones(1), np.ones((2, 2)), np.array([1.0, -np.inf])):
        with pytest.raises(TraitError, match="without the future's −∞"):
            LogitExplorer(bad)


def test_the_explorers_gamma_is_the_layers_own():
    torch.manual_seed(0)
    layer = MultiHeadAttention(32, 4).double()
    layer(9 * torch.randn(1, 12, 32, dtype=torch.float64))
    largest = layer.max_logits.numpy()
    tau = float(np.median(largest))
    found = clip_maxima(largest[None], tau)
    assert np.allclose(found["gamma"][0], layer.clip_qk_(tau), rtol=1e-14)
    assert found["after"].max() == pytest.approx(tau, rel=1e-14)
    assert found["clipped"] == 2


def test_a_shared_factor_over_clips_the_quieter_heads():
    values = maxima()[0]
    tau = float(np.median(values))
    alone, pairs, layer = (clip_maxima(values, tau, group) for group in (1, 2, 4))
    assert alone["over_clipped"] == 0
    assert alone["clipped"] < layer["clipped"] == 8
    assert layer["over_clipped"] > 0
    assert (layer["after"] <= pairs["after"]).all()
    assert (pairs["after"] <= alone["after"]).all()


def test_moving_tau_and_the_sharing_changes_who_is_clipped():
    explorer = ClipExplorer(maxima(), tau=10_000.0)
    assert explorer.result["clipped"] == 0
    assert explorer.readouts["hardest"] == "Every γ is 1."
    explorer.tau = 60.0
    alone = explorer.result["clipped"]
    explorer.sharing = LAYER
    assert 0 < alone < explorer.result["clipped"]
    assert "though they are at or below τ" in explorer.readouts["count"]


def test_the_step_runs_over_the_recorded_ones():
    values = maxima()
    explorer = ClipExplorer(values)
    assert explorer.step == 5
    explorer.step = 2
    assert np.array_equal(explorer.result["before"], values[1])
    with pytest.raises(TraitError, match="from 1 to 5"):
        explorer.step = 6


def test_the_sentence_names_what_each_kind_of_attention_multiplies():
    said = {}
    for kind in ("mha", "gqa", "mla"):
        explorer = ClipExplorer(np.array([[[20.0, 400.0]]]), tau=100.0, attention=kind)
        said[kind] = explorer.readouts["hardest"]
        assert explorer.options("attention") == [kind]
    assert "query and its key rows × 0.5" in said["mha"]
    assert "query rows × 0.25" in said["gqa"]
    assert "q_R × 0.25" in said["mla"]


def test_each_kind_of_attention_shows_its_own_run():
    explorer = ClipExplorer({"gqa": maxima(), "mla": maxima(steps=3, heads=3, seed=1)})
    assert (explorer.attention, explorer.step) == ("gqa", 5)
    explorer.sharing = PAIRS
    explorer.attention = "mla"
    assert (explorer.step, explorer.sharing) == (3, ALONE)
    assert np.array_equal(explorer.result["before"], maxima(steps=3, heads=3, seed=1)[2])
    first, second = (view["backdrop"]["svg"] for view in explorer.views.values())
    assert first != second
    explorer.reset()
    assert (explorer.attention, explorer.step) == ("gqa", 5)
    for wrong in ({}, {"moe": maxima()}):
        with pytest.raises(TraitError, match="mha, gqa, mla"):
            ClipExplorer(wrong)


def test_every_extreme_of_the_clip_explorer_is_finite():
    values = maxima()
    values[0, 0] = [-3.0, 0.0, 1e-9, 1e6]
    explorer = ClipExplorer(values)
    settings = product((1.0, 10_000.0), (1, 5), (ALONE, PAIRS, LAYER))
    for explorer.tau, explorer.step, explorer.sharing in settings:
        finite(explorer)


def test_both_draw_a_still_picture_of_where_they_stand():
    for explorer in (LogitExplorer(), ClipExplorer(maxima())):
        assert explorer.picture().startswith(b"\x89PNG")


def test_maxima_that_are_no_maxima_are_refused():
    for bad in (np.ones((3, 4)), np.ones((0, 2, 2)), np.full((1, 1, 1), np.nan)):
        with pytest.raises(TraitError, match=r"\(steps, layers, heads\)"):
            ClipExplorer(bad)
    assert ClipExplorer(maxima(heads=3)).options("sharing") == [ALONE, LAYER]
