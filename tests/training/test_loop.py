import math

import numpy as np
import pytest
import torch

from muon_lab.clip import MuonClip
from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.training.costs import gradient_norm
from muon_lab.training.data import load_corpus, windows
from muon_lab.training.loop import backward, steps, training_steps, validate_
from muon_lab.training.optimizers import lr_factor
from muon_lab.training.state import remaining_batches


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig(layers=1, width=16, heads=2, context=8)).double()


@pytest.fixture
def pairs():
    tokens = torch.randint(256, (5, 8, 9), generator=torch.Generator().manual_seed(0))
    return [(batch[:, :-1], batch[:, 1:]) for batch in tokens]


def test_steps_are_the_loop_that_everyone_writes(model, pairs):
    twin = GPT(model.config).double()
    twin.load_state_dict(model.state_dict())
    losses = list(steps(model, torch.optim.AdamW(model.parameters(), lr=0.01), pairs))
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.01)
    for (inputs, targets), got in zip(pairs, losses, strict=True):
        loss = twin(inputs, targets)[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert got == loss.item()
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=0)


def test_a_loss_is_yielded_when_its_step_is_taken(model, pairs):
    before = model.head.weight.detach().clone()
    optimizer = MuonClip(model, lr=0.01, tau=0.01)
    next(steps(model, optimizer, pairs))
    assert not torch.equal(model.head.weight, before)
    assert set(optimizer.gammas) == {"blocks.0.attention"} and model.max_logits() is None


def test_before_a_step_gradients_can_be_looked_at_and_the_step_refused(model, pairs):
    before = model.head.weight.detach().clone()

    def refuse(loss):
        assert model.head.weight.grad.abs().max() > 0
        raise ArithmeticError(f"{loss:.3f}")

    with pytest.raises(ArithmeticError):
        next(steps(model, torch.optim.SGD(model.parameters()), pairs, before_step=refuse))
    assert torch.equal(model.head.weight, before)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_every_optimizer_learns(quietly, optimizer):
    run = quietly(optimizer=optimizer, steps=40, valid_every=20, lr=0.03, adamw_lr=0.03)
    assert run.curves["valid_loss"][0] == pytest.approx(math.log(256), abs=0.1)
    assert run.final_loss < 2.0
    assert run.curves["valid_step"].tolist() == [0, 20, 40]
    assert run.curves["valid_bytes"].tolist() == [0, 20 * 4 * 16, 40 * 4 * 16]
    assert np.diff(run.curves["valid_seconds"]).min() > 0


def test_a_run_repeats_itself_exactly(quietly):
    first, second = (quietly(optimizer="muon") for _ in range(2))
    np.testing.assert_array_equal(first.curves["loss"], second.curves["loss"])
    assert first.samples == second.samples


@pytest.mark.parametrize(
    ("optimizer", "losses"),
    [
        ("adamw", [5.54855, 4.86553, 4.5028, 4.35824]),
        ("muon", [5.54855, 4.94341, 4.54865, 4.39318]),
        ("muonclip", [5.54855, 4.94341, 4.5487, 4.39332]),
    ],
)
def test_a_seed_gives_what_it_gave_when_runs_were_recorded(quietly, optimizer, losses):
    """Batches, model and schedule of a seed must stay: recorded runs are compared with new ones."""
    run = quietly(optimizer=optimizer, layers=None, width=None, context=None)
    np.testing.assert_allclose(run.curves["valid_loss"], losses, rtol=1e-3)


def test_optimizers_start_from_the_same_model_and_the_same_batch(quietly):
    runs = [quietly(optimizer=name, steps=2) for name in ("adamw", "muon")]
    assert runs[0].curves["loss"][0] == runs[1].curves["loss"][0]
    assert runs[0].samples["before"] == runs[1].samples["before"]


def test_another_seed_is_another_run(quietly):
    first, second = (quietly(seed=seed, steps=2) for seed in (0, 1))
    assert first.curves["loss"][0] != second.curves["loss"][0]


@pytest.mark.parametrize("optimizer", ["adamw", "muonclip"])
def test_a_batch_in_parts_has_the_loss_gradient_and_maxima_of_the_whole(new, optimizer):
    """In float64, where rounding hides nothing."""

    def measured(parts):
        training = new(optimizer=optimizer, batch=8)
        training.model.double()
        loss = backward(training.model, next(remaining_batches(training)), parts)
        grads = [p.grad for p in training.model.parameters()]
        return torch.tensor(loss), training.model.max_logits(), grads

    whole = measured(1)
    for parts in (2, 4, 8):
        torch.testing.assert_close(measured(parts), whole, rtol=1e-10, atol=1e-12)


def test_runs_read_the_same_bytes_in_however_many_parts(quietly):
    whole, parts = (quietly(accumulate=n, steps=6).curves for n in (1, 4))
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-4)
    np.testing.assert_array_equal(parts["valid_bytes"], whole["valid_bytes"])
    assert whole["valid_bytes"][-1] == 6 * 4 * 16


@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_are_clipped_to_the_norm_and_recorded_before(new, parts):
    plain, clipped = (new(1, clip_norm=norm, accumulate=parts) for norm in (None, 0.01))
    assert plain.curves["grad_norm"] == clipped.curves["grad_norm"]
    before, after = (gradient_norm(training.model).item() for training in (plain, clipped))
    assert plain.curves["grad_norm"] == [before]
    assert before > 0.01 and after == pytest.approx(0.01, rel=1e-3)
    for p, q in zip(plain.model.parameters(), clipped.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad * after / before, q.grad, rtol=1e-4, atol=0)


def test_a_norm_that_is_never_reached_clips_nothing(quietly):
    plain, clipped = (quietly(clip_norm=norm) for norm in (None, 1e6))
    np.testing.assert_array_equal(plain.curves["loss"], clipped.curves["loss"])
    assert plain.curves["grad_norm"].shape == (12,)


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "adamw"}, {"optimizer": "muon"}, {"schedule": "wsd", "warm_up": 0.5}],
)
def test_every_group_follows_the_configured_schedule(new, options):
    training = new(**options)
    config = training.config
    for step, _ in enumerate(training_steps(training)):
        factor = lr_factor(step, 12, config.schedule, config.warm_up)
        for group in training.optimizer.param_groups:
            assert group["lr"] == pytest.approx(factor * group["peak_lr"])
    assert training.step == 12


def test_only_the_optimizers_own_step_counts_as_its_share(new, monkeypatch):
    clock = iter([0, 10, 11])  # before the batch, before the optimizer's step, after it
    monkeypatch.setattr("muon_lab.training.loop.now", lambda device: next(clock))
    training = new()
    next(training_steps(training))
    assert (training.optimizer_seconds, training.seconds) == (1, 11)


def test_what_happens_between_two_steps_takes_none_of_the_runs_seconds(new, monkeypatch):
    clock = iter([0, 1, 2, 1002, 1003, 1004, 2004])
    monkeypatch.setattr("muon_lab.training.loop.now", lambda device: next(clock))
    training = new(2)
    assert (training.optimizer_seconds, training.seconds) == (2, 4)


def test_the_validation_loss_is_the_mean_over_all_windows(new, book):
    training = new(valid_windows=7, batch=3)  # 3 + 3 + 1: the last part counts for less
    validate_(training)
    inputs, targets = windows(load_corpus(book).valid, number=7, context=16)
    with torch.no_grad():
        expected = training.model(inputs, targets)[1].item()
    assert training.curves["valid_loss"] == [pytest.approx(expected, rel=1e-5)]


def test_validation_does_not_count_towards_the_maxima(new):
    training = new(watch_logits=True)
    validate_(training)
    assert training.model.max_logits() is None


@pytest.mark.parametrize("attention", ["mha", "gqa", "mla"])
def test_muonclip_records_each_heads_maximum_and_gamma(quietly, attention):
    options = {"attention": attention, "layers": 2, "tau": 0.05, "lr": 0.1, "steps": 8}
    curves = quietly(optimizer="muonclip", **options).curves
    assert curves["max_logit"].shape == curves["gamma"].shape == (8, 2, 2)
    expected = np.minimum(1, 0.05 / np.maximum(curves["max_logit"], 1e-9))
    np.testing.assert_allclose(curves["gamma"], expected, rtol=1e-4)
    assert curves["gamma"].min() < 1


def test_muon_records_maxima_when_asked_and_each_steps_own(quietly):
    curves = quietly(optimizer="muon", watch_logits=True, steps=3).curves
    assert curves["max_logit"].shape == (3, 1, 2) and "gamma" not in curves
    assert np.unique(curves["max_logit"][:, 0, 0]).size == 3


def test_watching_the_logits_changes_nothing_else(quietly):
    watched, plain = (quietly(watch_logits=on) for on in (True, False))
    np.testing.assert_allclose(watched.curves["loss"], plain.curves["loss"], rtol=1e-4)


def test_bfloat16_is_near_float32_and_not_the_same(quietly):
    half, full = (quietly(optimizer="muon", precision=p) for p in ("bfloat16", "float32"))
    np.testing.assert_allclose(half.curves["loss"], full.curves["loss"], rtol=0.02)
    assert not np.array_equal(half.curves["loss"], full.curves["loss"])


@pytest.mark.parametrize("every", [0, -1, 2.5, "4", True])
def test_checkpoint_every_is_a_whole_number_of_at_least_1(quietly, tmp_path, every):
    with pytest.raises(ValueError, match="checkpoint_every must be a whole number of at least 1"):
        quietly(checkpoint=tmp_path / "state.pt", checkpoint_every=every)
    assert not list(tmp_path.iterdir())


def test_no_path_of_this_machine_enters_the_record(quietly, book, tmp_path):
    run = quietly()
    text = run.save(tmp_path / "run.json").read_text()
    assert run.config["corpus"] == "book.txt" and "--corpus book.txt" in run.provenance["command"]
    assert str(tmp_path.parent) not in text and str(book) not in text
