import numpy as np
import pytest
import torch

from muon_lab import training
from muon_lab.checkpoints import load_checkpoint_, save_checkpoint
from muon_lab.options import TrainConfig
from muon_lab.training import begin, train


@pytest.fixture
def config(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("".join(f"{number} squared is {number**2}\n" for number in range(400)))

    def make(**options):
        small = {"preset": "tiny", "layers": 1, "width": 16, "context": 16, "steps": 10}
        return TrainConfig(**small | {"corpus": str(book), "valid_every": 4} | options)

    return make


def interrupt_at(monkeypatch, step):
    """Let train_step_ stop the run as Ctrl-C does, once that step is reached."""
    taken = training.train_step_

    def stopping(state, stream):
        if state.step == step:
            raise KeyboardInterrupt
        return taken(state, stream)

    monkeypatch.setattr(training, "train_step_", stopping)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(config, tmp_path, monkeypatch, optimizer):
    asked = config(optimizer=optimizer, accumulate=2, tau=0.05)
    whole = train(asked, progress=False, checkpoint=tmp_path / "whole.pt")
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=6)
        with pytest.raises(KeyboardInterrupt):
            train(asked, progress=False, checkpoint=tmp_path / "broken.pt")
    assert torch.load(tmp_path / "broken.pt", weights_only=True)["step"] == 4
    resumed = train(asked, progress=False, checkpoint=tmp_path / "broken.pt", resume=True)
    for name in whole.curves.keys() - {"valid_seconds"}:
        np.testing.assert_array_equal(resumed.curves[name], whole.curves[name])
    assert resumed.samples == whole.samples
    states = [torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "broken.pt")]
    moments = [state["optimizer"]["state"] for state in states]
    torch.testing.assert_close(states[0]["model"], states[1]["model"], rtol=0, atol=0)
    torch.testing.assert_close(*moments, rtol=0, atol=0)


def test_seconds_go_on_where_they_stopped(config, tmp_path):
    first = begin(config())
    first.seconds = 1000.0
    save_checkpoint(first, tmp_path / "state.pt")
    run = train(config(), progress=False, checkpoint=tmp_path / "state.pt", resume=True)
    assert run.seconds > 1000


def test_a_finished_run_resumed_takes_no_step_more(config, tmp_path):
    asked = config()
    whole = train(asked, progress=False, checkpoint=tmp_path / "state.pt")
    again = train(asked, progress=False, checkpoint=tmp_path / "state.pt", resume=True)
    np.testing.assert_array_equal(again.curves["loss"], whole.curves["loss"])
    np.testing.assert_array_equal(again.curves["valid_step"], whole.curves["valid_step"])


def test_a_checkpoint_is_one_whole_file(config, tmp_path):
    folder = tmp_path / "new"
    train(config(), progress=False, checkpoint=folder / "state.pt")
    assert [path.name for path in folder.iterdir()] == ["state.pt"]


def test_an_interrupted_write_leaves_the_old_checkpoint(config, tmp_path, monkeypatch):
    state = begin(config())
    save_checkpoint(state, tmp_path / "state.pt")
    old = (tmp_path / "state.pt").read_bytes()

    def half_written(what, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(state, tmp_path / "state.pt")
    assert (tmp_path / "state.pt").read_bytes() == old


def test_a_stop_on_nan_keeps_the_last_checkpoint(config, tmp_path, monkeypatch):
    def spoil(state, loss):
        if state.step == 6:
            raise FloatingPointError("step 7 was not taken")

    monkeypatch.setattr(training, "check_finite", spoil)
    with pytest.raises(FloatingPointError):
        train(config(), progress=False, checkpoint=tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 4


@pytest.mark.parametrize("kept", [0, 100, -200])
def test_a_checkpoint_cut_short_is_refused(config, tmp_path, kept):
    path = tmp_path / "state.pt"
    save_checkpoint(begin(config()), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"state.pt is cut short.*begin without --resume"):
        load_checkpoint_(begin(config()), path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}])
def test_another_programs_file_is_refused(config, tmp_path, content):
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="none of muon_lab's"):
        load_checkpoint_(begin(config()), tmp_path / "state.pt")


def test_a_checkpoint_of_another_configuration_is_refused_with_the_differences(config, tmp_path):
    save_checkpoint(begin(config(lr=0.1, seed=3)), tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"another run: it has seed 3, not 0; lr 0.1, not 0.003"):
        load_checkpoint_(begin(config()), tmp_path / "state.pt")


def test_a_checkpoint_of_another_text_is_refused(config, tmp_path):
    save_checkpoint(begin(config()), tmp_path / "state.pt")
    (tmp_path / "book.txt").write_text("another text " * 100)
    with pytest.raises(ValueError, match="it has corpus sha256"):
        load_checkpoint_(begin(config()), tmp_path / "state.pt")


def test_a_missing_checkpoint_is_said(config, tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint state.pt: begin without"):
        load_checkpoint_(begin(config()), tmp_path / "state.pt")
