import platform
import subprocess
from datetime import datetime

import torch

from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.training import provenance
from muon_lab.training.provenance import PROMPT, environment, processor, write_text


def test_the_record_says_where_it_was_made(quietly):
    run = quietly(optimizer="muon", lr=0.02)
    about = run.provenance
    where = {"date", "python", "commit", "torch", "device", "command", "corpus", "spectra"}
    assert set(about) == where
    assert "--optimizer muon" in about["command"] and "--lr 0.02" in about["command"]
    assert about["device"] == f"{processor()}, torch threads: {torch.get_num_threads()}"
    assert set(run.samples) == {"before", "after"}
    assert run.samples["after"].startswith("def ")


def test_an_environment_is_date_python_and_commit():
    found = environment()
    assert datetime.fromisoformat(found["date"]).tzinfo is not None
    assert found["python"] == platform.python_version()
    assert set(found) == {"date", "python", "commit"}


def test_a_clone_names_its_commit_and_whether_it_was_edited(tmp_path, monkeypatch):
    package = tmp_path / "muon_lab" / "training"
    package.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    monkeypatch.setenv("MUON_LAB_COMMIT", "given")
    assert environment()["commit"] == "given"  # a copy of the files, without git
    (package / "loop.py").write_text("one")
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    commit = environment()["commit"]
    assert len(commit) >= 7 and int(commit, 16) >= 0
    (package / "loop.py").write_text("two")
    assert environment()["commit"] == f"{commit} + changes"


def test_text_is_written_with_the_same_random_numbers_each_time_and_can_be_shown():
    torch.manual_seed(0)
    model = GPT(GPTConfig(layers=1, width=16, heads=2, context=16))
    state = torch.get_rng_state()
    texts = [write_text(model, 200) for _ in range(2)]
    assert texts[0] == texts[1]
    assert texts[0].startswith(PROMPT.decode())
    assert all(c.isprintable() or c == "\n" for c in texts[0])
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
