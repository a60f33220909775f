"""A real process, killed at any moment and interrupted, must end as if nothing had happened.

Equal means: every weight, every number of the optimizer's state, every recorded number and text.
Left out are the seconds, which are the clock's (``valid_seconds``, ``costs``), and the provenance
that differs between processes: date, command and commit.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch

from muon_lab.training.__main__ import main

STEPS = 80
CLOCK = {"seconds", "optimizer_seconds", "valid_seconds"}
OWN = {"date", "command", "commit"}  # the last changes while somebody works on the lab
PATIENCE = 120  # seconds


@pytest.fixture
def arguments(book):
    """The options of one run: it saves after every step, so that a kill may fall into saving."""

    def make(folder):
        folder.mkdir()
        sizes = f"--preset tiny --layers 1 --tau 0.05 --valid-every 20 --steps {STEPS}"
        files = ["--checkpoint", str(folder / "state.pt"), "--save", str(folder / "run.json")]
        options = ["--optimizer", "muonclip", "--corpus", str(book), "--checkpoint-every", "1"]
        return [*sizes.split(), *options, *files]

    return make


def start(command):
    alone = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=alone, text=True, **pipes)


def end_after(process, path, step, number):
    """Send a signal once at least this step is saved; return the process's last words."""
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and step_of(path) >= step):
        assert process.poll() is None, f"ended too early: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.004)
    process.send_signal(number)
    return process.communicate(timeout=PATIENCE)[1]


def step_of(path):
    return torch.load(path, weights_only=True)["step"]


def recorded(folder):
    """Everything that a run left and that no clock decided."""
    state = torch.load(folder / "state.pt", weights_only=True)
    run = json.loads((folder / "run.json").read_text())
    del run["costs"]
    for values in (state, state["curves"], run["curves"]):
        for name in CLOCK & values.keys():
            del values[name]
    for name in OWN:
        del run["provenance"][name]
    for group in state["optimizer"]["param_groups"]:
        group.pop("differentiable", None)  # a default that torch writes down where it loads a state
    return state, run


def test_a_run_killed_and_interrupted_is_the_run_that_was_not(arguments, tmp_path):
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "muon_lab.training", *arguments(folder)]
    state = folder / "state.pt"

    process = start(command)
    end_after(process, state, 10, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and 10 <= step_of(state) < STEPS

    process = start([*command, "--resume"])
    said = end_after(process, state, step_of(state) + 10, signal.SIGINT)
    assert process.returncode == 130 and 20 <= step_of(state) < STEPS
    assert "stopping when this step is done and saved" in said and "Traceback" not in said

    advised = shlex.split(said.partition("continue with: ")[2])
    assert advised[:3] == command[:3] and main(advised[3:]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "state.pt"]

    assert main(arguments(whole)) == 0
    (state, run), (other_state, other_run) = recorded(folder), recorded(whole)
    assert state["step"] == STEPS and len(run["curves"]["loss"]) == STEPS
    for part in ("model", "random"):
        torch.testing.assert_close(state.pop(part), other_state.pop(part), rtol=0, atol=0)
    moments = [each["optimizer"].pop("state") for each in (state, other_state)]
    torch.testing.assert_close(*moments, rtol=0, atol=0)
    assert state == other_state  # step, curves, samples, configuration, learning rates
    assert run == other_run
