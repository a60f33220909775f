"""Ranks started by torchrun must train as one process does, and end together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from muon_lab.training import train
from muon_lab.training.__main__ import main
from muon_lab.training.interrupts import Stopped

PATIENCE = 120  # seconds
STEPS = 12


@pytest.fixture
def words(book):
    """A run of MuonClip whose clip is at work, on 12 sequences per step.

    One process reads them in two parts, so that it adds in the order of two ranks.
    """
    sizes = f"--preset tiny --layers 2 --width 16 --context 16 --batch 12 --steps {STEPS}"
    rule = "--optimizer muonclip --tau 0.05 --valid-every 4 --clip-norm 1"
    return [*sizes.split(), *rule.split(), "--corpus", str(book)]


def torchrun(ranks, words):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", "muon_lab.training", *words]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=alone, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(process):
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return said


def files(folder):
    return ["--save", str(folder / "run.json"), "--checkpoint", str(folder / "state.pt")]


def left(folder):
    """Return the weights and the record that a run left."""
    state = torch.load(folder / "state.pt", weights_only=True)
    return state, json.loads((folder / "run.json").read_text())


def assert_same_run(folder, other, **tolerance):
    (state, run), (other_state, other_run) = left(folder), left(other)
    assert state["step"] == other_state["step"] == STEPS
    for part in ("model", "optimizer"):
        ours, theirs = state[part], other_state[part]
        ours, theirs = (each.get("state", each) for each in (ours, theirs))
        torch.testing.assert_close(ours, theirs, **tolerance)
    for name in ("loss", "valid_loss", "grad_norm", "max_logit"):
        ours, theirs = (torch.tensor(each["curves"][name]) for each in (run, other_run))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)  # six digits are kept


@pytest.fixture
def alone(words, tmp_path):
    assert main([*words, *files(tmp_path / "alone"), "--accumulate", "2"]) == 0
    return tmp_path / "alone"


def test_two_ranks_train_as_one_process_to_the_last_bit(words, alone, tmp_path):
    folder = tmp_path / "together"
    said = finished(torchrun(2, [*words, *files(folder)]))
    assert_same_run(folder, alone, rtol=0, atol=0)
    assert said.count("saved") == said.count("what it writes:") == 1
    assert said.count(f"step {STEPS:>5}: validation") == 1  # one progress bar
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "state.pt"]
    (run, other) = (left(each)[1] for each in (folder, alone))
    assert run["curves"]["gamma"] == other["curves"]["gamma"]
    assert min(min(layer) for layer in run["curves"]["gamma"][-1]) < 1
    assert run["provenance"]["command"].startswith("torchrun --nproc-per-node=2 -m muon_lab.")


EXACT = """
import torch
import torch.distributed as dist
from muon_lab.muon import Muon

def exact(groups, **options):
    whole = not any(hasattr(p, "device_mesh") for group in groups for p in group["params"])
    shared = {"process_group": dist.group.WORLD} if whole and dist.is_initialized() else {}
    return Muon(groups, ns_dtype=torch.float64, **shared, **options)
"""


@pytest.mark.parametrize(("ranks", "shard"), [(3, False), (2, True)])
def test_more_ranks_and_shards_differ_by_rounding_only(words, tmp_path, ranks, shard):
    path = tmp_path / "exact.py"
    path.write_text(EXACT)
    mine = [*words, "--optimizer", f"{path}:exact", "--watch-logits"]
    assert main([*mine, *files(tmp_path / "alone")]) == 0
    finished(torchrun(ranks, [*mine, *files(tmp_path / "ranks"), *["--shard"] * shard]))
    assert_same_run(tmp_path / "ranks", tmp_path / "alone", rtol=1e-5, atol=2e-6)
    whole, held = (
        left(tmp_path / name)[1]["costs"]["state_bytes"]["weights"] for name in ("alone", "ranks")
    )
    assert held < 0.6 * whole if shard else held == whole


def test_a_run_of_one_process_continues_on_two_ranks(words, alone, tmp_path, at_step):
    folder = tmp_path / "moved"
    at_step(5, lambda: signal.raise_signal(signal.SIGINT))
    assert main([*words, *files(folder), "--accumulate", "2"]) == 130
    finished(torchrun(2, [*words, *files(folder), "--resume"]))
    assert_same_run(folder, alone, rtol=0, atol=0)


def test_a_run_of_one_process_continues_as_shards(words, alone, tmp_path, at_step):
    folder = tmp_path / "sharded"
    at_step(11, lambda: signal.raise_signal(signal.SIGINT))
    assert main([*words, *files(folder), "--accumulate", "2"]) == 130
    finished(torchrun(2, [*words, *files(folder), "--resume", "--shard"]))
    # One step of bfloat16 rounding, whose updates have an RMS of lr / 5 at the last step's lr.
    assert_same_run(folder, alone, rtol=0, atol=1e-4)


def test_a_killed_rank_ends_the_others_and_one_process_continues(words, alone, tmp_path):
    folder = tmp_path / "killed"
    often = [*words, *files(folder), "--checkpoint-every", "1"]
    process = torchrun(2, often)
    deadline = time.monotonic() + PATIENCE
    while step_of(folder / "state.pt") < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(workers(process.pid)[1], signal.SIGKILL)
    killed = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0 and time.monotonic() - killed < 60
    assert "rank 0 of 2 lost another rank" in errors and "--resume" in errors
    assert "Traceback" not in errors.partition("lost another rank")[0]
    assert 2 <= step_of(folder / "state.pt") < STEPS
    assert main([*often, "--accumulate", "2", "--resume"]) == 0
    assert_same_run(folder, alone, rtol=0, atol=0)


def step_of(path):
    return torch.load(path, weights_only=True)["step"] if path.exists() else -1


def workers(pid):
    """Return the processes that torchrun has started, by rank."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        environment = Path(f"/proc/{child}/environ").read_text().split("\0")
        found |= {int(e[5:]): int(child) for e in environment if e.startswith("RANK=")}
    return found


def test_an_interrupt_saves_and_says_how_to_continue(words, tmp_path):
    folder = tmp_path / "stopped"
    long = [*words, *files(folder), "--checkpoint-every", "1", "--steps", "5000"]
    process = torchrun(2, long)
    deadline = time.monotonic() + PATIENCE
    while step_of(folder / "state.pt") < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert errors.count("continue with: torchrun --nproc-per-node=2 -m muon_lab.training") == 1
    assert step_of(folder / "state.pt") < 5000


def test_what_stops_one_rank_is_said_once(words, tmp_path):
    process = torchrun(2, [*words, "--batch", "9"])
    _, errors = process.communicate(timeout=PATIENCE)
    assert errors.count("batch must be a multiple of 2 for 2 ranks; got 9") == 1


def test_train_in_a_process_of_torchrun_that_has_not_joined_is_refused(config, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="init_process_group"):
        train(config(), progress=False)


def test_the_interrupt_of_one_process_is_still_its_own(config, book, tmp_path, at_step):
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Stopped, match="after step 2 of 12"):
        train(config(), progress=False, corpus=book, checkpoint=tmp_path / "state.pt")
