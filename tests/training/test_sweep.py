from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from example_runs import make_run

from muon_lab.runs import load
from muon_lab.training import sweep as sweep_module
from muon_lab.training.config import TrainConfig
from muon_lab.training.data import load_corpus
from muon_lab.training.optimizers import source_sha256
from muon_lab.training.provenance import file_name
from muon_lab.training.sweep import grid, main, matches, sweep, train_in_process

TEXT = Path(__file__)  # a small text, quickly read
TINY = TrainConfig(preset="tiny", steps=3)
COMMAND = ["--preset", "tiny", "--steps", "3", "--corpus", str(TEXT)]


@pytest.fixture
def runner(monkeypatch):
    """Make up each run in no time: the preset's learning rate and the decay 0.1 are the best."""

    def run(config, path, corpus, threads):
        run.asked.append(path.name)
        if config.lr in run.diverging:
            return "step 2 was not taken"
        loss = abs(config.lr / TINY.lr - 1) + abs(config.weight_decay - 0.1) + 1
        shape = {"max_logit": [[[1.0] * config.heads] * config.layers] * 3}
        settings = asdict(config) | {"corpus": TEXT.name}
        made = make_run((9, loss), config.seed, config=settings, **shape)
        made.provenance["corpus"]["sha256"] = load_corpus(corpus).sha256
        made.save(path)
        return load(path)

    run.asked, run.diverging = [], ()
    monkeypatch.setattr(sweep_module, "train_in_process", run)
    return run


def grids(names=("adamw",), factors=(0.5, 1, 2), decays=(0, 0.1)):
    configs = {name: replace(TINY, optimizer=name) for name in names}
    return {name: grid(config, factors, decays) for name, config in configs.items()}


def test_a_grid_varies_rate_and_decay_and_nothing_else():
    configs = grid(TINY, (0.5, 1, 2), (0, 0.1))
    pairs = [(config.lr, config.weight_decay) for config in configs]
    assert pairs == [(0.0015, 0), (0.0015, 0.1), (0.003, 0), (0.003, 0.1), (0.006, 0), (0.006, 0.1)]
    common = {replace(config, lr=1, weight_decay=0) for config in configs}
    assert common == {replace(TINY, lr=1, weight_decay=0)}


def test_the_grid_runs_on_the_first_seed_and_the_best_on_every_seed(tmp_path, runner):
    runs = sweep(grids(("adamw", "muon")), [5, 6, 7], tmp_path, corpus=TEXT)
    assert len(runs) == len(runner.asked) == 2 * (6 + 2)
    assert [name for name in runner.asked if "seed5" not in name] == [
        f"{name}-mha-lr0.003-decay0.1-seed{seed}.json"
        for seed in (6, 7)
        for name in ("adamw", "muon")
    ]
    assert sorted(runner.asked) == sorted(path.name for path in tmp_path.iterdir())


def test_what_is_recorded_is_not_run_again(tmp_path, runner, capsys):
    whole = sweep(grids(), [0, 1], tmp_path, corpus=TEXT)
    (tmp_path / "adamw-mha-lr0.0015-decay0-seed0.json").unlink()
    runner.asked.clear()
    again = sweep(grids(), [0, 1], tmp_path, corpus=TEXT)
    assert runner.asked == ["adamw-mha-lr0.0015-decay0-seed0.json"]
    assert len(again) == len(whole)
    assert "6 runs, 5 of them recorded already" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"steps": 4}, {"schedule": "wsd"}, {"accumulate": 2}])
def test_a_record_of_a_different_configuration_does_not_count(tmp_path, runner, change):
    (run,) = sweep(grids(factors=(1,), decays=(0.1,)), [0], tmp_path, corpus=TEXT)
    assert matches(TINY, run)
    assert not matches(replace(TINY, **change), run)


def test_a_record_of_a_different_text_does_not_count(tmp_path, runner):
    (run,) = sweep(grids(factors=(1,), decays=(0.1,)), [0], tmp_path, corpus=TEXT)
    assert matches(TINY, run, sha256=load_corpus(TEXT).sha256)
    assert not matches(TINY, run, sha256="another")


def test_a_record_older_than_a_setting_had_that_settings_default():
    run = make_run(config=asdict(TINY))
    del run.config["per_head"]
    assert matches(TINY, run)
    assert not matches(replace(TINY, optimizer="muon", per_head=True), run)


def test_a_record_of_an_older_version_of_your_own_optimizer_does_not_count(tmp_path, runner):
    file = tmp_path / "my_optimizer.py"
    file.write_text("from torch.optim import SGD\n")
    config = replace(TINY, optimizer=f"{file}:SGD")
    run = make_run(
        config=asdict(config), provenance={"optimizer_sha256": source_sha256(f"{file}:SGD")}
    )
    assert matches(config, run)
    file.write_text("from torch.optim import SGD  # changed\n")
    assert not matches(config, run)


def test_a_run_that_diverges_is_reported_and_the_sweep_continues(tmp_path, runner, capsys):
    runner.diverging = (0.006,)
    runs = sweep(grids(), [0, 1], tmp_path, corpus=TEXT)
    assert len(runs) == 4 + 1
    assert capsys.readouterr().out.count("step 2 was not taken") == 2


def test_an_optimizer_that_always_diverges_has_no_best(tmp_path, runner):
    runner.diverging = (0.0015, 0.003, 0.006)
    assert sweep(grids(), [0, 1], tmp_path, corpus=TEXT) == []


def test_unequal_numbers_of_tries_are_refused(tmp_path, runner):
    unfair = grids() | {"muon": grids()["adamw"][:3]}
    with pytest.raises(ValueError, match=r"same number of tries; these have .*'muon': 3"):
        sweep(unfair, [0], tmp_path, corpus=TEXT)
    assert runner.asked == []


def test_an_interrupted_sweep_starts_nothing_more(tmp_path, runner, monkeypatch):
    def stop(*options):
        if runner.asked:
            raise KeyboardInterrupt
        return runner(*options)

    monkeypatch.setattr(sweep_module, "train_in_process", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(grids(), [0, 1], tmp_path, corpus=TEXT)
    assert len(list(tmp_path.iterdir())) == 1


def test_two_runs_at_once_give_the_same_runs(tmp_path, runner):
    one = sweep(grids(), [0, 1], tmp_path / "one", corpus=TEXT)
    two = sweep(grids(), [0, 1], tmp_path / "two", corpus=TEXT, jobs=2)
    labels = [sorted(run.label for run in runs) for runs in (one, two)]
    assert labels[0] == labels[1]


def test_a_run_in_its_own_process_is_the_one_asked_for_or_says_why_it_failed(tmp_path):
    config = replace(TINY, optimizer="muon", lr=0.02, valid_every=2)
    paths = [tmp_path / file_name(config), tmp_path / "diverging.json"]
    with ThreadPoolExecutor() as pool:  # both at once, since they mostly wait for torch to load
        started = [
            pool.submit(train_in_process, each, path, TEXT, threads=1)
            for each, path in zip((config, replace(TINY, lr=1e30)), paths, strict=True)
        ]
        run, error = (each.result() for each in started)
    assert matches(config, run, load_corpus(TEXT).sha256)
    assert run.provenance["command"] == replace(config, corpus=TEXT.name).command()
    assert run.provenance["device"].endswith("torch threads: 1")
    assert error.startswith("FloatingPointError: step 2 was not taken")
    assert list(tmp_path.iterdir()) == paths[:1]


def test_the_command_ends_with_the_table(tmp_path, runner, capsys):
    options = ["--optimizer", "adamw", "--factors", "1", "2", "--decay", "0.1", "--seed", "0", "1"]
    assert main([*COMMAND, *options, "--save", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "adamw" in printed and "seeds 0 1" in printed


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--lr", "0.1"], "--lr: a sweep varies these itself"),
        (["--weight-decay=0"], "a sweep varies these itself"),
        (["--factors", "0", "1"], "lr must be positive and finite; got 0.0"),
        (["--jobs", "0"], "--jobs must be 1 or more; got 0"),
    ],
)
def test_options_that_no_sweep_can_have_are_refused(tmp_path, capsys, options, part):
    with pytest.raises(SystemExit):
        main(["--save", str(tmp_path), *options])
    assert part in capsys.readouterr().err


def test_what_is_named_twice_is_tried_once(tmp_path, runner):
    options = [
        "--optimizer",
        "adamw",
        "--factors",
        "1",
        "1",
        "--decay",
        "0",
        "0.0",
        "--seed",
        "2",
        "2",
    ]
    assert main([*COMMAND, *options, "--save", str(tmp_path)]) == 0
    assert runner.asked == ["adamw-mha-lr0.003-decay0-seed2.json"]
