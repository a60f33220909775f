import math

import numpy as np
import pytest
import torch

from muon_lab.muon import Muon
from muon_lab.orthogonalize import polar_factor
from muon_lab.training import TrainConfig, new_training, spectra, training_steps
from muon_lab.training import loop as loop_module
from muon_lab.training.spectra import (
    QUANTILES,
    SPECTRA,
    momentum_and_update,
    spectra_of,
    watched_matrices,
)

OPTIMIZERS = ["adamw", "muon", "muonclip"]


def random_matrix(*values, shape, seed=0):
    """Make a matrix with these singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    U, V = (polar_factor(torch.randn(n, len(values), generator=generator)) for n in shape)
    return U @ torch.diag(torch.tensor(values)) @ V.mT


@pytest.mark.parametrize(
    ("attention", "query"), [("mha", "query"), ("gqa", "query"), ("mla", "query_content")]
)
def test_five_matrices_of_the_middle_block_are_watched(new, attention, query):
    model = new(attention=attention, layers=3).model
    parts = (f"attention.{query}", "attention.value", "attention.output", "mlp.up", "mlp.down")
    assert set(watched_matrices(model)) == {f"blocks.1.{part}.weight" for part in parts}


VALUES = [8.0, 4.0, 2.0, 1.0, 0.5, 0.25]


@pytest.fixture
def measured(monkeypatch):
    """Measure any momentum and update as if they were those of a model's one matrix."""

    def measure(momentum, update):
        monkeypatch.setattr(spectra, "watched_matrices", lambda model: {"one": None})
        monkeypatch.setattr(spectra, "momentum_and_update", lambda *_: (momentum, update))
        return {name: values[0] for name, values in spectra_of(None, None).items()}

    return measure


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (6, 6)])
def test_spectra_are_relative_and_run_from_the_smallest_value_to_the_largest(measured, shape):
    momentum = random_matrix(*VALUES, shape=shape)
    found = measured(momentum, 3 * momentum)
    wanted = np.quantile(np.array(VALUES) / 8, QUANTILES)
    np.testing.assert_allclose(found["momentum_spectrum"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found["update_spectrum"], wanted, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (6, 6)])
def test_the_rare_share_counts_energy_along_the_smaller_half_of_the_directions(measured, shape):
    momentum = random_matrix(*VALUES, shape=shape)
    found = measured(momentum, polar_factor(momentum))
    own = sum(v**2 for v in VALUES[3:]) / sum(v**2 for v in VALUES)
    assert found["rare_share_momentum"] == pytest.approx(own, rel=1e-4)
    assert found["rare_share"] == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(("row", "share"), [(0, 0.0), (3, 1.0)])
def test_an_update_along_one_direction_is_all_common_or_all_rare(measured, row, share):
    update = torch.zeros(4, 6)
    update[row, 2] = 5.0
    momentum = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0, 0.0]))[:4]
    assert measured(momentum, update)["rare_share"] == share


def test_a_zero_matrix_gives_zeros_and_no_nan(measured):
    found = measured(torch.zeros(4, 6), torch.zeros(4, 6))
    assert found["momentum_spectrum"] == found["update_spectrum"] == [0.0] * len(QUANTILES)
    assert found["rare_share"] == found["rare_share_momentum"] == 0.0


def test_before_a_step_there_is_no_momentum_and_asking_leaves_no_trace(new):
    training = new()
    with pytest.raises(ValueError, match="take a step"):
        spectra_of(training.model, training.optimizer)
    assert not training.optimizer.state


@pytest.mark.parametrize("nesterov", [True, False])
def test_muons_update_is_the_one_that_it_stepped_along(nesterov):
    """A step of size 1 without decay moves the weight by the update itself."""
    weight = torch.nn.Parameter(random_matrix(3.0, 2.0, 1.0, shape=(4, 3)))
    optimizer = Muon([weight], lr=1.0, weight_decay=0, nesterov=nesterov, ns_dtype=torch.float32)
    for seed in range(3):
        weight.grad = random_matrix(5.0, 1.0, 0.2, shape=(4, 3), seed=seed)
        before = weight.detach().clone()
        optimizer.step()
    scale = math.sqrt(4 / 3)
    _, update = momentum_and_update(optimizer, weight)
    torch.testing.assert_close(update * scale, before - weight.detach(), rtol=1e-4, atol=1e-5)


def test_adamws_update_is_the_one_that_it_stepped_along():
    weight = torch.nn.Parameter(random_matrix(3.0, 2.0, 1.0, shape=(4, 3)))
    optimizer = torch.optim.AdamW([weight], lr=1.0, weight_decay=0, betas=(0.9, 0.95))
    for seed in range(3):
        weight.grad = random_matrix(5.0, 1.0, 0.2, shape=(4, 3), seed=seed)
        before = weight.detach().clone()
        optimizer.step()
    _, update = momentum_and_update(optimizer, weight)
    torch.testing.assert_close(update, before - weight.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_looking_changes_nothing(new, optimizer):
    training, plain = new(3, optimizer=optimizer), new(3, optimizer=optimizer)
    generator = torch.get_rng_state()
    spectra_of(training.model, training.optimizer)
    torch.testing.assert_close(torch.get_rng_state(), generator, rtol=0, atol=0)
    both = (training, plain)
    for states in (
        [each.model.state_dict() for each in both],
        [each.optimizer.state_dict()["state"] for each in both],
    ):
        torch.testing.assert_close(*states, rtol=0, atol=0)
    for seen, unseen in zip(training.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(seen.grad, unseen.grad, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_with_spectra_is_the_run_without(quietly, monkeypatch, optimizer):
    run = quietly(optimizer=optimizer)
    monkeypatch.setattr(loop_module, "spectra_of", lambda model, optimizer: {})
    plain = quietly(optimizer=optimizer)
    for name in plain.curves.keys() - {"valid_seconds"}:
        np.testing.assert_array_equal(run.curves[name], plain.curves[name])
    assert run.samples == plain.samples
    assert set(SPECTRA) <= run.curves.keys() - plain.curves.keys()


def test_the_record_holds_spectra_of_every_validation_after_the_first(quietly):
    run = quietly(optimizer="muon")
    about = run.provenance["spectra"]
    assert run.curves["spectrum_step"].tolist() == [4, 8, 12]
    assert about["quantiles"] == list(QUANTILES)
    for name in SPECTRA:
        deep = (len(QUANTILES),) * name.endswith("spectrum")
        assert run.curves[name].shape == (3, len(about["matrices"]), *deep)
        assert run.curves[name].min() >= 0 and run.curves[name].max() <= 1


def test_muons_update_uses_rare_directions_more_than_its_momentum_and_adamws_do(tmp_path):
    book, shares = tmp_path / "book.txt", {}
    book.write_text("".join(f"{number} squared is {number**2}\n" for number in range(400)))
    for optimizer in ("adamw", "muon"):
        training = new_training(TrainConfig(preset="tiny", optimizer=optimizer, steps=3), book)
        assert len(list(training_steps(training))) == 3
        found = spectra_of(training.model, training.optimizer)
        shares[optimizer] = np.mean(found["rare_share"])
        assert np.mean(found["rare_share_momentum"]) < shares[optimizer]
    assert shares["muon"] > shares["adamw"]
