"""Real processes, killed for good at any moment, must come back as if nothing had been.

Equal means: every weight, every number of the optimizer's state, every recorded number and text.
Left out are the seconds, which are the clock's (``valid_seconds``, ``costs``), and the provenance
that tells one process from another: date, command and commit.
"""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

OPTIMIZERS = ("adamw", "muon", "muonclip")
STEPS = 150
CLOCK = {"seconds", "optimizer_seconds", "valid_seconds"}
OWN = {"date", "command", "commit"}  # the last changes where somebody works on the lab meanwhile
PATIENCE = 120  # seconds; what waits longer than this waits for nothing


def words(folder, optimizer):
    """The command of one run: it saves after every step, so that kills fall into saving too."""
    book = folder.parent / "book.txt"
    sizes = "--preset tiny --layers 1 --tau 0.05 --checkpoint-every 1 --valid-every 20"
    return [
        *(sys.executable, "-m", "muon_lab.training"),
        *f"{sizes} --steps {STEPS}".split(),
        *("--optimizer", optimizer, "--corpus", str(book)),
        *("--checkpoint", str(folder / "state.pt"), "--save", str(folder / "run.json")),
    ]


def start(command):
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=alone, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, error


def until(process, condition, pause=0.004):
    """Wait for something that a process is to bring about; say so if it ends instead."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"ended too early: {process.communicate()[1]}"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause)


def step_of(path):
    return torch.load(path, weights_only=True)["step"]


def until_step(process, path, step):
    """Wait until a process has saved at least this step; a file is read once for each save."""
    seen = [path.stat().st_mtime_ns if path.exists() else None]

    def reached():
        now = path.stat().st_mtime_ns if path.exists() else None
        old, seen[0] = seen[0], now
        return now != old and step_of(path) >= step

    until(process, reached)


def kill_and_resume(folder, optimizer):
    """Kill the run at three random steps, the second time while it writes; return them."""
    folder.mkdir()
    dice = random.Random(optimizer)
    state, part, command = folder / "state.pt", folder / "state.pt.part", words(folder, optimizer)
    died_at = []
    for step in sorted(dice.sample(range(2, STEPS // 2), 3)):
        process = start(command + ["--resume"] * bool(died_at))
        until_step(process, state, step)
        if len(died_at) == 1:
            until(process, part.exists, pause=0.0002)
        else:
            time.sleep(dice.uniform(0, 0.02))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        died_at.append(step_of(state))
    finish(start([*command, "--resume"]))
    return died_at


def unbroken(folder):
    """Let each optimizer's run go through undisturbed, all in one process."""
    for optimizer in OPTIMIZERS:
        (folder / f"{optimizer} whole").mkdir()
    commands = [words(folder / f"{name} whole", name)[3:] for name in OPTIMIZERS]
    script = "import sys; from muon_lab.training.loop import main; sys.exit(sum(map(main, {})))"
    finish(start([sys.executable, "-c", script.format(commands)]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Do all of it at once, since most of it is waiting for processes to begin."""
    folder = tmp_path_factory.mktemp("runs")
    text = "".join(f"{number} squared is {number**2}\n" for number in range(400))
    (folder / "book.txt").write_text(text)
    with ThreadPoolExecutor() as pool:
        whole = pool.submit(unbroken, folder)
        told = {name: pool.submit(kill_and_resume, folder / name, name) for name in OPTIMIZERS}
        told["interrupted"] = pool.submit(interrupt_and_obey, folder / "interrupted")
        whole.result()
        yield folder, {name: each.result() for name, each in told.items()}


def recorded(folder):
    """Everything that a run left and that no clock decided."""
    state = torch.load(folder / "state.pt", weights_only=True)
    run = json.loads((folder / "run.json").read_text())
    del run["costs"]
    for values, out in ((state, CLOCK), (state["curves"], CLOCK), (run["curves"], CLOCK)):
        for name in out & values.keys():
            del values[name]
    for name in OWN:
        del run["provenance"][name]
    for group in state["optimizer"]["param_groups"]:
        group.pop("differentiable", None)  # a default that torch writes down where it loads a state
    return state, run


def assert_same(folder, other):
    (state, run), (other_state, other_run) = recorded(folder), recorded(other)
    assert state["step"] == STEPS and len(run["curves"]["loss"]) == STEPS
    for part in ("model", "random"):
        torch.testing.assert_close(state.pop(part), other_state.pop(part), rtol=0, atol=0)
    moments = [each["optimizer"].pop("state") for each in (state, other_state)]
    torch.testing.assert_close(*moments, rtol=0, atol=0)
    assert state == other_state  # step, curves, samples, configuration, learning rates
    assert run == other_run


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_killed_three_times_is_the_run_that_was_not(runs, optimizer):
    folder, told = runs
    died_at = told[optimizer]
    assert 1 < died_at[0] < died_at[1] < died_at[2] < STEPS
    assert_same(folder / optimizer, folder / f"{optimizer} whole")


def test_a_killed_run_leaves_nothing_behind(runs):
    folder, _ = runs
    for optimizer in OPTIMIZERS:
        left = sorted(path.name for path in (folder / optimizer).iterdir())
        assert left == ["run.json", "state.pt"]


def interrupt_and_obey(folder):
    """Press Ctrl-C, then do what the run says on its way out; return that and its exit status."""
    folder.mkdir()
    process = start(words(folder, "muonclip"))
    until_step(process, folder / "state.pt", 10)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1]
    finish(start(shlex.split(said.partition("go on with: ")[2])))
    return said, process.returncode


def test_the_command_that_an_interrupted_run_gives_ends_it_as_if_it_had_gone_on(runs):
    folder, told = runs
    said, status = told["interrupted"]
    assert status == 130
    assert "stopping once this step is done and saved" in said and "Traceback" not in said
    assert Path(shlex.split(said.partition("go on with: ")[2])[0]) == Path(sys.executable)
    assert_same(folder / "interrupted", folder / "muonclip whole")
