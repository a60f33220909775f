import os
import signal
import threading

import pytest
import torch

from muon_lab.training import loop as training
from muon_lab.training.config import TrainConfig
from muon_lab.training.interrupts import memory_advice, memory_explained, signals_noted
from muon_lab.training.loop import begin, drawn_from, main, train, train_step_

SIZES = ["--preset", "tiny", "--layers", "1", "--width", "16", "--context", "16", "--steps", "10"]


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"{number} squared is {number**2}\n" for number in range(400)))
    return str(path)


@pytest.fixture
def config(book):
    sizes = {"preset": "tiny", "layers": 1, "width": 16, "context": 16, "steps": 10}
    return lambda **options: TrainConfig(**sizes | {"corpus": book} | options)


def at_step(monkeypatch, step, act):
    """Do something within the run's step of this number, once it has been taken."""
    taken = training.train_step_

    def step_and_act(state, stream):
        loss = taken(state, stream)
        if state.step == step:
            act()
        return loss

    monkeypatch.setattr(training, "train_step_", step_and_act)


@pytest.fixture(autouse=True)
def listening():
    """Hear Ctrl-C as a program in a terminal does, also where the tests began in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(*numbers):
    return lambda: [os.kill(os.getpid(), number) for number in numbers]


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGINT, signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGTERM, signal.SIGINT], 143),
    ],
)
def test_a_signal_saves_at_the_steps_end_and_says_how_to_go_on(
    book, tmp_path, capsys, monkeypatch, numbers, status
):
    at_step(monkeypatch, 6, press(*numbers))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    options = [*SIZES, "--corpus", book, "--checkpoint", str(tmp_path / "a state.pt")]
    assert main(options) == status
    assert torch.load(tmp_path / "a state.pt", weights_only=True)["step"] == 6
    said = capsys.readouterr().err
    assert "interrupted after step 6 of 10, which is saved" in said
    assert f"go on with: python -m muon_lab.training {' '.join(SIZES)} " in said
    assert f"--checkpoint '{tmp_path}/a state.pt' --resume\n" in said
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_the_third_signal_waits_for_nothing(book, tmp_path, capsys, monkeypatch):
    at_step(monkeypatch, 6, press(*[signal.SIGINT] * 3))
    path = tmp_path / "state.pt"
    assert main([*SIZES, "--corpus", book, "--checkpoint", str(path)]) == 130
    assert torch.load(path, weights_only=True)["step"] == 4
    said = capsys.readouterr().err
    assert "interrupted\ngo on with: python" in said and said.endswith("--resume\n")


def test_without_a_checkpoint_the_first_signal_waits_for_nothing(book, capsys, monkeypatch):
    at_step(monkeypatch, 6, press(signal.SIGINT))
    assert main([*SIZES, "--corpus", book]) == 130
    assert "without --checkpoint FILE nothing of it is kept" in capsys.readouterr().err


def test_before_the_first_step_there_is_nothing_to_go_on_from(book, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "load_corpus", lambda path: press(signal.SIGINT)())
    assert main([*SIZES, "--corpus", book, "--checkpoint", str(tmp_path / "state.pt")]) == 130
    assert "begin again" in capsys.readouterr().err


def test_a_signal_in_the_last_step_keeps_the_whole_run(config, tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    with monkeypatch.context() as patch:
        at_step(patch, 10, press(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt, match="after step 10 of 10"):
            train(config(), progress=False, checkpoint=path)
    run = train(config(), progress=False, checkpoint=path, resume=True)
    assert run.curves["valid_step"].tolist() == [0, 4, 8, 10]


def test_another_thread_than_the_main_one_trains_too(config, tmp_path):
    runs = []
    options = {"progress": False, "checkpoint": tmp_path / "state.pt"}
    thread = threading.Thread(target=lambda: runs.append(train(config(), **options)))
    thread.start()
    thread.join()
    assert runs[0].curves["loss"].size == 10


def test_signals_are_noted_only_where_wanted():
    with signals_noted(False) as noted, pytest.raises(KeyboardInterrupt):
        press(signal.SIGINT)()
    assert noted == []


@pytest.mark.parametrize(
    ("spoiled", "named"),
    [("loss", "its loss is nan"), ("gradient", r"the gradients of head\.weight hold NaN or Inf")],
)
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_a_nan_stops_the_run_before_the_step(config, monkeypatch, optimizer, spoiled, named):
    state = begin(config(optimizer=optimizer))
    stream = drawn_from(state)
    for _ in range(2):
        train_step_(state, stream)
    weights = {name: p.clone() for name, p in state.model.state_dict().items()}
    before = repr(state.optimizer.state_dict()), repr(state.curves)

    def spoil(model, batch, config):
        loss = model(*batch)[1]
        if spoiled == "loss":
            return loss * float("nan")
        state.model.head.weight.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(training, "loss_of", spoil)
    with pytest.raises(FloatingPointError, match=rf"step 3 was not taken.*{named}"):
        train_step_(state, stream)
    assert state.step == 2
    torch.testing.assert_close(state.model.state_dict(), weights, rtol=0, atol=0)
    assert (repr(state.optimizer.state_dict()), repr(state.curves)) == before


def test_a_stop_on_nan_keeps_the_last_checkpoint(book, tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, 6, lambda: monkeypatch.setattr(training, "backward_", nan_loss))
    path = tmp_path / "state.pt"
    assert main([*SIZES, "--corpus", book, "--checkpoint", str(path)]) == 1
    assert torch.load(path, weights_only=True)["step"] == 4
    assert "stopped: step 7 was not taken: its loss is nan" in capsys.readouterr().err


def nan_loss(state, batch):
    return torch.tensor(float("nan"))


def test_a_model_spoiled_by_its_step_is_not_saved(config, tmp_path, monkeypatch):
    """The loss before the step is sound, so that only the validation after it can tell."""
    path, spoilt = tmp_path / "state.pt", []

    def spoil():
        spoilt[0].model.head.weight.data.fill_(float("nan"))

    ready = training.ready
    monkeypatch.setattr(training, "ready", lambda *a: spoilt.append(ready(*a)) or spoilt[0])
    at_step(monkeypatch, 8, spoil)
    with pytest.raises(FloatingPointError, match=r"after step 8 the validation loss is nan.*lr"):
        train(config(), progress=False, checkpoint=path)
    assert torch.load(path, weights_only=True)["step"] == 4


def on_the_device():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def on_the_processor():
    torch.empty(1 << 50)


def in_python():
    raise MemoryError


@pytest.mark.parametrize("fill", [on_the_device, on_the_processor, in_python])
def test_out_of_memory_says_which_setting_to_lower(book, tmp_path, capsys, monkeypatch, fill):
    at_step(monkeypatch, 6, fill)
    path = tmp_path / "state.pt"
    assert main([*SIZES, "--corpus", book, "--checkpoint", str(path)]) == 1
    said = capsys.readouterr().err
    assert "out of memory on cpu, reading 4 of a step's 4 sequences of 16 bytes at a time" in said
    assert "raise accumulate to 2" in said
    assert "lower batch (4), context (16), width (16) or layers (1)" in said
    assert "Traceback" not in said
    assert torch.load(path, weights_only=True)["step"] == 4


def test_the_finer_parts_advised_go_on_from_the_checkpoint(config, tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    with monkeypatch.context() as patch:
        at_step(patch, 6, on_the_device)
        with pytest.raises(MemoryError, match="raise accumulate to 2"):
            train(config(), progress=False, checkpoint=path)
    run = train(config(accumulate=2), progress=False, checkpoint=path, resume=True)
    assert run.curves["loss"].size == 10


@pytest.mark.parametrize("where", ["begin", "validate_"])
def test_memory_may_run_out_before_the_first_step(config, monkeypatch, where):
    monkeypatch.setattr(training, where, lambda *arguments: on_the_processor())
    with pytest.raises(MemoryError, match="raise accumulate to 2"):
        train(config(), progress=False)


def test_where_a_batch_cannot_be_cut_finer_that_is_not_advised(config):
    advice = memory_advice(config(batch=4, accumulate=4))
    assert "reading 1 of a step's 4" in advice and "accumulate" not in advice
    assert "batch (" not in memory_advice(config(batch=1))


def test_other_errors_pass_as_they_are():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as raised, memory_explained(None):
        raise error
    assert raised.value is error
