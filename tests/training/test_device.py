"""What fits into memory, what compiles: told by fakes, since no test machine runs out of memory."""

import numpy as np
import pytest
import torch

from muon_lab.training import device
from muon_lab.training import loop as training
from muon_lab.training.config import TrainConfig
from muon_lab.training.device import compiled, has_compiler, parts_that_fit
from muon_lab.training.loop import begin, fit_, train
from tests.assertions import assert_unchanged

SMALL = {"preset": "tiny", "layers": 1, "width": 16, "context": 16, "steps": 4, "sample": 1}


def memory_for(sequences):
    """Make a forward and backward, or a stand-in for it, that fails above so many sequences."""

    def attempt(size):
        attempt.tried.append(size)
        if size > sequences:
            raise torch.OutOfMemoryError(f"{size} are too many")

    attempt.tried = []
    return attempt


@pytest.mark.parametrize(
    ("batch", "asked", "room", "parts", "tried"),
    [
        (32, 1, 32, 1, [32]),
        (32, 1, 8, 4, [32, 16, 8]),
        (32, 8, 32, 8, [4]),  # what was asked for is never undone
        (12, 1, 5, 3, [12, 6, 4]),  # equal parts, not halves
        (7, 1, 3, 7, [7, 1]),
    ],
)
def test_the_fewest_parts_that_fit_are_taken(batch, asked, room, parts, tried):
    attempt = memory_for(room)
    assert parts_that_fit(batch, asked, attempt) == parts
    assert attempt.tried == tried


def test_a_sequence_too_long_for_the_memory_is_said():
    with pytest.raises(ValueError, match="does not hold one sequence: lower context"):
        parts_that_fit(4, 1, memory_for(0))


def test_another_error_is_no_lack_of_memory():
    def attempt(size):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        parts_that_fit(4, 1, attempt)


@pytest.fixture
def eager(monkeypatch):
    """Let compile=True take dynamo's way through the model, without a compiler at its end."""
    monkeypatch.setattr(device, "BACKEND", "eager")


@pytest.fixture
def config(tmp_path):
    (tmp_path / "book.txt").write_text("a short text, over and over: " * 100)
    return lambda **options: TrainConfig(**SMALL | options, corpus=str(tmp_path / "book.txt"))


def little_memory(monkeypatch, sequences):
    whole, attempt = training.loss_of, memory_for(sequences)

    def loss_of(model, batch, config):
        attempt(len(batch[0]))
        return whole(model, batch, config)

    monkeypatch.setattr(training, "loss_of", loss_of)


@pytest.mark.parametrize("optimizer", ["adamw", "muonclip"])
def test_a_device_with_less_memory_reads_the_same_batches_in_more_parts(
    eager, config, monkeypatch, capsys, optimizer
):
    asked = config(optimizer=optimizer, compile=True)
    by_hand = train(config(optimizer=optimizer, accumulate=2), progress=False)
    little_memory(monkeypatch, 2)
    run = train(asked)
    said = "raised from 1 to 2: what the device's memory holds at once"
    assert capsys.readouterr().out.count(f"accumulate {said}\n") == 1
    assert run.config["accumulate"] == 2 and run.provenance["accumulate"] == said
    assert "--accumulate 2" in run.provenance["command"]
    np.testing.assert_allclose(run.curves["loss"], by_hand.curves["loss"], rtol=1e-5)
    np.testing.assert_array_equal(run.curves["valid_bytes"], by_hand.curves["valid_bytes"])


def test_a_memory_that_holds_the_batch_changes_nothing(eager, config, capsys):
    run = train(config(compile=True))
    assert run.config["accumulate"] == 1 and "accumulate" not in run.provenance
    assert "accumulate" not in capsys.readouterr().out


def test_the_trial_leaves_no_trace(eager, config):
    state = begin(config(optimizer="muonclip", compile=True))
    before = {name: p.clone() for name, p in state.model.named_parameters()}
    dice = torch.get_rng_state()
    fit_(state)
    assert_unchanged(dice, torch.get_rng_state())
    assert state.model.max_logits() is None
    for name, p in state.model.named_parameters():
        assert p.grad is None
        assert_unchanged(before[name], p.detach())
    assert (state.step, state.seconds, state.curves) == (0, 0.0, {})


def test_a_compiled_run_has_the_losses_of_a_plain_one(config, monkeypatch):
    monkeypatch.setattr(device, "BACKEND", "aot_eager")  # its backward is traced too
    options = {"optimizer": "muonclip", "accumulate": 2, "tau": 0.5}
    fast, plain = (train(config(**options, compile=on), progress=False) for on in (True, False))
    for name in ("loss", "valid_loss", "grad_norm"):
        np.testing.assert_allclose(fast.curves[name], plain.curves[name], rtol=1e-5)
    assert fast.config["compile"] and not plain.config["compile"]


def test_all_compiling_is_done_before_the_clock_runs(eager, config):
    state = begin(config(optimizer="muonclip", accumulate=2, compile=True))
    fit_(state)
    stream = training.drawn_from(state)
    with torch.compiler.set_stance("fail_on_recompile"):
        losses = [training.train_step_(state, stream) for _ in range(3)]
    assert len(losses) == 3


def test_a_compiled_model_shares_its_weights(eager):
    model = torch.nn.Linear(3, 2)
    fast = compiled(model, "cpu")
    assert fast.weight is model.weight
    assert torch.equal(fast(torch.ones(1, 3)), model(torch.ones(1, 3)))


def test_a_machine_without_a_compiler_is_told_what_to_install(config, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not has_compiler("cpu")
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler.*install g\+\+.*leave compile"):
        train(config(compile=True), progress=False)


@pytest.mark.parametrize(("found", "compile"), [("cc", True), ("no-such-compiler", False)])
def test_on_a_gpu_models_are_compiled_where_they_can_be(monkeypatch, found, compile):
    monkeypatch.setattr(device.shutil, "which", lambda name: name if name == "cc" else None)
    monkeypatch.setenv("CC", found)
    assert TrainConfig(**SMALL, device="cuda").compile is compile
    assert not TrainConfig(**SMALL, device="cpu").compile
    assert TrainConfig(**SMALL, device="cuda", compile=True).compile


def test_the_trials_memory_is_no_peak_of_the_run(eager, config, monkeypatch):
    """It takes what AdamW will, or fails on more than there is, whatever the optimizer."""
    done, fit = [], training.fit_
    monkeypatch.setattr(training, "forget_peak_memory", lambda name: done.append("forgotten"))
    monkeypatch.setattr(training, "fit_", lambda state: (fit(state), done.append("tried")))
    training.ready(config(compile=True), None, False)
    assert done[-2:] == ["tried", "forgotten"]


@pytest.mark.parametrize("name", ["banana", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_ends_with_one_sentence(config, capsys, name):
    words = ["--preset", "tiny", "--corpus", config().corpus, "--device", name]
    assert training.main(words) == 1
    said = capsys.readouterr().err
    assert f"stopped: device '{name}' is not to be had here" in said and "take cpu" in said
    assert "Traceback" not in said
