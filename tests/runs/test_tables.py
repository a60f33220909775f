import os

import pytest
from example_runs import make_run

from muon_lab import runs
from muon_lab.runs.tables import timing


def grid(optimizer, losses, seeds=(0, 1), **options):
    """Three learning rates at seed 0, the middle one at all seeds, 0.01 apart."""
    made = []
    for lr, loss in zip((1, 2, 4), losses, strict=True):
        for seed in seeds if lr == 2 else (0,):
            config = {"lr": lr, "weight_decay": 0.1}
            made.append(
                make_run((4, loss + 0.01 * seed), seed, optimizer, config=config, **options)
            )
    return made


ADAMW, MUON = grid("adamw", (3, 2, 3)), grid("muon", (3, 1, 3), costs={"optimizer_share": 0.25})


def row(text, name):
    """The cells of the row that begins with a name; two blanks part cells."""
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return [cell.strip() for cell in line[len(name) :].split("  ") if cell.strip()]


def test_runs_are_listed_one_per_line():
    lines = runs.listing([*ADAMW, *MUON]).splitlines()
    assert len(lines) == 1 + 8
    assert lines[0].split()[:5] == ["optimizer", "attention", "lr", "decay", "seed"]
    cells = ["adamw", "name", "2", "0.1", "0", "3", "2.000", "2.885", "10.0", "2026-01-31", "12:00"]
    assert lines[2].split() == cells


def test_the_report_shows_every_seeds_number_and_the_winner():
    text = runs.report([*ADAMW, *MUON])
    assert row(text, "learning rate") == ["2", "2"]
    assert row(text, "settings tried") == ["3", "3"]
    assert row(text, "bits per byte, seeds 0 1") == ["2.885 2.900", "1.443 1.457"]
    assert row(text, "steps to adamw's loss") == ["10 10", "7 7"]
    assert row(text, "optimizer's share of a step, %") == ["100.0 100.0", "25.0 25.0"]
    assert "muon against adamw: gap +1.0000 nats per byte" in text and ": muon wins" in text
    assert "bytes    1.50 ± 0.00 (per seed 1.50 1.50): muon needs less" in text


def test_the_use_of_the_chip_is_shown_where_any_run_knows_it():
    adamw = grid("adamw", (3, 2, 3), costs={"model_flops_utilisation": None})
    muon = grid("muon", (3, 1, 3), costs={"model_flops_utilisation": None})
    assert "chip" not in runs.report([*adamw, *muon])
    for run in muon:
        if run.config["seed"] == 0:
            run.costs["model_flops_utilisation"] = 0.415
    text = runs.report([*adamw, *muon])
    assert row(text, "use of the chip's peak, %") == ["unknown", "41.5 unknown"]


def started(minute, seconds, device="AMD EPYC, torch threads: 1"):
    date = f"2026-01-31T12:{minute:02}:00+00:00"
    return make_run(provenance={"date": date}, seconds=seconds, device=device)


def test_machines_are_named_and_slow_runs_by_their_start():
    twice = [started(10, 170.0), started(10, 165.0)]
    text = timing([*twice, *(started(minute, 70.0 + minute) for minute in (20, 30, 31, 40))])
    assert text.startswith("runs on AMD EPYC, torch threads: 1: 6, at most 2 at the same time")
    assert "The 2 that started at 12:10 took over 1.4 times the median, 105.5 s" in text


def test_runs_on_another_machine_are_not_called_slow():
    text = timing([started(0, 70.0), started(1, 200.0, device="another, torch threads: 2")])
    assert [line.split(": 1,")[0] for line in text.splitlines()] == [
        "runs on AMD EPYC, torch threads: 1",
        "runs on another, torch threads: 2",
    ]


def test_start_times_are_given_in_utc():
    run = make_run(provenance={"date": "2026-01-31T00:30:00+02:00"})
    assert runs.listing([run]).splitlines()[1].endswith("2026-01-30 22:30")


@pytest.mark.parametrize(("losses", "side"), [((1, 2, 3), "smallest"), ((3, 2, 1), "largest")])
def test_the_report_warns_of_a_best_at_the_grids_edge(losses, side):
    text = runs.report(grid("muon", losses))
    assert f"is the {side} tried; a better one may lie beyond" in text


def test_no_warning_where_the_best_lies_inside():
    assert "beyond" not in runs.report([*ADAMW, *MUON])


def test_the_command_lists_and_compares_each_model_for_itself(tmp_path, capsys):
    for i, run in enumerate([*ADAMW, *MUON, *grid("muon", (3, 1, 3), seeds=(0,))[:1]]):
        run.config["width"] = 1 if i < 8 else 64
        run.save(tmp_path / f"{i}.json")
    assert runs.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("# name, 2 layers of width") == 2
    assert printed.count("muon against adamw") == 1
    assert "runs on cpu: 8," in printed


def test_the_command_names_wrong_files_and_shows_the_others(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{")
    good = ADAMW[0].save(tmp_path / "b.json").read_text()
    (tmp_path / "c.json").write_text(good.replace('"seed": 0', f'"seed": {10**400}'))
    (tmp_path / "d.json").write_text(good.replace("4.1", str(10**400)))
    os.mkfifo(tmp_path / "e.json")
    assert runs.main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[3].split()[:3] == ["adamw", "name", "1"]
    for name, line in zip("acde", printed.err.splitlines(), strict=True):
        assert f"{tmp_path / name}.json" in line


def test_the_command_names_each_path_that_holds_no_run(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert runs.main([str(tmp_path / "empty"), str(tmp_path / "nowhere")]) == 1
    for name, line in zip(("empty", "nowhere"), capsys.readouterr().err.splitlines(), strict=True):
        assert str(tmp_path / name) in line


def test_huge_numbers_do_not_hide_the_listing(tmp_path, capsys):
    for seed, loss in enumerate((1e308, 1.0)):
        make_run((4.0, loss), seed, seconds=1e300).save(tmp_path / f"{seed}.json")
    assert runs.main([str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()[3].split()) == 11


def test_sides_of_other_seeds_are_listed_without_a_comparison(tmp_path, capsys):
    for i, run in enumerate([*ADAMW, *grid("muon", (3, 1, 3), seeds=(0,))]):
        run.save(tmp_path / f"{i}.json")
    assert runs.main([str(tmp_path)]) == 0
    assert "[0, 1] and [0]" in capsys.readouterr().out


def test_your_own_optimizer_is_compared_after_the_courses(tmp_path, capsys):
    mine = [make_run((9, loss), i, optimizer="a/my.py:Mine") for i, loss in enumerate((2, 3))]
    for i, run in enumerate([*mine, *(run for run in ADAMW if run.config["lr"] == 2)]):
        run.save(tmp_path / f"{i}.json")
    assert runs.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "my.py:Mine against adamw: gap" in printed and "a/my.py" not in printed


def test_no_runs_make_no_report():
    with pytest.raises(ValueError, match="no runs to compare"):
        runs.report([])
