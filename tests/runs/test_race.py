"""The race: where an optimizer stands, and what keeps a comparison from being fair."""

import pytest
from example_runs import make_run

from muon_lab.runs.race import main, standing

MINE = "a/my_optimizer.py:MyMuon"


def sweep(optimizer, loss, seeds=(0, 1, 2), rates=(1, 2, 4), **options):
    """Learning rates at the first seed and the middle one at all, its losses 0.01 apart."""
    made = []
    for lr in rates:
        for seed in seeds if lr == 2 else seeds[:1]:
            config = {"lr": lr, "weight_decay": 0.1} | options.get("config", {})
            end = loss + 0.01 * seed + (lr != 2)
            others = {name: value for name, value in options.items() if name != "config"}
            made.append(make_run((9, end), seed, optimizer, config=config, **others))
    return made


RECORDED = [*sweep("adamw", 3.0), *sweep("muon", 2.0)]


def lines(text):
    return [line.split() for line in text.splitlines()]


def test_an_entry_takes_its_place_and_a_verdict_against_each():
    text = standing(sweep(MINE, 1.99), RECORDED)
    head, _, mine, muon, adamw, place = lines(text)
    assert " ".join(head) == "seeds 0 1 2, 3 optimizers, the best first"
    assert [row[0] for row in (mine, muon, adamw)] == ["my_optimizer.py:MyMuon", "muon", "adamw"]
    assert muon[-3:] == ["+0.010:", "no", "claim"] and adamw[-2:] == ["+1.010:", "wins"]
    assert mine[1:6] == ["3", "2", "0.1", "2.000", "±"] and place[-3:] == ["1", "of", "3"]


def test_a_clear_loss_is_told():
    text = standing(sweep(MINE, 4.0), RECORDED)
    assert "-2.000: loses" in text and "place 3 of 3" in text


def test_only_seeds_in_common_count_and_too_few_are_told():
    text = standing(sweep(MINE, 1.0, seeds=(0, 1)), RECORDED)
    assert text.startswith("seeds 0 1, 3 optimizers") and "only 2 seeds in common" in text


def test_more_tries_than_any_rival_are_told():
    text = standing(sweep(MINE, 1.0, rates=(0.5, 1, 2, 4)), RECORDED)
    assert "it had 4 tries, and no rival more than 3" in text


def test_a_best_rate_at_the_edge_is_told():
    assert "edge of its grid" in standing(sweep(MINE, 1.0, rates=(1, 2)), RECORDED)


def test_the_entrys_own_run_of_a_rival_counts_instead_of_the_recorded():
    text = standing([*sweep(MINE, 1.0), *sweep("muon", 0.5)], RECORDED)
    assert "-0.500: loses" in text and "3 optimizers" in text


def test_a_head_alone_is_an_optimizer_of_its_own():
    text = standing(sweep("muon", 1.0, config={"per_head": True}), RECORDED)
    assert "muon per head: place 1 of 3" in text


def test_runs_of_two_versions_of_a_file_are_refused():
    old, new = (sweep(MINE, 1.0, provenance={"optimizer_sha256": text}) for text in ("a", "b"))
    with pytest.raises(ValueError, match="2 versions of its file: delete the older"):
        standing([*old[:1], *new[1:]], RECORDED)


def test_an_entry_of_another_model_is_told_what_differs_and_what_would_work():
    entry = sweep(MINE, 1.0, config={"width": 7})
    with pytest.raises(
        ValueError, match=r"(?s)differ in width 7 and 1.*training.sweep --optimizer adamw"
    ):
        standing(entry, RECORDED)


def test_an_entry_of_another_model_may_bring_its_own_rivals():
    config = {"width": 7}
    text = standing(
        [*sweep(MINE, 1.0, config=config), *sweep("muon", 2.0, config=config)], RECORDED
    )
    assert "place 1 of 2" in text and "they differ in width 7 and 1" in text


def test_an_entry_of_two_models_is_refused():
    entry = [*sweep(MINE, 1.0), *sweep(MINE, 1.0, config={"steps": 4, "width": 7})]
    with pytest.raises(ValueError, match="own runs differ in"):
        standing(entry, RECORDED)


def test_the_command_reads_folders_and_prints_where_the_entry_stands(tmp_path, capsys):
    for folder, runs in (("mine", sweep(MINE, 1.0)), ("theirs", RECORDED)):
        for i, run in enumerate(runs):
            run.save(tmp_path / folder / f"{i}.json")
    paths = [str(tmp_path / "mine"), "--against", str(tmp_path / "theirs")]
    assert main(paths) == 0
    assert "my_optimizer.py:MyMuon: place 1 of 3" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "no run file in" in told and "no run to race with" in told


def test_the_recorded_runs_race_among_themselves(capsys):
    assert main(["data/runs/cpu"]) == 0
    assert "muonclip: place" in capsys.readouterr().out
