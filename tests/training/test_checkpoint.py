import os
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from muon_lab.training import loop as training
from muon_lab.training.checkpoint import load_checkpoint_, save_checkpoint
from muon_lab.training.config import TrainConfig
from muon_lab.training.loop import begin, drawn_from, main, train, train_step_

# Seconds are the clock's; every other number of a run must repeat.
CLOCK = {"valid_seconds"}


@pytest.fixture
def config(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("".join(f"{number} squared is {number**2}\n" for number in range(400)))

    def make(**options):
        small = {"preset": "tiny", "layers": 1, "width": 16, "context": 16, "steps": 10}
        return TrainConfig(**small | {"corpus": str(book), "valid_every": 4} | options)

    return make


@pytest.fixture
def path(tmp_path):
    """Where the checkpoint goes: a folder of its own, so that nothing else may lie in it."""
    return tmp_path / "kept" / "state.pt"


def quietly(config, path, **options):
    return train(config, progress=False, checkpoint=path, **options)


def interrupt_at(monkeypatch, step):
    """Let train_step_ stop the run at once, as a third Ctrl-C does, where that step is next."""
    taken = training.train_step_

    def stopping(state, stream):
        if state.step == step:
            raise KeyboardInterrupt
        return taken(state, stream)

    monkeypatch.setattr(training, "train_step_", stopping)


def step_of(path):
    return torch.load(path, weights_only=True)["step"]


def assert_same_run(one, other):
    assert one.curves.keys() == other.curves.keys()
    for name in one.curves.keys() - CLOCK:
        np.testing.assert_array_equal(one.curves[name], other.curves[name])
    assert one.samples == other.samples


@contextmanager
def files_of_at_most(size):
    """Let the system refuse to write more into any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ by itself
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(
    config, path, tmp_path, monkeypatch, optimizer
):
    asked = config(optimizer=optimizer, accumulate=2, tau=0.05, clip_norm=0.5, schedule="wsd")
    whole = quietly(asked, tmp_path / "whole.pt")
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=6)
        with pytest.raises(KeyboardInterrupt):
            quietly(asked, path)
    assert step_of(path) == 4
    assert_same_run(quietly(asked, path, resume=True), whole)
    states = [torch.load(each, weights_only=True) for each in (tmp_path / "whole.pt", path)]
    moments = [state["optimizer"]["state"] for state in states]
    torch.testing.assert_close(states[0]["model"], states[1]["model"], rtol=0, atol=0)
    torch.testing.assert_close(*moments, rtol=0, atol=0)


def test_torchs_dice_go_on_where_they_were(config, path, tmp_path, monkeypatch):
    """The lab's own runs draw none while they train; a model with dropout would."""
    exact = training.loss_of

    def shaken(model, batch, config):
        return exact(model, batch, config) * (1 + 0.1 * torch.rand(()))

    monkeypatch.setattr(training, "loss_of", shaken)
    whole = quietly(config(), tmp_path / "whole.pt")
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=6)
        with pytest.raises(KeyboardInterrupt):
            quietly(config(), path)
    assert_same_run(quietly(config(), path, resume=True), whole)


@pytest.mark.parametrize(("every", "kept"), [(None, 4), (1, 6), (5, 5), (100, 0)])
def test_a_checkpoint_is_kept_as_often_as_asked(config, path, monkeypatch, every, kept):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=6)
        with pytest.raises(KeyboardInterrupt):
            quietly(config(), path, checkpoint_every=every)
    assert step_of(path) == kept
    quietly(config(), path, checkpoint_every=every, resume=True)
    assert step_of(path) == 10


def test_seconds_go_on_where_they_stopped(config, path):
    first = begin(config())
    first.seconds, first.optimizer_seconds = 1000.0, 100.0
    save_checkpoint(first, path)
    second = begin(config())
    load_checkpoint_(second, path)
    assert (second.seconds, second.optimizer_seconds) == (1000.0, 100.0)
    assert quietly(config(), path, resume=True).seconds > 1000


def test_a_finished_run_resumed_is_returned_without_a_step_more(config, path, monkeypatch):
    whole = quietly(config(), path)
    monkeypatch.setattr(training, "train_step_", None)
    again = quietly(config(), path, resume=True)
    assert_same_run(again, whole)
    np.testing.assert_array_equal(again.curves["valid_seconds"], whole.curves["valid_seconds"])


def test_a_checkpoint_is_one_whole_file(config, path):
    quietly(config(), path)
    assert [other.name for other in path.parent.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_a_full_disk_is_one_clear_error_and_leaves_the_last_checkpoint(config, path, share):
    state = begin(config())
    save_checkpoint(state, path)
    old = path.read_bytes()
    train_step_(state, drawn_from(state))
    pattern = r"could not write state\.pt in .*: File too large; the one before it is whole\. Free"
    with files_of_at_most(int(share * len(old))), pytest.raises(OSError, match=pattern):
        save_checkpoint(state, path)
    assert path.read_bytes() == old
    assert [other.name for other in path.parent.iterdir()] == ["state.pt"]
    load_checkpoint_(begin(config()), path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_stops_the_command_which_then_goes_on(
    config, path, tmp_path, monkeypatch, capsys
):
    asked = config()
    options = ["--preset", "tiny", "--layers", "1", "--width", "16", "--context", "16", "--steps"]
    options += ["10", "--corpus", asked.corpus, "--checkpoint", str(path)]
    taken = training.train_step_

    def step_and_fill(state, stream):
        if state.step == 6:
            path.with_name("state.pt.part").symlink_to("/dev/full")
        return taken(state, stream)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step_", step_and_fill)
        assert main(options) == 1
    said = capsys.readouterr().err
    assert "stopped: could not write state.pt" in said and "No space left on device" in said
    assert "Traceback" not in said
    assert ([other.name for other in path.parent.iterdir()], step_of(path)) == (["state.pt"], 4)
    assert main([*options, "--resume"]) == 0
    unbroken = quietly(asked, tmp_path / "whole.pt")
    assert_same_run(quietly(asked, path, resume=True), unbroken)


@pytest.mark.parametrize("option", ["--save", "--checkpoint"])
def test_a_folder_that_cannot_be_written_is_said_before_the_training(
    config, capsys, monkeypatch, option
):
    monkeypatch.setattr(training, "begin", None)  # whoever gets there fails
    book = config().corpus
    assert main(["--preset", "tiny", "--corpus", book, option, f"{book}/folder/run.json"]) == 1
    said = capsys.readouterr().err
    assert "cannot write run.json in" in said and "Name another file" in said


def test_a_checkpoint_that_is_there_is_not_written_over_unasked(config, path, monkeypatch):
    quietly(config(), path)
    old = path.read_bytes()
    monkeypatch.setattr(training, "begin", None)
    with pytest.raises(ValueError, match=r"state.pt is there already: go on from it with --resume"):
        quietly(config(), path)
    assert path.read_bytes() == old


def test_resuming_needs_a_file(config):
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        train(config(), progress=False, resume=True)


def refused(config, path, match):
    """Hold loading to be refused with this message, and file and training to stay as they were."""
    state, old = begin(config), path.read_bytes()
    weights = {name: p.clone() for name, p in state.model.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        load_checkpoint_(state, path)
    assert path.read_bytes() == old
    assert (state.step, state.curves, state.samples) == (0, {}, {})
    torch.testing.assert_close(state.model.state_dict(), weights, rtol=0, atol=0)
    with pytest.raises(ValueError, match=match):
        quietly(config, path, resume=True)
    assert path.read_bytes() == old


@pytest.mark.parametrize("kept", [0, 1, 4, 100, 0.25, 0.5, 0.9, -200, -1])
def test_a_checkpoint_cut_short_is_refused(config, path, kept):
    save_checkpoint(begin(config()), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    refused(config(), path, r"state.pt is cut short.*name a whole one, or begin without --resume")


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, "text", None])
def test_another_programs_file_is_refused(config, tmp_path, content):
    torch.save(content, tmp_path / "state.pt")
    refused(config(), tmp_path / "state.pt", "none of muon_lab's")


def test_a_text_file_is_refused(config, tmp_path):
    refused(config(), tmp_path / "book.txt", "none of muon_lab's")


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_checkpoint_is_read_but_never_run(config, tmp_path):
    trace = tmp_path / "was here"
    torch.save({"model": Evil(trace)}, tmp_path / "state.pt")
    refused(config(), tmp_path / "state.pt", "none of muon_lab's .UnpicklingError")
    assert not trace.exists()
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert trace.exists()  # so it would have run


def test_a_checkpoint_of_another_configuration_is_refused_with_the_differences(config, path):
    save_checkpoint(begin(config(lr=0.1, seed=3)), path)
    pattern = r"another run: it has seed 3, not 0; lr 0.1, not 0.003. To go on with it ask for what"
    refused(config(), path, pattern)


@pytest.mark.parametrize(
    "option", [{"optimizer": "muon"}, {"width": 32}, {"steps": 11}, {"valid_every": 5}]
)
def test_every_option_that_decides_a_run_is_compared(config, path, option):
    save_checkpoint(begin(config()), path)
    (name,) = option
    refused(config(**option), path, rf"it has .*{name} .*, not {option[name]!r}")


def test_what_decides_no_number_may_change(config, path):
    save_checkpoint(begin(config()), path)
    state = begin(replace(config(), accumulate=2))
    load_checkpoint_(state, path)
    assert state.config.accumulate == 2


def test_a_checkpoint_of_another_text_is_refused(config, path, tmp_path):
    save_checkpoint(begin(config()), path)
    (tmp_path / "book.txt").write_text("another text " * 100)
    refused(config(), path, r"it has corpus sha256 .*ask for what it has, the text 'book.txt'")


def test_the_same_text_may_lie_elsewhere(config, path, tmp_path):
    save_checkpoint(begin(config()), path)
    copy = tmp_path / "copy.txt"
    copy.write_bytes((tmp_path / "book.txt").read_bytes())
    assert quietly(config(corpus=str(copy)), path, resume=True).curves["loss"].size == 10


def test_a_checkpoint_of_another_muon_lab_is_refused(config, path):
    state = begin(config())
    del state.model.final_norm
    save_checkpoint(state, path)
    with pytest.raises(ValueError, match=r"does not fit the model of this muon_lab"):
        load_checkpoint_(begin(config()), path)


def test_a_missing_checkpoint_is_said(config, tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint state.pt: begin without"):
        load_checkpoint_(begin(config()), tmp_path / "state.pt")


def test_a_checkpoint_is_read_to_main_memory_whatever_the_device(config, path):
    """Else AdamW's counts of steps, which stay there, come back on a GPU."""
    save_checkpoint(begin(config(seed=1)), path)
    state = begin(config(seed=1))
    state.config = replace(state.config, device="cuda")
    load_checkpoint_(state, path)
    assert {p.device.type for p in state.model.parameters()} == {"cpu"}
