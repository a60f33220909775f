"""What a machine offers; a missing compiler or device is made up, since test machines have both."""

from functools import partial

import numpy as np
import pytest
import torch

from muon_lab.training import device as device_module
from muon_lab.training import loop as loop_module
from muon_lab.training.device import check_device, compiled, has_compiler
from muon_lab.training.loop import compile_ahead, training_steps


@pytest.fixture
def backend(monkeypatch):
    """Let torch.compile trace the model, and leave out the compiler at the end of its work."""

    def arrange(name):
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=name))

    return arrange


def test_a_compiled_run_has_the_losses_of_a_plain_one(quietly, backend):
    backend("aot_eager")  # which traces the backward too
    options = {"optimizer": "muonclip", "accumulate": 2, "tau": 0.5, "steps": 4}
    fast, plain = (quietly(**options, compile=on) for on in (True, False))
    for name in ("loss", "valid_loss", "grad_norm"):
        np.testing.assert_allclose(fast.curves[name], plain.curves[name], rtol=1e-5)
    assert fast.config["compile"] and not plain.config["compile"]


def test_compiling_is_done_before_the_clock_runs_and_leaves_no_trace(new, backend):
    backend("eager")
    training = new(optimizer="muonclip", accumulate=2, compile=True)
    before = {name: p.clone() for name, p in training.model.state_dict().items()}
    compile_ahead(training)
    torch.testing.assert_close(training.model.state_dict(), before, rtol=0, atol=0)
    assert training.model.max_logits() is None
    assert all(p.grad is None for p in training.model.parameters())
    assert (training.step, training.seconds, training.curves) == (0, 0.0, {})
    with torch.compiler.set_stance("fail_on_recompile"):
        losses = list(training_steps(training))
    assert len(losses) == 12


def test_the_peak_of_a_run_does_not_contain_its_compiling(quietly, backend, monkeypatch):
    backend("eager")
    done, ahead = [], loop_module.compile_ahead
    monkeypatch.setattr(loop_module, "forget_peak_memory", lambda name: done.append("forgotten"))
    compiling = lambda training: (ahead(training), done.append("compiled"))  # noqa: E731
    monkeypatch.setattr(loop_module, "compile_ahead", compiling)
    quietly(compile=True, steps=1)
    assert done == ["compiled", "forgotten"]


def test_a_compiled_model_shares_its_weights(backend):
    backend("eager")
    model = torch.nn.Linear(3, 2)
    fast = compiled(model, "cpu")
    assert fast.weight is model.weight
    assert torch.equal(fast(torch.ones(1, 3)), model(torch.ones(1, 3)))


def test_a_machine_without_a_compiler_learns_what_to_install(quietly, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not has_compiler("cpu")
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler.*install g\+\+.*leave compile"):
        quietly(compile=True)


@pytest.mark.parametrize(("found", "compile"), [("cc", True), ("no-such-compiler", False)])
def test_on_a_gpu_models_are_compiled_where_they_can_be(config, monkeypatch, found, compile):
    monkeypatch.setattr(device_module.shutil, "which", lambda name: name if name == "cc" else None)
    monkeypatch.setenv("CC", found)
    assert config(device="cuda").compile is compile
    assert not config(device="cpu").compile
    assert config(device="cuda", compile=True).compile


@pytest.mark.parametrize("name", ["banana", "", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"device '{name}' is not available .*use cpu"):
        check_device(name)
