"""Exercises of notebook 07: percent and share, and which of two counts is wrong."""

from statistics import mean, stdev

import numpy as np
import pytest

from muon_lab.exercises import e07


@pytest.mark.parametrize("share", [0.31, 0.3125, 5 * 128 / 2048, "0.31"])
def test_a_share_is_taken(share):
    assert e07.q1.check(share).status == "correct"


@pytest.mark.parametrize("percent", [31, 31.25, 31.3])
def test_percent_is_told_to_be_right_but_for_its_unit(percent):
    assert "right in percent" in e07.q1.check(percent).text


@pytest.mark.parametrize(
    ("adamw", "muon", "named"),
    [
        (1, 2, "AdamW keeps two"),
        (2, 1, "Under Muon the rest"),
        (1, 1, "AdamW keeps two"),
        (4, 2, "adamw: wanted"),
        (2, 7, "muon: wanted"),
        (7, 1, "Under Muon the rest"),
    ],
)
def test_the_wrong_count_is_named(adamw, muon, named):
    def answer(hidden, rest):
        return adamw * (hidden + rest), hidden + muon * rest

    assert named in e07.q3.check(answer).text


def test_both_forms_of_rows_for_columns_get_a_sentence_that_fits():
    def rows(momentum, update):
        U, sigma, _ = np.linalg.svd(momentum, full_matrices=False)
        return np.sum((U[sigma < np.median(sigma)].T @ update) ** 2) / np.sum(update**2)

    def untransposed(momentum, update):
        U, sigma, _ = np.linalg.svd(momentum, full_matrices=False)
        return np.sum((U[:, sigma < np.median(sigma)] @ update) ** 2) / np.sum(update**2)

    for answer in (rows, untransposed):
        assert "columns, U[:, …], then rare.T @ update" in e07.q6.check(answer).text


def reading(share="fall / (losses[before] - losses[after])", result="read[before] + share * gap"):
    """Write a learner's reading of the bytes at the target; each argument is one line of it."""
    names = {"np": np}
    source = "def answer(read, losses, target):\n    after = int(np.argmax(losses <= target))\n"
    source += "    before = after - 1\n    gap = read[after] - read[before]\n"
    source += f"    fall = losses[before] - target\n    share = {share}\n    return {result}"
    exec(source, names)
    return names["answer"]


def test_bytes_at_the_target_are_taken_in_another_form():
    assert e07.q2.check(reading()).status == "correct"
    assert e07.q2.check(reading(result="read[after] - (1 - share) * gap")).status == "correct"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ({"share": "fall"}, "not a share"),
        ({"share": "fall / losses[before]"}, "whole fall"),
        ({"result": "share * gap"}, "add read[before]"),
        ({"result": "round(read[before] + share * gap)"}, "wanted 1.25, got 1"),
        ({"result": "int(read[before] + share * gap)"}, "wanted 1.25, got 1"),
    ],
    ids=str,
)
def test_a_share_that_is_none_and_rounded_bytes_are_wrong(lines, named):
    reply = e07.q2.check(reading(**lines))
    assert reply.status == "not yet"
    assert named in reply.text


@pytest.mark.parametrize(("share", "named"), [(0.007, "0.007 is"), (0.0073, "0.7 %")])
def test_the_share_of_another_model_is_told_so(share, named):
    assert "NanoGPT" in e07.q1.check(share).text
    assert named in e07.q1.check(share).text


def test_an_error_inside_the_standard_library_is_told_at_the_learners_line():
    def standard_errors(adamw, muon):
        gap = mean(adamw) - mean(muon)
        return gap / stdev(gap)

    text = e07.q4.check(standard_errors).text
    assert "gap / stdev(gap)" in text
