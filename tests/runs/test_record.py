import json

import numpy as np
import pytest
from example_runs import content, make_run

from muon_lab.runs import record as records
from muon_lab.runs.record import Run, here, load, load_all


def test_a_saved_run_is_loaded_exactly(tmp_path):
    random = np.random.default_rng(0)
    gamma, logits = random.random((3, 2, 2)), 1e4 * random.random((3, 2, 2))
    run = make_run(np.exp(random.random(5)), gamma=gamma, max_logit=logits)
    again = load(run.save(tmp_path / "new" / "run.json"))
    assert (again.config, again.provenance) == (run.config, run.provenance)
    assert (again.samples, again.costs) == (run.samples, run.costs)
    assert again.curves.keys() == run.curves.keys()
    for name, curve in run.curves.items():
        np.testing.assert_array_equal(again.curves[name], curve)


def test_a_file_of_version_1_is_read_and_has_no_costs(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content(version=1)))
    run = load(path)
    assert run.costs == {} and run.curves["max_logit"].shape == (3, 2, 2)


def test_a_record_keeps_six_digits():
    run = make_run(max_logit=np.full((1, 1, 1), 1234.56789))
    assert run.curves["max_logit"].item() == 1234.57


def test_a_file_is_small_and_has_one_curve_a_line(tmp_path):
    path = make_run(max_logit=np.random.default_rng(0).random((300, 4, 4))).save(
        tmp_path / "r.json"
    )
    lines = path.read_text().splitlines()
    assert path.stat().st_size < 100_000
    assert [line for line in lines if line.startswith('  "valid_step": [0,10]')]


def test_nothing_is_left_beside_a_saved_run(tmp_path):
    make_run().save(tmp_path / "run.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_missing_curves_are_named():
    with pytest.raises(ValueError, match=r"curves valid_loss, valid_bytes are missing"):
        Run({}, {}, {"loss": [1], "valid_step": [1], "valid_seconds": [1]})


def test_a_nan_in_a_curve_is_refused():
    with pytest.raises(ValueError, match="'max_logit' holds NaN"):
        make_run(max_logit=[[[float("nan")]]])


def altered(tmp_path, change):
    path = make_run().save(tmp_path / "run.json")
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data["curves"].pop("valid_loss"), "curves.valid_loss is missing"),
        (lambda data: data.update(version=9), "has version 9 and this muon_lab reads 1 and 2"),
        (lambda data: data.pop("provenance"), "provenance is missing"),
        (lambda data: data.pop("costs"), "costs is missing"),
        (lambda data: data.pop("format"), "no run file of muon_lab"),
    ],
)
def test_a_wrong_file_says_what_is_wrong_and_what_would_work(tmp_path, change, sentence):
    with pytest.raises(ValueError, match=rf"run.json.*{sentence}.*record it again"):
        load(altered(tmp_path, change))


def test_a_file_cut_short_says_so(tmp_path):
    path = make_run().save(tmp_path / "run.json")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"run.json is cut short"):
        load(path)


def test_a_missing_file_names_its_neighbours(tmp_path):
    make_run().save(tmp_path / "near.json")
    with pytest.raises(ValueError, match=r"no run file far.json; beside it: near.json"):
        load(tmp_path / "far.json")


def test_a_folder_is_loaded_in_the_order_of_its_names(tmp_path):
    for seed in (1, 0, 2):
        make_run(seed=seed).save(tmp_path / f"adamw-seed{seed}.json")
    assert [run.config["seed"] for run in load_all(tmp_path, "adamw-*.json")] == [0, 1, 2]
    with pytest.raises(ValueError, match="no run file named muon-"):
        load_all(tmp_path, "muon-*.json")


def test_the_bytes_to_a_loss_are_read_off_the_straight_line():
    run = make_run((4.0, 2.0, 1.0))
    assert run.to_loss(3.0) == pytest.approx(50)
    assert run.to_loss(1.5, "seconds") == pytest.approx(15)
    assert run.to_loss(5.0) == 0
    assert run.to_loss(0.5) is None


def test_bits_per_byte_are_nats_over_log_2():
    assert make_run((4.0, np.log(2))).bits_per_byte == pytest.approx(1, abs=1e-5)


def test_provenance_says_when_and_with_what():
    where = here()
    assert where["date"].endswith("+00:00")
    assert set(where) == {"date", "python", "commit"}


def test_a_copy_without_git_says_the_commit_that_it_was_told(tmp_path, monkeypatch):
    (tmp_path / "muon_lab").mkdir()
    monkeypatch.setattr(records, "__file__", str(tmp_path / "muon_lab" / "records.py"))
    assert here()["commit"] is None
    monkeypatch.setenv("MUON_LAB_COMMIT", "b2bc259")
    assert here()["commit"] == "b2bc259"
    (tmp_path / ".git").mkdir()  # none that git knows
    assert here()["commit"] == "b2bc259"
