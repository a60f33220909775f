import pytest
from example_runs import make_run

from muon_lab.runs import tables as runs


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


def test_runs_are_listed_one_a_line():
    lines = runs.listing([*ADAMW, *MUON]).splitlines()
    assert len(lines) == 1 + 8
    assert lines[0].split()[:5] == ["optimizer", "attention", "lr", "decay", "seed"]
    assert lines[2].split() == ["adamw", "name", "2", "0.1", "0", "3", "2.000", "2.885", "10.0"]


def test_the_report_shows_every_seeds_number_and_the_winner():
    text = runs.report([*ADAMW, *MUON])
    assert row(text, "learning rate") == ["2", "2"]
    assert row(text, "settings tried") == ["3", "3"]
    assert row(text, "bits a byte, seeds 0 1") == ["2.885 2.900", "1.443 1.457"]
    assert row(text, "steps to adamw's loss") == ["10 10", "7 7"]
    assert row(text, "optimizer's share of a step, %") == ["100.0 100.0", "25.0 25.0"]
    assert "muon against adamw: gap +1.0000 nats a byte" in text and ": muon wins" in text
    assert "bytes    1.50 ± 0.00 (each seed 1.50 1.50): muon needs less" in text


def test_what_was_not_recorded_is_said():
    old = grid("adamw", (3, 2, 3), costs={"optimizer_share": None, "state_bytes": {}})
    text = runs.report(old)
    assert row(text, "optimizer's share of a step, %") == ["not recorded"]
    assert row(text, "optimizer's state, MB") == ["not recorded"]


@pytest.mark.parametrize(("losses", "side"), [((1, 2, 3), "least"), ((3, 2, 1), "largest")])
def test_the_report_doubts_a_best_at_the_grids_edge(losses, side):
    text = runs.report(grid("muon", losses))
    assert f"is the {side} tried: a better one may lie beyond" in text


def test_no_doubt_where_the_best_lies_inside():
    assert "beyond" not in runs.report([*ADAMW, *MUON])


def test_the_command_lists_and_compares_each_model_for_itself(tmp_path, capsys):
    for i, run in enumerate([*ADAMW, *MUON, *grid("muon", (3, 1, 3), seeds=(0,))[:1]]):
        run.config["width"] = 1 if i < 8 else 64
        run.save(tmp_path / f"{i}.json")
    assert runs.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("# name, 2 layers of width") == 2
    assert printed.count("muon against adamw") == 1


def test_the_command_tells_of_wrong_files_and_shows_the_others(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{")
    ADAMW[0].save(tmp_path / "b.json")
    assert runs.main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "a.json is cut short" in printed.err and "adamw" in printed.out


def test_sides_of_other_seeds_are_listed_without_a_comparison(tmp_path, capsys):
    for i, run in enumerate([*ADAMW, *grid("muon", (3, 1, 3), seeds=(0,))]):
        run.save(tmp_path / f"{i}.json")
    assert runs.main([str(tmp_path)]) == 0
    assert "differ in seeds [0, 1] and [0]" in capsys.readouterr().out


def test_runs_of_other_optimizers_are_listed_without_a_comparison(tmp_path, capsys):
    make_run(optimizer="sgd").save(tmp_path / "a.json")
    assert runs.main([str(tmp_path)]) == 0
    assert "no comparison: no run of adamw, muon, muonclip" in capsys.readouterr().out
