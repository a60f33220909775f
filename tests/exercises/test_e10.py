"""Exercises of notebook 10: their formulas against each other, and natural mistakes by name."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muon_lab import sharing
from muon_lab.exercises import e10
from muon_lab.explorers import scaling


def busiest(costs, owners, ranks):
    return max(sum(c for c, o in zip(costs, owners, strict=True) if o == r) for r in range(ranks))


@given(costs=st.lists(st.integers(1, 50), min_size=1, max_size=7), ranks=st.integers(1, 3))
def test_sharing_is_within_a_third_of_the_best(costs, ranks):
    every = itertools.product(range(ranks), repeat=len(costs))
    best = min(busiest(costs, owners, ranks) for owners in every)
    found = busiest(costs, e10.share_out(costs, ranks), ranks)
    assert best <= found <= (4 / 3 - 1 / (3 * ranks)) * best  # Graham 1969


@given(costs=st.lists(st.integers(1, 50), max_size=20), ranks=st.integers(1, 5))
def test_the_solution_shares_out_as_the_package_does(costs, ranks):
    assert e10.share_out(costs, ranks) == sharing.share_out(costs, ranks)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_bytes_are_those_of_the_calculator(ranks):
    sent = 4 * scaling.numbers_sent(1e6, ranks, scaling.SHARED)
    assert e10.bytes_sent(1e6, ranks) == pytest.approx(sent)
    held = scaling.held_gigabytes(1e6, ranks)
    wanted = [1e9 * held[name] for name in ("muon", "owned", "fsdp")]
    assert e10.bytes_held(1e6, ranks) == pytest.approx(wanted)


@pytest.mark.parametrize("width", [128, 4096])
def test_at_the_balance_the_calculators_times_are_equal_at_any_size(width):
    tokens = 64 * e10.balanced_tokens(4e14, 5e10, 64)
    settings = {"width": width, "depth": 4, "experts": 1, "ranks": 64}
    found = scaling.step_costs(tokens=tokens, teraflops=400, wires=50, **settings)
    assert found["model_seconds"] == pytest.approx(found["wire_seconds"])


def test_what_blocks_save_is_what_the_calculator_says():
    plain, blocks = (scaling.numbers_sent(1, 8, w, 5) for w in (scaling.FSDP, scaling.BLOCKS))
    assert e10.q5.reference == pytest.approx(1 - blocks / plain)


def test_sharing_is_taken_in_another_form():
    def share(costs, ranks):
        loads, owners = dict.fromkeys(range(ranks), 0), {}
        for cost, i in sorted(((c, i) for i, c in enumerate(costs)), key=lambda p: (-p[0], p[1])):
            owners[i] = min(loads, key=loads.get)
            loads[owners[i]] += cost
        return [owners[i] for i in range(len(costs))]

    assert e10.q1.check(share).status == "correct"


@pytest.mark.parametrize(
    ("exercise", "answer", "named"),
    [
        ("q1", lambda costs, ranks: [i % ranks for i in range(len(costs))], "in turn"),
        ("q2", lambda costs, owners, ranks: ranks, "best case"),
        ("q3", lambda n, ranks: 8 * n * (ranks - 1) / ranks, "two thirds"),
        ("q3", lambda n, ranks: 3 * n * (ranks - 1) / ranks, "four bytes"),
        ("q3", lambda n, ranks: 12 * n, "own share"),
        ("q4", lambda n, ranks: (16 * n, 8 * n + 4 * n / ranks, 12 * n / ranks), "AdamW"),
        ("q4", lambda n, ranks: (12 * n, 12 * n / ranks, 12 * n / ranks), "only the momentum"),
        ("q6", lambda flops, wires, ranks: 2 * flops / wires, "own share"),
        ("q5", 0.8, "of all bytes"),
        ("q5", 6.15, "in percent"),
    ],
)
def test_a_natural_mistake_is_named(exercise, answer, named):
    reply = getattr(e10, exercise).check(answer)
    assert reply.status == "not yet" and named in reply.text
