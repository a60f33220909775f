from dataclasses import asdict, replace
from pathlib import Path

import pytest
from example_runs import make_run

from muon_lab.runs import load
from muon_lab.training import sweep as module
from muon_lab.training.config import TrainConfig
from muon_lab.training.data import load_corpus
from muon_lab.training.provenance import file_name
from muon_lab.training.sweep import TrainApart, grid, main, sweep

TEXT = Path(__file__)  # a small text, soon read
TINY = TrainConfig(preset="tiny", steps=3, corpus=str(TEXT))


@pytest.fixture
def runner():
    """Make up a run in no time: the best learning rate is the preset's, and 0.1 the best decay."""

    def run(config, path):
        run.asked.append(path.name)
        if config.lr in run.diverging:
            return "step 2 was not taken"
        loss = abs(config.lr / TINY.lr - 1) + abs(config.weight_decay - 0.1) + 1
        shape = {"max_logit": [[[1.0] * config.heads] * config.layers] * 3}
        made = make_run((9, loss), config.seed, config=asdict(config), **shape)
        made.provenance["corpus"]["sha256"] = load_corpus(TEXT).sha256
        made.save(path)
        return load(path)

    run.asked, run.diverging = [], ()
    return run


def grids(names=("adamw",), factors=(0.5, 1, 2), decays=(0, 0.1)):
    configs = {name: replace(TINY, optimizer=name) for name in names}
    return {name: grid(config, factors, decays) for name, config in configs.items()}


def test_a_grid_varies_rate_and_decay_and_nothing_else():
    configs = grid(TINY, (0.5, 1, 2), (0, 0.1))
    pairs = [(config.lr, config.weight_decay) for config in configs]
    assert pairs == [(0.0015, 0), (0.0015, 0.1), (0.003, 0), (0.003, 0.1), (0.006, 0), (0.006, 0.1)]
    assert {replace(c, lr=1, weight_decay=0) for c in configs} == {
        replace(TINY, lr=1, weight_decay=0)
    }


def test_the_grid_runs_on_the_first_seed_and_the_best_on_every_seed(tmp_path, runner):
    runs = sweep(grids(("adamw", "muon")), [5, 6, 7], tmp_path, runner=runner)
    assert len(runs) == len(runner.asked) == 2 * (6 + 2)
    assert [name for name in runner.asked if "seed5" not in name] == [
        f"{name}-mha-lr0.003-decay0.1-seed{seed}.json"
        for seed in (6, 7)
        for name in ("adamw", "muon")
    ]
    assert sorted(runner.asked) == sorted(path.name for path in tmp_path.iterdir())


def test_what_is_recorded_is_not_run_again(tmp_path, runner, capsys):
    whole = sweep(grids(), [0, 1], tmp_path, runner=runner)
    (tmp_path / "adamw-mha-lr0.0015-decay0-seed0.json").unlink()
    runner.asked.clear()
    again = sweep(grids(), [0, 1], tmp_path, runner=runner)
    assert runner.asked == ["adamw-mha-lr0.0015-decay0-seed0.json"]
    assert len(again) == len(whole)
    assert "6 runs, 5 of them recorded already" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"steps": 4}, {"schedule": "wsd"}, {"tau": 3.0}])
def test_a_record_of_another_configuration_does_not_count(tmp_path, runner, change):
    runs = sweep(grids(decays=(0.1,)), [0], tmp_path, runner=runner)
    config = replace(TINY, weight_decay=0.1)
    assert any(module._is(config, run) for run in runs)
    assert not any(module._is(replace(config, **change), run) for run in runs)


def test_a_batch_that_memory_cut_into_parts_is_the_same_batch(tmp_path, runner):
    (run,) = sweep(grids(factors=(1,), decays=(0.1,)), [0], tmp_path, runner=runner)
    run.config["accumulate"] = 2
    assert module._is(replace(TINY, weight_decay=0.1), run)


def test_a_record_of_another_text_does_not_count(tmp_path, runner):
    (run,) = sweep(grids(factors=(1,), decays=(0.1,)), [0], tmp_path, runner=runner)
    config = replace(TINY, weight_decay=0.1)
    assert not module._is(config, run, text="another")


def test_a_run_that_diverges_is_told_and_the_sweep_goes_on(tmp_path, runner, capsys):
    runner.diverging = (0.006,)
    runs = sweep(grids(), [0, 1], tmp_path, runner=runner)
    assert len(runs) == 4 + 1
    assert capsys.readouterr().out.count("step 2 was not taken") == 2


def test_an_optimizer_that_always_diverges_has_no_best(tmp_path, runner):
    runner.diverging = (0.0015, 0.003, 0.006)
    assert sweep(grids(), [0, 1], tmp_path, runner=runner) == []


def test_unequal_numbers_of_tries_are_refused(tmp_path, runner):
    unfair = grids() | {"muon": grids()["adamw"][:3]}
    with pytest.raises(ValueError, match=r"same number of tries; these have .*'muon': 3"):
        sweep(unfair, [0], tmp_path, runner=runner)


def test_an_interrupted_sweep_begins_nothing_more(tmp_path, runner):
    def stop(config, path):
        if runner.asked:
            raise KeyboardInterrupt
        return runner(config, path)

    with pytest.raises(KeyboardInterrupt):
        sweep(grids(), [0, 1], tmp_path, runner=stop)
    assert len(list(tmp_path.iterdir())) == 1


def test_two_runs_at_once_give_the_same_runs(tmp_path, runner):
    one = sweep(grids(), [0, 1], tmp_path / "one", runner=runner)
    two = sweep(grids(), [0, 1], tmp_path / "two", jobs=2, runner=runner)
    labels = [sorted(run.label for run in runs) for runs in (one, two)]
    assert labels[0] == labels[1]


def test_a_run_apart_leaves_its_file_and_is_the_run_that_was_asked_for(tmp_path):
    config = replace(TINY, optimizer="muon", lr=0.02, valid_every=2)
    run = TrainApart(threads=1)(config, tmp_path / file_name(config))
    assert module._is(config, run)
    assert run.provenance["command"] == config.command()
    assert [path.name for path in tmp_path.iterdir()] == ["muon-mha-lr0.02-decay0.1-seed0.json"]


def test_a_run_apart_that_fails_tells_why(tmp_path):
    told = TrainApart(threads=1)(replace(TINY, lr=1e30), tmp_path / "run.json")
    assert "was not taken" in told and not list(tmp_path.iterdir())


def test_the_command_ends_with_the_table(tmp_path, runner, capsys, monkeypatch):
    monkeypatch.setattr(module, "TrainApart", lambda threads: runner)
    words = "--preset tiny --steps 3 --optimizer adamw --factors 1 2 --decay 0.1 --seed 0 1"
    words = [*words.split(), "--corpus", str(TEXT), "--save", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "bits a byte, seeds 0 1" in printed
    assert "is the least tried: a better one may lie beyond" in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--lr", "0.1"], "--lr: a sweep varies these itself"),
        (["--weight-decay=0"], "a sweep varies these itself"),
        (["--factors", "0", "1"], "lr must be positive and finite; got 0.0"),
        (["--jobs", "0"], "--jobs must be 1 or more; got 0"),
    ],
)
def test_options_that_no_sweep_can_have_are_refused(tmp_path, capsys, words, sentence):
    with pytest.raises(SystemExit):
        main(["--save", str(tmp_path), *words])
    assert sentence in capsys.readouterr().err


def test_what_is_named_twice_is_tried_once(tmp_path, runner, monkeypatch):
    monkeypatch.setattr(module, "TrainApart", lambda threads: runner)
    words = "--preset tiny --steps 3 --optimizer adamw --factors 1 1 --decay 0 0.0 --seed 2 2"
    assert main([*words.split(), "--corpus", str(TEXT), "--save", str(tmp_path)]) == 0
    assert runner.asked == ["adamw-mha-lr0.003-decay0-seed2.json"]
