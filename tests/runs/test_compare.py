from pathlib import Path

import numpy as np
import pytest
from example_runs import make_run

from muon_lab.runs.compare import Reach, best_of, compare
from muon_lab.runs.record import load_all

RECORDED = Path(__file__).parents[2] / "data" / "runs" / "cpu"


def three(losses, **options):
    return [make_run((4.0, loss), seed=seed, **options) for seed, loss in enumerate(losses)]


def test_a_clear_gap_is_a_win_and_every_seed_has_its_own_factor():
    result = compare(three([2.0, 2.0, 2.0]), three([1.0, 1.5, 1.0], seconds=20.0))
    assert result.verdict == "the challenger wins"
    assert result.losses == ((2.0, 2.0, 2.0), (1.0, 1.5, 1.0))
    assert result.bytes.baseline == (100, 100, 100)
    assert result.bytes.challenger == pytest.approx((200 / 3, 80, 200 / 3))
    assert result.steps.factors == pytest.approx((1.5, 1.25, 1.5))
    assert result.seconds.factors == pytest.approx((0.75, 0.625, 0.75))
    assert result.bytes.factor == pytest.approx(4.25 / 3)
    assert result.bytes.spread == pytest.approx(np.std([1.5, 1.25, 1.5], ddof=1))


def test_fewer_bytes_may_be_more_seconds():
    result = compare(three([2.0, 2.01, 1.99]), three([1.0, 1.01, 0.99], seconds=20.0))
    assert result.bytes.verdict == "the challenger needs less"
    assert result.seconds.verdict == "the baseline needs less"


def test_the_gaps_error_is_that_of_two_means():
    result = compare(three([2.0, 2.01, 1.99]), three([1.0, 1.01, 0.99]))
    assert result.gap == pytest.approx(1)
    assert result.error == pytest.approx(0.01 * np.sqrt(2 / 3))


def test_each_seed_is_held_against_the_same_seed_of_the_baseline_in_any_order():
    baseline, challenger = three([3.0, 2.0]), three([1.0, 1.0])
    result = compare(baseline[::-1], challenger)
    assert result.seeds == (0, 1) and result.losses[0] == (3.0, 2.0)
    assert result.bytes.challenger == pytest.approx((100 / 3, 200 / 3))


def test_a_challenger_that_is_behind_has_no_factor():
    result = compare(three([1.0, 1.01, 0.99]), three([2.0, 2.01, 1.99]))
    assert result.verdict == "the baseline wins"
    assert result.bytes.challenger == (None, None, None) and result.bytes.factor is None
    assert result.bytes.verdict.startswith("no claim: not every seed")


def test_a_gap_within_the_seeds_spread_is_no_win():
    result = compare(three([2.0, 2.2, 1.8]), three([1.9, 2.1, 1.7]))
    assert result.verdict.startswith("no claim: the gap")


def test_one_seed_is_no_win():
    result = compare(three([2.0]), three([1.0]))
    assert result.verdict.startswith("no claim: one seed")
    assert result.steps.verdict.startswith("no claim: one seed")


def test_seconds_of_different_devices_are_not_compared():
    result = compare(three([2.0, 2.1]), three([1.0, 1.1], device="gpu"))
    assert result.seconds is None and result.bytes.factor is not None


@pytest.mark.parametrize(
    ("side", "named"),
    [
        (three([1.0]), r"seeds.* \[0, 1\] and \[0\]"),
        (three([1.0, 1.0], config={"width": 64}), "width 1 and 64"),
        (three([1.0, 1.0], config={"schedule": "wsd"}), "schedule name and wsd"),
        ([make_run((4.0, 2.0, 1.0), seed=seed) for seed in (0, 1)], r"bytes 100\.0 and 200\.0"),
        ([make_run((4.0, 1.0), seed, config={"width": 1 + 63 * seed}) for seed in (0, 1)], "width"),
        ([make_run((4.0, 1.0), seed, config={"lr": 1 + seed}) for seed in (0, 1)], "lr 1 and 2"),
        (
            [make_run((4.0, 1.0), seed, ("adamw", "muon")[seed]) for seed in (0, 1)],
            "adamw and muon",
        ),
        (three([1.0, 1.0]) + three([1.0]), r"\[0, 0, 1\]"),
        ([], "one side has none"),
    ],
)
def test_runs_that_differ_in_more_than_the_optimizer_are_not_compared(side, named):
    for sides in ((three([2.0, 2.1]), side), (side, three([2.0, 2.1]))):
        with pytest.raises(ValueError) as refused:
            compare(*sides)
    with pytest.raises(ValueError, match=named):
        compare(three([2.0, 2.1]), side)
    assert "\n" not in str(refused.value)


def test_a_seed_that_occurs_twice_on_both_sides_counts_for_nothing():
    twice = three([2.0]) + three([2.1])
    with pytest.raises(ValueError, match=r"each once; got \[0, 0\]"):
        compare(twice, twice)


@pytest.mark.parametrize("side", ["muon", best_of(three([1.0]), "adamw"), [1.0], None])
def test_what_is_no_sequence_of_runs_is_refused(side):
    with pytest.raises(TypeError, match=r"best_of\(\.\.\.\)\.runs; got"):
        compare(three([2.0]), side)


def swept(losses, optimizer="muon"):
    """One run for each (lr, decay, seed): loss."""
    return [
        make_run((9, loss), seed, optimizer, config={"lr": lr, "weight_decay": decay})
        for (lr, decay, seed), loss in losses.items()
    ]


def test_the_best_is_picked_by_the_first_seed_and_keeps_its_other_seeds():
    losses = {(1, 0, 0): 5, (2, 0, 0): 3, (4, 0, 0): 4, (2, 0.1, 0): 2, (1, 0, 1): 1}
    best = best_of(swept(losses | {(2, 0.1, 2): 9, (2, 0.1, 1): 2}), "muon")
    assert (best.lr, best.decay, best.at_edge) == (2, 0.1, False)
    assert [run.config["seed"] for run in best.runs] == [0, 1, 2]
    assert best.tried == {(1, 0): 5, (2, 0): 3, (4, 0): 4, (2, 0.1): 2}


@pytest.mark.parametrize(("losses", "at_edge"), [((3, 2, 1), True), ((3, 1, 2), False)])
def test_a_best_at_the_grids_edge_says_so(losses, at_edge):
    grid = {(lr, 0, 0): loss for lr, loss in enumerate(losses, start=1)}
    assert best_of(swept(grid), "muon").at_edge is at_edge


def test_the_recorded_sweep_is_fair_and_its_bests_lie_inside_the_grid():
    recorded = load_all(RECORDED)
    bests = [best_of(recorded, name) for name in ("adamw", "muon", "muonclip")]
    assert [len(best.tried) for best in bests] == [10, 10, 10]
    assert not any(best.at_edge for best in bests)
    assert [[run.config["seed"] for run in best.runs] for best in bests] == [[0, 1, 2]] * 3
    result = compare(bests[0].runs, bests[1].runs)
    assert result.verdict == "the challenger wins"
    assert result.seconds.verdict == "the challenger needs less"


def test_an_optimizer_without_runs_is_named_with_those_that_have_some():
    with pytest.raises(ValueError, match="no run of muom; there are runs of muon"):
        best_of(swept({(1, 0, 0): 5}), "muom")


def test_a_further_seed_below_the_sweeps_changes_nothing():
    losses = {(1, 0, 5): 5, (2, 0, 5): 3, (4, 0, 5): 4, (2, 0, 3): 9}
    best = best_of(swept(losses), "muon")
    assert (best.lr, len(best.tried), best.at_edge) == (2, 3, False)
    assert [run.config["seed"] for run in best.runs] == [3, 5]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"config": {"tau": 100}}, "differ in tau 1 and 100: compare them separately"),
        ({"device": "gpu"}, "differ in machine cpu and gpu"),
        ({}, "differ in nothing"),
    ],
)
def test_two_runs_of_one_setting_and_seed_are_told_apart(other, sentence):
    runs = [make_run((9, 1)), make_run((9, 2), **other)]
    with pytest.raises(ValueError, match=f"two runs of adamw lr 0.003 seed 0.*{sentence}"):
        best_of(runs, "adamw")


@pytest.mark.parametrize(("seeds", "gap"), [(2, 4.85), (3, 3.0), (5, 3.0)])
def test_fewer_seeds_must_show_a_larger_gap(seeds, gap):
    losses = [2.0 + 0.01 * (-1) ** seed for seed in range(seeds)]
    error = 0.01 * np.std([(-1) ** seed for seed in range(seeds)], ddof=1) * np.sqrt(2 / seeds)
    for times, claimed in ((0.99, False), (1.01, True)):
        result = compare(three(losses), three([loss - times * gap * error for loss in losses]))
        assert result.error == pytest.approx(error)
        assert (result.verdict == "the challenger wins") is claimed


@pytest.mark.parametrize(("times", "claimed"), [(4.7, False), (5.0, True)])
def test_a_factor_of_three_seeds_is_held_to_three_seeds_luck(times, claimed):
    factors = 1 + 0.02 * (np.array([-1, 0, 1]) + times / np.sqrt(3))
    reach = Reach((1.0, 1.0, 1.0), tuple(1 / factors))
    assert (reach.verdict == "the challenger needs less") is claimed
