import shlex
import sys
from pathlib import Path

import pytest
import torch

from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.training.config import TrainConfig
from muon_lab.training.provenance import PROMPT, file_for, how_to_go_on, write_text


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "a state.pt"
    path.touch()
    return path


def test_the_way_on_is_the_command_given_and_resume(checkpoint):
    given = ["--corpus", "my books", "--checkpoint", str(checkpoint)]
    said = how_to_go_on(checkpoint, given).removeprefix("go on with: ")
    assert shlex.split(said) == ["python", "-m", "muon_lab.training", *given, "--resume"]


def test_a_resumed_run_is_resumed_by_the_same_command(checkpoint):
    said = how_to_go_on(checkpoint, ["--resume", "--checkpoint", str(checkpoint)])
    assert said.count("--resume") == 1


def test_a_command_line_of_its_own_is_repeated_as_it_was_typed(checkpoint, monkeypatch):
    typed = [".venv/bin/python", "-m", "muon_lab.training", "--checkpoint", "a state.pt"]
    monkeypatch.setattr(sys, "orig_argv", typed)
    said = how_to_go_on(checkpoint, None).removeprefix("go on with: ")
    assert shlex.split(said) == [*typed, "--resume"]


def test_without_a_file_there_is_no_way_on(tmp_path):
    assert "nothing of it is kept" in how_to_go_on(None, [])
    assert "begin again" in how_to_go_on(tmp_path / "state.pt", [])


@pytest.mark.parametrize(
    ("path", "several", "name"),
    [
        ("run.json", False, "run.json"),
        ("runs", False, "runs/muon-mha-lr0.01-decay0.1-seed3.json"),
        ("run.json", True, "run.json/muon-mha-lr0.01-decay0.1-seed3.json"),
    ],
)
def test_a_runs_file_is_the_one_named_or_one_in_the_folder_named(path, several, name):
    config = TrainConfig(preset="tiny", optimizer="muon", seed=3)
    assert file_for(config, Path(path), several) == Path(name)


def test_text_is_written_with_the_same_dice_each_time_and_can_be_shown():
    torch.manual_seed(0)
    model = GPT(GPTConfig(layers=1, width=16, heads=2, context=16))
    state = torch.get_rng_state()
    texts = [write_text(model, 200) for _ in range(2)]
    assert texts[0] == texts[1]
    assert texts[0].startswith(PROMPT.decode())
    assert all(c.isprintable() or c == "\n" for c in texts[0])
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
