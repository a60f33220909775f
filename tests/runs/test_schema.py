import copy
from pathlib import Path

import pytest
from example_runs import content

from muon_lab.runs.record import load
from muon_lab.runs.schema import VERSIONS, faults

RECORDED = sorted((Path(__file__).parents[2] / "data" / "runs").rglob("*.json"))
every_file = pytest.mark.parametrize(
    "path", RECORDED, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_file_has_no_fault(version):
    assert list(faults(content(version))) == []


LOSSES = [
    ("config", "lr"),
    ("config", "weight_decay"),
    ("config", "clip_norm"),
    ("provenance", "device"),
    ("provenance", "commit"),
    ("provenance", "corpus", "sha256"),
    ("provenance", "spectra", "quantiles"),
    ("curves", "valid_bytes"),
    ("curves", "grad_norm"),
    ("curves", "momentum_spectrum"),
    ("costs", "optimizer_share"),
    ("costs", "state_bytes", "optimizer"),
    ("samples", "after"),
    ("costs",),
]


@pytest.mark.parametrize("field", LOSSES, ids=".".join)
def test_a_lost_field_is_named(field):
    data = content()
    part = data
    for name in field[:-1]:
        part = part[name]
    del part[field[-1]]
    assert f"{'.'.join(field)} is missing" in list(faults(data))


@pytest.mark.parametrize(
    ("part", "name", "value", "sentence"),
    [
        ("config", "lr", "fast", "config.lr must be int or float; it is 'fast'"),
        ("config", "compile", 1, "config.compile must be bool; it is 1"),
        ("config", "seed", True, "config.seed must be int; it is True"),
        ("provenance", "corpus", [], "provenance.corpus must be dict; it is []"),
        ("curves", "loss", [1.0], "curves.loss must have the shape (3,), (steps); it has (1,)"),
        ("curves", "valid_loss", [1, 2, 3], "curves.valid_loss must have the shape (2,)"),
        ("curves", "max_logit", [[1, 2]] * 3, "curves.max_logit must have the shape (3, 2, 2)"),
        ("curves", "rare_share", [[1], [1, 2]], "curves.rare_share must have the shape (1, 2)"),
        ("config", "lr", float("nan"), "config.lr must be finite; it is nan"),
        ("curves", "loss", [1.0, None, 2.0], "curves.loss must be a list of numbers"),
        ("curves", "loss", [1.0, {}, 2.0], "curves.loss must be a list of numbers"),
        ("curves", "of another", 5, "curves.of another must be a list of numbers"),
        ("curves", "valid_step", [], "curves.valid_step is empty"),
        ("costs", "peak_memory_bytes", None, "costs.peak_memory_bytes must be int; it is None"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_wanted(part, name, value, sentence):
    data = copy.deepcopy(content())
    data[part][name] = value
    assert [told for told in faults(data) if told.startswith(sentence)]


def test_a_part_of_another_kind_ends_the_search():
    assert list(faults(content() | {"curves": []})) == ["curves must be dict; it is []"]


@every_file
def test_a_recorded_run_is_whole_small_and_says_where_it_was_made(path):
    run = load(path)  # which asks `faults`
    about, on_cpu = run.provenance, run.config["device"] == "cpu"
    assert path.stat().st_size < (100_000 if on_cpu else 1_500_000)  # each head at each step
    assert about["commit"] and "changes" not in about["commit"]
    assert about["command"].startswith("python -m muon_lab.training --preset")
