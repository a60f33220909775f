import os
import signal
import threading

import pytest
import torch

from muon_lab.training import loop as loop_module
from muon_lab.training.__main__ import main
from muon_lab.training.interrupts import memory_advice, memory_explained, signals_noted
from muon_lab.training.loop import training_steps


@pytest.fixture(autouse=True)
def listening():
    """Hear Ctrl-C as a program in a terminal does, also where the tests began in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a state.pt"


def press(*numbers):
    return lambda: [os.kill(os.getpid(), number) for number in numbers]


def saved_step(path):
    return torch.load(path, weights_only=True)["step"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_saves_at_the_steps_end_and_says_how_to_continue(
    words, path, capsys, at_step, number, status
):
    at_step(6, press(number))
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert main([*words, "--checkpoint", str(path)]) == status
    assert saved_step(path) == 6
    said = capsys.readouterr().err
    assert "interrupted after step 6 of 10, which is saved" in said
    assert f"continue with: python -m muon_lab.training {' '.join(words)} " in said
    assert f"--checkpoint '{path}' --resume\n" in said
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_signal_waits_for_nothing(words, path, capsys, at_step):
    at_step(6, press(signal.SIGINT, signal.SIGINT))
    assert main([*words, "--checkpoint", str(path)]) == 130
    assert saved_step(path) == 4
    said = capsys.readouterr().err
    assert "interrupted\ncontinue with: python" in said and said.endswith("--resume\n")


def test_without_a_checkpoint_the_first_signal_waits_for_nothing(words, capsys, at_step):
    at_step(6, press(signal.SIGINT))
    assert main(words) == 130
    assert "nothing of it is kept: with --checkpoint FILE" in capsys.readouterr().err


def test_before_the_first_step_there_is_nothing_to_continue(words, path, capsys, monkeypatch):
    monkeypatch.setattr(loop_module, "new_training", lambda *_: press(signal.SIGINT)())
    assert main([*words, "--checkpoint", str(path)]) == 130
    assert "start again" in capsys.readouterr().err


def test_a_signal_in_the_last_step_keeps_the_whole_run(quietly, path, at_step):
    at_step(12, press(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="after step 12 of 12"):
        quietly(path)
    run = quietly(path, resume=True)
    assert run.curves["valid_step"].tolist() == [0, 4, 8, 12]


def test_a_run_in_another_thread_than_the_main_one_trains_too(quietly, path):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(quietly(path)))
    thread.start()
    thread.join()
    assert runs[0].curves["loss"].size == 12


def test_signals_are_noted_only_where_wanted():
    with signals_noted(False) as noted, pytest.raises(KeyboardInterrupt):
        press(signal.SIGINT)()
    assert noted == []


@pytest.fixture
def spoil(monkeypatch):
    """Let every loss from now on, or the head's gradient, hold NaN or Inf."""

    def arrange(training, what):
        def loss_times_nan(inputs, targets):
            return None, forward(inputs, targets)[1] * float("nan")

        forward = training.forward
        if what == "loss":
            monkeypatch.setattr(training, "forward", loss_times_nan)
        else:
            training.model.head.weight.register_hook(lambda gradient: gradient * float("inf"))

    return arrange


@pytest.mark.parametrize(
    ("spoiled", "named"),
    [("loss", "its loss is nan"), ("gradient", r"the gradients of head\.weight hold NaN or Inf")],
)
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_a_nan_stops_the_run_before_the_step(new, spoil, optimizer, spoiled, named):
    training = new(2, optimizer=optimizer)
    weights = {name: p.clone() for name, p in training.model.state_dict().items()}
    before = repr(training.optimizer.state_dict()), repr(training.curves)
    spoil(training, spoiled)
    with pytest.raises(FloatingPointError, match=rf"step 3 was not taken.*{named}"):
        next(training_steps(training))
    assert training.step == 2
    torch.testing.assert_close(training.model.state_dict(), weights, rtol=0, atol=0)
    assert (repr(training.optimizer.state_dict()), repr(training.curves)) == before


def test_a_stop_on_nan_keeps_the_last_checkpoint(words, path, at_step, monkeypatch, capsys):
    exact = loop_module.backward
    nan = lambda *batch: exact(*batch) * float("nan")  # noqa: E731
    at_step(6, lambda: monkeypatch.setattr(loop_module, "backward", nan))
    assert main([*words, "--checkpoint", str(path)]) == 1
    assert saved_step(path) == 4
    assert "stopped: step 7 was not taken: its loss is nan" in capsys.readouterr().err


def test_a_model_spoiled_by_its_step_is_not_saved(quietly, path, at_step, monkeypatch):
    """The loss before the step is fine, so that only the validation after it can tell."""
    trainings, start = [], loop_module.start_training
    record = lambda *options: trainings.append(start(*options)) or trainings[0]  # noqa: E731
    monkeypatch.setattr(loop_module, "start_training", record)
    at_step(8, lambda: trainings[0].model.head.weight.data.fill_(float("nan")))
    with pytest.raises(FloatingPointError, match=r"after step 8 the validation loss is nan.*rate"):
        quietly(path)
    assert saved_step(path) == 4


def on_the_device():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def on_the_processor():
    torch.empty(1 << 50)


def in_python():
    raise MemoryError


@pytest.mark.parametrize("fill", [on_the_device, on_the_processor, in_python])
def test_out_of_memory_says_which_setting_to_lower(words, path, capsys, at_step, fill):
    at_step(6, fill)
    assert main([*words, "--checkpoint", str(path)]) == 1
    said = capsys.readouterr().err
    assert "out of memory on cpu, reading 4 of the 4 sequences" in said
    assert "raise accumulate to 2" in said
    assert "lower batch (4), context (16), width (16) or layers (1)" in said
    assert "Traceback" not in said
    assert saved_step(path) == 4


def test_the_smaller_parts_advised_continue_from_the_checkpoint(quietly, path, at_step):
    at_step(6, on_the_device)
    with pytest.raises(MemoryError, match="raise accumulate to 2"):
        quietly(path)
    assert quietly(path, resume=True, accumulate=2).curves["loss"].size == 12


@pytest.mark.parametrize("where", ["new_training", "validate_"])
def test_memory_may_run_out_before_the_first_step(quietly, monkeypatch, where):
    monkeypatch.setattr(loop_module, where, lambda *arguments: on_the_processor())
    with pytest.raises(MemoryError, match="raise accumulate to 2"):
        quietly()


def test_where_a_batch_has_no_smaller_parts_they_are_not_advised(config):
    advice = memory_advice(config(batch=4, accumulate=4))
    assert "reading 1 of the 4 sequences" in advice and "accumulate" not in advice
    assert "batch (" not in memory_advice(config(batch=1))


def test_other_errors_pass_as_they_are():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as raised, memory_explained(None):
        raise error
    assert raised.value is error
