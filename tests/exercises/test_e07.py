"""Exercises of notebook 07: percent and share, and which of two counts is wrong."""

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
