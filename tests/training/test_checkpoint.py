import os
import random
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from muon_lab.training import loop as loop_module
from muon_lab.training.checkpoint import load_checkpoint_, reserve_checkpoint, save_checkpoint
from tests.assertions import assert_unchanged

# Seconds are the clock's; every other number of a run must repeat.
CLOCK = {"valid_seconds"}


@pytest.fixture
def path(tmp_path):
    """Where the checkpoint goes: a folder of its own, so that nothing else may lie in it."""
    return tmp_path / "kept" / "state.pt"


@pytest.fixture
def interrupt(at_step):
    """Let a run be interrupted, as by a second Ctrl-C, before the step of this number is saved."""

    def arrange(step):
        def stop():
            raise KeyboardInterrupt

        at_step(step, stop)

    return arrange


def saved(path):
    return torch.load(path, weights_only=True)


def files_beside(path):
    return [other.name for other in path.parent.iterdir()]


def assert_same_run(one, other):
    assert one.curves.keys() == other.curves.keys()
    for name in one.curves.keys() - CLOCK:
        np.testing.assert_array_equal(one.curves[name], other.curves[name])
    assert one.samples == other.samples


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(
    quietly, path, tmp_path, interrupt, optimizer
):
    options = {"optimizer": optimizer, "accumulate": 2, "tau": 0.05, "clip_norm": 0.5}
    options |= {"schedule": "wsd", "steps": 10}
    whole = quietly(tmp_path / "whole.pt", **options)
    interrupt(step=7)
    with pytest.raises(KeyboardInterrupt):
        quietly(path, **options)
    assert saved(path)["step"] == 4
    assert_same_run(quietly(path, resume=True, **options), whole)
    states = [saved(each) for each in (tmp_path / "whole.pt", path)]
    moments = [state["optimizer"]["state"] for state in states]
    torch.testing.assert_close(states[0]["model"], states[1]["model"], rtol=0, atol=0)
    torch.testing.assert_close(*moments, rtol=0, atol=0)


def test_torchs_random_numbers_continue_where_they_were(
    quietly, path, tmp_path, monkeypatch, interrupt
):
    """The lab's own runs draw none while they train; a model with dropout would."""
    exact = loop_module.backward

    def noisy(model, batch, parts):
        return exact(
            lambda *pair: (None, model(*pair)[1] * (1 + 0.1 * torch.rand(()))), batch, parts
        )

    monkeypatch.setattr(loop_module, "backward", noisy)
    whole = quietly(tmp_path / "whole.pt")
    interrupt(step=7)
    with pytest.raises(KeyboardInterrupt):
        quietly(path)
    assert_same_run(quietly(path, resume=True), whole)


@pytest.mark.parametrize(("every", "kept"), [(None, 4), (1, 6), (5, 5), (100, 0)])
def test_a_checkpoint_is_saved_as_often_as_asked(quietly, path, interrupt, every, kept):
    interrupt(step=7)
    with pytest.raises(KeyboardInterrupt):
        quietly(path, checkpoint_every=every)
    assert saved(path)["step"] == kept
    quietly(path, checkpoint_every=every, resume=True)
    assert saved(path)["step"] == 12
    assert files_beside(path) == ["state.pt"]


def test_seconds_continue_where_they_stopped(new, quietly, path):
    first, second = new(), new()
    first.seconds, first.optimizer_seconds = 1000.0, 100.0
    save_checkpoint(first, path)
    load_checkpoint_(second, path)
    assert (second.seconds, second.optimizer_seconds) == (1000.0, 100.0)


def test_a_finished_run_resumed_is_returned_without_another_step(quietly, path, monkeypatch):
    whole = quietly(path)
    monkeypatch.setattr(loop_module, "backward", None)
    again = quietly(path, resume=True)
    assert_same_run(again, whole)
    np.testing.assert_array_equal(again.curves["valid_seconds"], whole.curves["valid_seconds"])
    assert again.costs | {"peak_memory_bytes": 0} == whole.costs | {"peak_memory_bytes": 0}


@contextmanager
def files_of_at_most(size):
    """Let the system refuse to write more into any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ by itself
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_a_full_disk_is_one_clear_error_and_leaves_the_last_checkpoint(new, path, share):
    training = new()
    save_checkpoint(training, path)
    old = path.read_bytes()
    training.samples["before"] = "more"
    with (
        files_of_at_most(int(share * len(old))),
        pytest.raises(OSError, match=r"cannot write state\.pt .*the previous file is intact"),
    ):
        save_checkpoint(training, path)
    assert path.read_bytes() == old and files_beside(path) == ["state.pt"]
    load_checkpoint_(new(), path)


def test_a_checkpoint_that_exists_is_not_replaced_unasked(quietly, path, monkeypatch):
    path.parent.mkdir()
    path.write_text("an earlier run")
    monkeypatch.setattr(loop_module, "new_training", None)  # whoever gets there fails
    with pytest.raises(
        ValueError, match=r"state.pt exists already: continue from it with --resume"
    ):
        quietly(path)
    assert path.read_text() == "an earlier run" and files_beside(path) == ["state.pt"]


def test_a_checkpoint_in_use_is_refused_until_its_run_ends(new, quietly, path, at_step):
    refused = []

    def start_another():
        for resume in (False, True):
            with pytest.raises(ValueError, match=r"state.pt is in use by another run"):
                quietly(path, resume=resume)
            refused.append(resume)

    at_step(6, start_another)
    quietly(path)
    assert refused == [False, True] and files_beside(path) == ["state.pt"]
    with reserve_checkpoint(path, resume=True):
        assert files_beside(path) == ["state.pt", "state.pt.lock"]


def test_what_a_killed_run_left_is_removed(path):
    path.parent.mkdir()
    for name in ("state.pt.lock", "state.pt.0a1b.part", "another.pt.0a1b.part"):
        path.with_name(name).touch()
    with reserve_checkpoint(path, resume=False):
        assert set(files_beside(path)) == {"state.pt.lock", "another.pt.0a1b.part"}
    assert files_beside(path) == ["another.pt.0a1b.part"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("resume", [False, True])
def test_a_checkpoint_that_is_no_regular_file_is_refused_and_stays(
    quietly, tmp_path, monkeypatch, make, resume
):
    path = tmp_path / "state.pt"
    make(path)
    kind = path.stat().st_mode
    monkeypatch.setattr(loop_module, "new_training", None)
    with pytest.raises(OSError, match=r"cannot write state\.pt.*not a regular file"):
        quietly(path, resume=resume)
    assert path.stat().st_mode == kind and files_beside(path) == ["state.pt"]


def test_a_link_is_followed(quietly, tmp_path, path):
    path.parent.mkdir()
    link = tmp_path / "link.pt"
    link.symlink_to(path)
    quietly(link)
    assert link.is_symlink() and saved(path)["step"] == 12
    assert quietly(link, resume=True).curves["loss"].size == 12


def test_resuming_needs_a_file(quietly):
    with pytest.raises(ValueError, match=r"resume=True\) needs --checkpoint"):
        quietly(resume=True)


def test_a_file_system_without_locks_does_without(quietly, path, monkeypatch):
    def flock(file, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    quietly(path, steps=1)
    assert saved(path)["step"] == 1


@pytest.fixture
def assert_refused(new):
    """Hold loading to be refused, and file and training to stay as they were."""

    def check(path, match, training=None):
        training, old = training or new(), path.read_bytes()
        weights = {name: p.clone() for name, p in training.model.state_dict().items()}
        generator = torch.get_rng_state()
        with pytest.raises(ValueError, match=match):
            load_checkpoint_(training, path)
        assert path.read_bytes() == old
        assert (training.step, training.curves, training.samples) == (0, {}, {})
        assert not training.optimizer.state
        torch.testing.assert_close(training.model.state_dict(), weights, rtol=0, atol=0)
        assert_unchanged(generator, torch.get_rng_state())

    return check


@pytest.mark.parametrize("kept", [0, 1, 4, 100, 0.25, 0.5, 0.9, -200, -1])
def test_a_checkpoint_cut_short_is_refused(new, path, assert_refused, kept):
    save_checkpoint(new(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert_refused(path, r"state.pt is damaged.*choose an intact one, or start without --resume")


def test_a_flipped_bit_is_refused_or_changes_nothing(new, path, assert_refused):
    """The zip's checksums cover its contents; in names and padding a bit may not matter."""
    save_checkpoint(new(2), path)
    whole, plain, refused = path.read_bytes(), saved(path), 0
    generator = random.Random(0)
    for _ in range(40):
        flipped, bit = bytearray(whole), generator.randrange(8 * len(whole))
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        training = new()
        try:
            load_checkpoint_(training, path)
        except ValueError as error:
            assert "state.pt is damaged" in str(error)
            refused += 1
        else:
            torch.testing.assert_close(training.model.state_dict(), plain["model"], rtol=0, atol=0)
            assert training.curves == plain["curves"]
    assert refused >= 30


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, "text", None])
def test_another_programs_file_is_refused(tmp_path, assert_refused, content):
    torch.save(content, tmp_path / "state.pt")
    assert_refused(tmp_path / "state.pt", "not a checkpoint of muon_lab")


def test_a_text_file_is_refused(tmp_path, assert_refused):
    (tmp_path / "state.pt").write_text("text")
    assert_refused(tmp_path / "state.pt", "not a checkpoint of muon_lab")


def set_at(state, keys, value):
    for key in keys[:-1]:
        state = state[key]
    state[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["step"], "2"),
        (["step"], 3),
        (["seconds"], None),
        (["curves"], [1.0]),
        (["curves", "loss"], ["low", "lower"]),
        (["curves", "loss"], [1.0, float("nan")]),
        (["samples"], "text"),
        (["model"], None),
        (["model", "head.weight"], "text"),
        (["model", "head.weight"], torch.zeros(2, 2)),
        (["model", "head.weight"], torch.zeros(256, 16, dtype=torch.int64)),
        (["model", "another.weight"], torch.zeros(1)),
        (["random", "cpu"], torch.zeros(3)),
        (["optimizer", "state"], {}),
        (["optimizer", "state", 0], None),
        (["optimizer", "state", 0, "momentum_buffer"], "text"),
        (["optimizer", "state", 0, "momentum_buffer"], torch.zeros(3)),
        (["optimizer", "param_groups"], []),
        (["optimizer", "param_groups", 0, "lr"], "0.1"),
        (["optimizer", "param_groups", 0, "params"], []),
    ],
)
def test_wrong_contents_are_refused_before_anything_is_loaded(
    new, path, assert_refused, keys, value
):
    save_checkpoint(new(2, optimizer="muon"), path)
    state = saved(path)
    set_at(state, keys, value)
    torch.save(state, path)
    match = rf"does not fit this version of muon_lab \(its .*{keys[0]}"
    if keys == ["step"] and value == 3:
        match = r"does not fit this version of muon_lab \(its curves\)"
    assert_refused(path, match, new(optimizer="muon"))


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_checkpoint_is_read_but_never_run(tmp_path, assert_refused):
    trace = tmp_path / "was here"
    torch.save({"model": Evil(trace)}, tmp_path / "state.pt")
    assert_refused(tmp_path / "state.pt", "not a checkpoint of muon_lab .UnpicklingError")
    assert not trace.exists()
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert trace.exists()  # so it would have run


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"optimizer": "muon"}, "optimizer 'adamw', not 'muon'"),
        ({"width": 32}, "width 16, not 32"),
        ({"steps": 11}, "steps 12, not 11"),
        ({"valid_every": 5}, "valid_every 4, not 5"),
        ({"lr": 0.1, "seed": 3}, "seed 0, not 3; lr 0.003, not 0.1. To continue it, ask for what"),
    ],
)
def test_a_checkpoint_of_a_different_run_is_refused_with_the_differences(
    new, path, assert_refused, option, match
):
    save_checkpoint(new(), path)
    assert_refused(path, rf"belongs to a different run: it has .*{match}", new(**option))


def test_what_decides_no_number_may_change(new, path):
    save_checkpoint(new(), path)
    training = new(accumulate=2)
    load_checkpoint_(training, path)
    assert training.config.accumulate == 2


def test_a_checkpoint_of_a_different_text_is_refused(new, quietly, path, tmp_path):
    save_checkpoint(new(), path)
    (tmp_path / "novel.txt").write_text("another text " * 100)
    match = r"it has corpus sha256 .*ask for what it has, the text 'book.txt'"
    with pytest.raises(ValueError, match=match):
        quietly(path, resume=True, corpus=tmp_path / "novel.txt")


def test_the_same_text_may_lie_elsewhere(new, quietly, path, tmp_path, book):
    save_checkpoint(new(), path)
    copy = tmp_path / "copy.txt"
    copy.write_bytes(book.read_bytes())
    assert quietly(path, resume=True, corpus=copy).config["corpus"] == "copy.txt"


def test_a_checkpoint_of_another_version_is_refused(new, path, assert_refused):
    training = new()
    del training.model.final_norm
    save_checkpoint(training, path)
    assert_refused(path, r"does not fit this version of muon_lab \(its model\)")


def test_a_missing_checkpoint_is_said(new, tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint state.pt: start without"):
        load_checkpoint_(new(), tmp_path / "state.pt")


def test_a_checkpoint_is_read_to_main_memory_whatever_the_device(new, path):
    """Otherwise AdamW's counts of steps, which stay there, come back on a GPU."""
    save_checkpoint(new(seed=1), path)
    training = new(seed=1)
    training.config = replace(training.config, device="cuda")
    load_checkpoint_(training, path)
    assert {p.device.type for p in training.model.parameters()} == {"cpu"}
