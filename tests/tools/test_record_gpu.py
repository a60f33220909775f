"""GPU runs are recorded in order, continued and not repeated; here in tiny sizes on the CPU."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import benchmarks
import numpy as np
import pytest
import record_gpu
import torch
from record_gpu import TINY, Plan, Task, main, print_tables, record

from muon_lab.runs import load_all
from muon_lab.training import __main__ as training_command
from tests.example_runs import make_run

FOREVER = 1e9
# Continues from its checkpoint; otherwise it waits for SIGTERM, and then saves the checkpoint.
INTERRUPTIBLE = """
import pathlib, signal, sys, time
result, checkpoint = map(pathlib.Path, sys.argv[1:3])
def save(number, frame):
    checkpoint.touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
if "--resume" in sys.argv:
    result.touch()
else:
    time.sleep(60)
"""


@pytest.fixture
def tiny(tmp_path):
    """A plan whose runs take about a second each."""
    corpus = tmp_path / "book.txt"
    corpus.write_text("abacadae" * 500)
    return Plan(data=tmp_path / "data", gpu="some-gpu", device="cpu", corpus=corpus, **TINY)


@pytest.fixture
def commands(monkeypatch):
    """Run the commands within this process, which saves importing torch for each; list them."""
    given = []

    def run(command, stdout=None, **_):
        given.append(command)
        if "muon_lab.training" in command:
            return Ended(training_command.main(command[3:]))
        if "tools/benchmarks.py" in command:
            return Ended(benchmarks.main(command[2:]) or 0)
        assert "pytest" in command
        stdout.write("all passed")
        return Ended(0)

    fake = SimpleNamespace(Popen=run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(record_gpu, "subprocess", fake)
    return given


class Ended:
    """A process that has ended."""

    def __init__(self, status):
        self.status = status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self, timeout=None):
        return self.status


def names_in(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def test_every_stage_leaves_its_files_and_none_runs_twice(tiny, commands, capsys):
    assert record(tiny, minutes=FOREVER) == []
    assert names_in(tiny.data) == [
        "benchmarks/some-gpu-tests.txt",
        "benchmarks/some-gpu.json",
        "runs/gpu-124m-some-gpu/adamw-mha-lr0.003-decay0.1-seed0.json",
        "runs/gpu-124m-some-gpu/muon-mha-lr0.01-decay0.1-seed0.json",
        "runs/gpu-some-gpu/adamw-mha-lr0.003-decay0.1-seed0.json",
        "runs/gpu-some-gpu/muon-mha-lr0.01-decay0.1-seed0.json",
        "runs/gpu-some-gpu/muonclip-mha-lr0.01-decay0.1-seed0.json",
        "runs/muonclip-gpu-some-gpu/tau0.05/muonclip-mla-lr0.05-decay0.1-seed0.json",
        "runs/muonclip-gpu-some-gpu/unclipped/muon-mla-lr0.05-decay0.1-seed0.json",
    ]
    found = json.loads(tiny.benchmarks.read_text())
    assert found["torch"] == torch.__version__
    assert len(commands) == 9
    record(tiny, minutes=FOREVER)
    assert len(commands) == 9
    capsys.readouterr()
    print_tables(tiny)
    printed = capsys.readouterr().out
    assert printed.startswith("One block of width 64")
    assert printed.count("muon against adamw") == 2
    assert len(re.findall(r"^mla +(?:none|0.05) ", printed, flags=re.MULTILINE)) == 2


def test_the_table_of_logits_shows_their_maximum_and_how_often_they_were_clipped(tmp_path):
    logits = np.ones((3, 2, 2))  # steps, layers, heads
    logits[1] = [[2, 45], [40, 3]]
    files = [tmp_path / name for name in ("unclipped.json", "clipped.json")]
    curves = {"max_logit": logits, "gamma": np.minimum(1, 30 / logits)}
    make_run(config={"attention": "mla"}, max_logit=logits).save(files[0])
    make_run(config={"attention": "gqa", "tau": 30.0}, **curves).save(files[1])
    rows = [line.split() for line in record_gpu.logit_table(files).splitlines()[1:]]
    assert rows == [["mla", "none", "45", "-", "2.000"], ["gqa", "30", "45", "16.7%", "2.000"]]


def test_without_time_nothing_runs_and_every_stage_is_left(tiny, commands):
    full = replace(Plan(data=tiny.data, gpu="some-gpu", device="cpu"), preset="tiny")
    assert record(full, minutes=0) == [
        "cuda tests: 1 of 1 to run",
        "benchmarks: 1 of 1 to run",
        "learning rates: 8 of 8 to run",
        "three seeds: needs the learning rates first",
        "explosion: 9 of 9 to run",
        "large model: needs the learning rates first",
    ]
    assert commands == []


def test_later_stages_take_the_learning_rates_that_won(tiny):
    plan = replace(tiny, factors=(0.5, 1.0, 2.0), seeds=(0, 1))
    for task, loss in zip(record_gpu.learning_rates(plan), (3, 3, 2, 2, 3, 1), strict=True):
        optimizer, lr = re.match(r"(\w+)-mha-lr([\d.]+)-", task.result.name).groups()
        config = {"lr": float(lr), "weight_decay": 0.1}
        make_run((4.0, loss), optimizer=optimizer, config=config).save(task.result)
    seeds = [task.result.name for task in record_gpu.three_seeds(plan)]
    assert seeds[:3] == [
        "adamw-mha-lr0.003-decay0.1-seed0.json",
        "muon-mha-lr0.02-decay0.1-seed0.json",
        "muonclip-mha-lr0.02-decay0.1-seed0.json",
    ]
    assert [name.replace("seed1", "seed0") for name in seeds[3:]] == seeds[:3]
    large = [task.result.name for task in record_gpu.large_model(replace(plan, large_preset="gpu"))]
    assert large == [
        "adamw-mha-lr0.002-decay0.1-seed0.json",
        "muon-mha-lr0.012-decay0.1-seed0.json",  # twice the preset's 0.006
    ]


def test_a_run_that_reaches_the_deadline_continues_in_the_next_call(tmp_path):
    result, checkpoint = tmp_path / "run.json", tmp_path / "state.pt"
    command = (sys.executable, "-c", INTERRUPTIBLE, str(result), str(checkpoint))
    task, outcomes = Task(command, result, checkpoint), []
    while not task.is_recorded and len(outcomes) < 30:  # Python itself may start slowly
        outcomes.append(record_gpu.run(task, time.monotonic() + 1))
    assert outcomes[-2:] == ["stopped with exit status 143: the next call continues", "recorded"]
    assert not checkpoint.exists()


def test_a_training_run_is_a_process_of_its_own(tiny):
    task = record_gpu.learning_rates(tiny)[1]
    assert record_gpu.run(task, time.monotonic() + FOREVER) == "recorded"
    (run,) = load_all(task.result.parent)
    assert run.config["optimizer"] == "muon"
    assert run.provenance["corpus"]["name"] == "book.txt"


@pytest.mark.parametrize(("status", "recorded"), [(1, True), (3, False)])
def test_a_failure_is_recorded_and_a_crash_is_tried_again(tmp_path, status, recorded):
    script = f"import sys; print('step 7 was not taken', file=sys.stderr); sys.exit({status})"
    task = Task((sys.executable, "-c", script), tmp_path / "muon-lr0.5-seed0.json")
    outcome = record_gpu.run(task, time.monotonic() + FOREVER)
    assert outcome.split()[0] == ("failed" if recorded else "stopped")
    assert task.is_recorded == recorded
    reasons = [path.read_text() for path in tmp_path.glob("muon-lr0.5-seed0.failed.txt")]
    assert reasons == ["step 7 was not taken\n"] * recorded


def test_the_tests_it_runs_are_all_that_need_a_gpu(tiny):
    (task,) = record_gpu.cuda_tests(tiny)
    paths = [record_gpu.ROOT / word for word in task.command if word.startswith("tests/")]
    marked = {
        path
        for path in (record_gpu.ROOT / "tests").rglob("*.py")
        if "pytest.mark.gpu" in path.read_text() and path != Path(__file__)
    }
    assert marked
    assert {path for path in marked if not {path, path.parent} & set(paths)} == set()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert main(["--minutes", "1"]) == 1
    said = capsys.readouterr().out
    assert "finds no NVIDIA GPU" in said and "--tiny" in said
