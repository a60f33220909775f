import shlex
import sys
from pathlib import Path

import pytest

from muon_lab.runs import load
from muon_lab.training.__main__ import main, resume_hint, run_path


def test_the_command_line_prints_the_result_and_saves_each_run(words, tmp_path, capsys):
    options = ["--save", str(tmp_path), "--optimizer", "muon", "--lr", "0.01", "0.02"]
    assert main([*words, *options]) == 0
    printed = capsys.readouterr().out
    for part in ("validation loss", "bits per byte; xz -9 needs", "10 steps, 640 bytes", " s on "):
        assert part in printed
    assert "| def " in printed
    names = [f"muon-mha-lr{lr}-decay0.1-seed0.json" for lr in (0.01, 0.02)]
    assert [load(tmp_path / name).config["lr"] for name in names] == [0.01, 0.02]


def test_a_run_that_stops_is_reported_and_the_next_one_still_starts(words, tmp_path, capsys):
    options = ["--save", str(tmp_path), "--schedule", "constant", "--lr", "1e30", "0.01"]
    assert main([*words, *options]) == 1
    assert "was not taken" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["adamw-mha-lr0.01-decay0.1-seed0.json"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--corpus", "no/such/file"], "no corpus at 'no/such/file': there is no such file"),
        (["--corpus", ""], "no corpus at ''"),
        (["--device", "banana"], "device 'banana' is not available on this machine"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available on this machine"),
        (["--checkpoint-every", "0"], "checkpoint_every must be a whole number of at least 1"),
        (["--resume"], "--resume (resume=True) needs --checkpoint"),
        (["--save", "{file}/folder/run.json"], "cannot write run.json in"),
        (["--checkpoint", "{file}/folder/state.pt"], "cannot write state.pt in"),
    ],
)
def test_what_cannot_start_ends_with_one_sentence(words, tmp_path, capsys, options, part):
    file = tmp_path / "file"
    file.touch()
    assert main([*words, *(option.format(file=file) for option in options)]) == 1
    said = capsys.readouterr().err
    assert f"stopped: {part}" in said and "Traceback" not in said


def test_half_of_torchruns_variables_are_refused(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert main([*words, "--checkpoint", str(tmp_path / "state.pt")]) == 1
    said = capsys.readouterr().err
    assert "WORLD_SIZE is 2" in said and "MASTER_ADDR" in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert main(words) == 0


def test_a_run_file_that_exists_is_not_replaced_by_another_run(words, tmp_path, capsys):
    options = [*words, "--optimizer", "muonclip", "--save", str(tmp_path)]
    assert main([*options, "--tau", "30"]) == 0
    assert main([*options, "--tau", "100"]) == 1  # the same name
    (path,) = tmp_path.iterdir()
    assert load(path).config["tau"] == 30
    assert f"run file {path.name} exists already" in capsys.readouterr().err


def test_a_run_that_was_killed_while_it_ended_can_end_again(words, tmp_path):
    files = ["--checkpoint", str(tmp_path / "state.pt"), "--save", str(tmp_path / "run.json")]
    assert main([*words, *files]) == 0
    assert main([*words, *files, "--resume"]) == 0
    assert load(tmp_path / "run.json").config["steps"] == 10


@pytest.mark.parametrize(
    ("path", "several", "name"),
    [
        ("run.json", False, "run.json"),
        ("runs", False, "runs/muon-mha-lr0.01-decay0.1-seed3.json"),
        ("run.json", True, "run.json/muon-mha-lr0.01-decay0.1-seed3.json"),
    ],
)
def test_a_runs_file_is_the_one_named_or_one_in_the_folder_named(config, path, several, name):
    assert run_path(config(optimizer="muon", seed=3), Path(path), several) == Path(name)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "a state.pt"
    path.touch()
    return path


def test_a_run_continues_with_the_command_given_and_resume(checkpoint):
    given = ["--corpus", "my books", "--checkpoint", str(checkpoint)]
    said = resume_hint(checkpoint, given).removeprefix("continue with: ")
    assert shlex.split(said) == ["python", "-m", "muon_lab.training", *given, "--resume"]


def test_a_resumed_run_is_resumed_by_the_same_command(checkpoint):
    said = resume_hint(checkpoint, ["--resume", "--checkpoint", str(checkpoint)])
    assert said.count("--resume") == 1


def test_a_command_line_of_its_own_is_repeated_as_it_was_typed(checkpoint, monkeypatch):
    typed = [".venv/bin/python", "-m", "muon_lab.training", "--checkpoint", "a state.pt"]
    monkeypatch.setattr(sys, "orig_argv", typed)
    said = resume_hint(checkpoint, None).removeprefix("continue with: ")
    assert shlex.split(said) == [*typed, "--resume"]


def test_without_a_file_a_run_cannot_continue(tmp_path):
    assert "nothing of it is kept" in resume_hint(None, [])
    assert "start again" in resume_hint(tmp_path / "state.pt", [])
